"""Images and labels in a NumPy .npz file: x and y, or x_train, y_train, x_test, y_test."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from stackelberg.data.dataset import Dataset, empty_class
from stackelberg.errors import StackelbergError

_DAMAGED = (
    tokenize.TokenError,
    OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, RecursionError, SyntaxError, AttributeError,
    NotImplementedError, RuntimeError, MemoryError, UserWarning, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise over the contents of a damaged archive."""
_KEYS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}


def npz_splits(path: Path) -> dict[str, Callable[[], Dataset]]:
    """A reader for each split the file holds; x and y without a suffix are the only split, train.

    Images are [N, H, W], [N, C, H, W] or [N, H, W, C] with 1 or 3 channels, uint8 or floats in [0, 1] (kept as the
    nearest of 256 grey levels: off by at most 1/510); labels are integers [N] or [N, 1].

    Raises:
        StackelbergError: it is no whole .npz file, or the arrays are missing; on reading, what is wrong with a value.
    """
    with _opened(path) as archive:
        names = set(archive.files)
    splits = {split: keys for split, keys in _KEYS.items() if set(keys) <= names}
    if not splits and {"x", "y"} <= names:
        splits = {"train": ("x", "y")}
    if not splits:
        raise StackelbergError(
            f"{path} is no image set: it holds {', '.join(sorted(names)) or 'nothing'}, needed are the arrays x and y,"
            " or x_train, y_train, x_test and y_test"
        )

    def reader(keys: tuple[str, str]) -> Callable[[], Dataset]:
        return lambda: _read(path, keys, [labels for _, labels in splits.values()])

    return {split: reader(keys) for split, keys in splits.items()}


@contextmanager
def _opened(path: Path) -> Iterator["np.lib.npyio.NpzFile"]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            with archive:
                yield archive
    except _DAMAGED as error:
        if isinstance(error, StackelbergError):
            raise
        raise StackelbergError(
            f"{path} is truncated or no .npz file of plain arrays ({error}); write it again"
        ) from error


def _read(path: Path, keys: tuple[str, str], all_labels: list[str]) -> Dataset:
    with _opened(path) as archive:
        x, y = _array(archive, keys[0]), _array(archive, keys[1])
        others = [_labels(_array(archive, name), f"{path}: {name}") for name in all_labels]
    present = np.unique(np.concatenate(others))
    for expected, label in enumerate(present[present >= 0]):
        if label != expected:
            raise empty_class(str(path), str(expected), expected)
    names = [str(label) for label in present[present >= 0]]
    labels = _labels(y, f"{path}: {keys[1]}")
    return Dataset(torch.from_numpy(_images(x, f"{path}: {keys[0]}")), torch.from_numpy(labels), names, str(path))


def _array(archive: "np.lib.npyio.NpzFile", name: str) -> np.ndarray:
    """A member, once its header announces no more than it holds: what is announced is what numpy allocates."""
    assert archive.zip is not None
    member = next(known for known in archive.zip.namelist() if known in (name, f"{name}.npy"))
    with archive.zip.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
        held = archive.zip.getinfo(member).file_size - file.tell()
        if kind.hasobject:
            raise ValueError(f"{name} holds Python objects, which are pickles")
        if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize > held:
            raise ValueError(f"{name} announces {kind} {list(shape)} and holds {held} bytes")
    return archive[name]


def _labels(y: np.ndarray, called: str) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise StackelbergError(f"{called} must be integers [N], got {y.dtype} {list(y.shape)}; pass class numbers")
    return y.astype(np.int64)


def _images(x: np.ndarray, called: str) -> np.ndarray:
    """[N, C, H, W] uint8."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise StackelbergError(
            f"{called} must be images [N, H, W], [N, C, H, W] or [N, H, W, C] with 1 or 3 channels, got {list(x.shape)}"
        )
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    if x.dtype.kind != "f":
        raise StackelbergError(f"{called} must be uint8 in 0..255 or floats in [0, 1], got {x.dtype}; convert it")
    for index, image in _parts(x):
        _in_range(image, index, called)
    return np.concatenate([np.rint(part * 255).astype(np.uint8) for _, part in _parts(x)])


def _parts(x: np.ndarray, size: int = 4096) -> Iterator[tuple[int, np.ndarray]]:
    """Successive parts of x with the index at which each begins: no wide copy of the whole."""
    return ((start, x[start : start + size]) for start in range(0, len(x), size))


def _in_range(part: np.ndarray, start: int, called: str) -> None:
    wrong = ~((part >= 0) & (part <= 1))  # NaN fails both comparisons
    if wrong.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
        raise StackelbergError(
            f"{called}: image {start + place[0]} holds the value {part[place]:g}, allowed are floats in [0, 1] or uint8"
            " 0..255; rescale or correct it"
        )
