"""Which data is this?"""

from stackelberg.data.augment import Augment
from stackelberg.data.augment_points import AugmentPoints
from stackelberg.data.catalogue import KNOWN
from stackelberg.data.corruption import CORRUPTIONS, Corruption
from stackelberg.data.dataset import Dataset
from stackelberg.data.domain import resized, reweighted_classes, rotated
from stackelberg.data.parquet import save_parquet
from stackelberg.data.sources import load, splits
from stackelberg.data.stream import Stream
from stackelberg.data.texts import decode, encode

NAMES = tuple(sorted(KNOWN))

__all__ = [
    "CORRUPTIONS",
    "NAMES",
    "Augment",
    "AugmentPoints",
    "Corruption",
    "Dataset",
    "Stream",
    "decode",
    "encode",
    "load",
    "resized",
    "reweighted_classes",
    "rotated",
    "save_parquet",
    "splits",
]
