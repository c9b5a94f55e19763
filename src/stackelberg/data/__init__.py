"""Which data is this?"""

from stackelberg.data.augment import Augment
from stackelberg.data.augment_points import AugmentPoints
from stackelberg.data.catalogue import KNOWN
from stackelberg.data.dataset import Dataset
from stackelberg.data.parquet import save_parquet
from stackelberg.data.sources import load, splits
from stackelberg.data.stream import Stream

NAMES = tuple(sorted(KNOWN))

__all__ = ["NAMES", "Augment", "AugmentPoints", "Dataset", "Stream", "load", "save_parquet", "splits"]
