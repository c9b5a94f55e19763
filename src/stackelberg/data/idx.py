"""Images and labels in the idx format of the MNIST family, gzipped or not.

A file is the bytes 0, 0, 8 (unsigned bytes), the number of axes, each axis as a big-endian 32-bit integer, the values.
"""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from stackelberg.data.dataset import Dataset
from stackelberg.errors import StackelbergError

_STEMS = {"train": "train", "test": "t10k"}


def idx_files(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The files of a split's images and labels in `folder`, or None where one is missing."""
    found = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        names = [f"{_STEMS[split]}-{kind}{ending}" for ending in ("", ".gz")]
        here = [folder / name for name in names if (folder / name).is_file()]
        if not here:
            return None
        found.append(here[0])
    return found[0], found[1]


def read_idx(files: tuple[Path, Path], classes: Sequence[str] | None = None) -> Dataset:
    """The examples of an images file and a labels file; unnamed classes are 0..max.

    Raises:
        StackelbergError: a file is truncated, of another format, or without examples.
    """
    images, labels = (_read_array(path, axes) for path, axes in zip(files, (3, 1), strict=True))
    if not len(images):
        raise StackelbergError(f"{files[0]} holds no images; fetch it again")
    names = list(classes or (str(label) for label in range(int(labels.max(initial=0)) + 1)))
    return Dataset(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)), names, str(files[0]))


def _read_array(path: Path, axes: int) -> np.ndarray:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise StackelbergError(f"{path} is truncated or no gzip file ({error}); fetch it again") from error
    header = 4 + 4 * axes
    if data[:4] != bytes((0, 0, 8, axes)) or len(data) < header:
        raise StackelbergError(f"{path} is no idx file of unsigned bytes with {axes} axes; fetch it again")
    shape = np.frombuffer(data, ">i4", axes, 4)
    if len(data) - header != int(np.prod(shape, dtype=np.int64)):
        raise StackelbergError(
            f"{path} is truncated: {'x'.join(map(str, shape))} values are announced, {len(data) - header} are there;"
            " fetch it again"
        )
    return np.frombuffer(bytearray(data), np.uint8, offset=header).reshape(shape)
