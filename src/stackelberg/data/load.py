"""Which data is this?  A name or a path to examples in memory."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from stackelberg.data.catalogue import KNOWN
from stackelberg.data.dataset import Dataset
from stackelberg.data.parquet import read_parquet
from stackelberg.errors import StackelbergError, unknown


def load(source: str | os.PathLike[str], split: str = "train") -> Dataset:
    """The examples of a named data set or of a local path."""
    name = str(source)
    if name not in KNOWN:
        raise unknown("data set", name, KNOWN)
    if name == "digits":
        return _digits(split)
    folder = os.environ.get("STACKELBERG_DATA")
    if folder and (path := Path(folder) / name / f"{split}.parquet").is_file():
        return replace(read_parquet(path, KNOWN[name].classes), name=name)
    raise StackelbergError(f"{name} is not in STACKELBERG_DATA={folder!r}")


def _digits(split: str) -> Dataset:
    """scikit-learn's 1,797 digits, 8x8; within each class every fifth is held for the test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch["images"]).mul(255 / 16).round().to(torch.uint8)[:, None]
    y = torch.from_numpy(bunch["target"]).long()
    rank = torch.nn.functional.one_hot(y).cumsum(0).gather(1, y[:, None])[:, 0]  # 1, 2, ... within the class
    chosen = (rank % 5 == 0) if split == "test" else (rank % 5 != 0)
    return Dataset(x[chosen], y[chosen], KNOWN["digits"].classes, "digits")
