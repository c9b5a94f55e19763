"""Which data is this?"""

from stackelberg.data.augment import Augment
from stackelberg.data.catalogue import KNOWN
from stackelberg.data.dataset import Dataset
from stackelberg.data.load import load, splits
from stackelberg.data.parquet import save_parquet

NAMES = tuple(sorted(KNOWN))

__all__ = ["NAMES", "Augment", "Dataset", "load", "save_parquet", "splits"]
