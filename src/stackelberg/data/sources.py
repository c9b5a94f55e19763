"""Which data is this?  A name or a path, to examples in memory.

A name is looked for in the folder STACKELBERG_DATA, then where the operating system's packages keep it, then in the
Hugging Face cache and hub. A path is a Parquet or .npz file, or a folder of Parquet files, idx files or images.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from stackelberg.data.arrays import npz_splits
from stackelberg.data.catalogue import KNOWN
from stackelberg.data.dataset import Dataset, empty_class
from stackelberg.data.folder import class_folders, read_folder
from stackelberg.data.hub import HUB, Unreachable, read_hub
from stackelberg.data.idx import idx_files, read_idx
from stackelberg.data.parquet import read_classes, read_parquet
from stackelberg.data.words import read_words
from stackelberg.errors import StackelbergError, unknown

SPLITS = ("train", "test")
SYSTEM = Path("/usr/share/datasets")
_Readers = dict[str, Callable[[], Dataset]]


def load(source: str | os.PathLike[str], split: str | None = None) -> Dataset:
    """The examples of a named data set or of a local file or folder.

    >>> test = load("digits", "test")
    >>> test.x.dtype, test.shape, len(test.classes)
    (torch.uint8, (1, 8, 8), 10)

    Args:
        source: a name of `NAMES` ("mnist"); or a path: a .parquet or .npz file, or a folder with train.parquet and
            test.parquet (or train-*.parquet, as the hub writes them), with idx files, or with images in class
            subfolders (below train/ and test/, or at once); or hub:owner/name, a data set of the Hugging Face hub.
            A name wins over a path: write ./mnist for the folder.
        split: "train" or "test"; None is train, or the only split there is. A source without splits of its own is
            all train: hold a part out with `Dataset.split`.

    Raises:
        StackelbergError: the source is not known or not to be found, the split is missing, the file is damaged or no
            image set, a label lies outside the classes, sizes differ, or a class of the training set is empty.
    """
    if split is not None and split not in SPLITS:
        raise unknown("split", split, SPLITS)
    name = os.fspath(source)
    if name in KNOWN:
        wanted = split or "train"
        dataset = _named(name, wanted)
    elif name.startswith(HUB):
        wanted = split or "train"
        dataset = _on_the_hub(name.removeprefix(HUB), wanted)
    else:
        readers = _readers(Path(name), name, None)
        wanted = split or ("train" if "train" in readers else next(iter(readers)))
        if wanted not in readers:
            raise StackelbergError(
                f"{name} has no {wanted} split, only {' and '.join(readers)}; hold a part out with .split(n), or add"
                f" {wanted}.parquet or the folder {wanted}/"
            )
        dataset = readers[wanted]()
    if wanted == "train":
        _every_class(dataset, name)
    return replace(dataset, name=name)


def splits(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """The splits a source has, of ("train", "test"); a data set of the hub is taken to have both."""
    name = os.fspath(source)
    return (
        SPLITS
        if name in KNOWN or name.startswith(HUB)
        else tuple(split for split in SPLITS if split in _readers(Path(name), name, None))
    )


def _every_class(dataset: Dataset, name: str) -> None:
    count = torch.bincount(dataset.y, minlength=len(dataset.classes))
    if not count.all():
        label = int((count == 0).nonzero()[0])
        raise empty_class(name, dataset.classes[label], label)


def _named(name: str, split: str) -> Dataset:
    if name == "digits":
        return _digits(split)
    if name == "words":
        return read_words(split)
    known = KNOWN[name]
    tried = []
    root = os.environ.get("STACKELBERG_DATA")
    if root and (Path(root) / name).is_dir():
        readers = _readers(Path(root) / name, name, known.classes)
        if split in readers:
            return readers[split]()
        tried.append(f"{Path(root) / name} has no {split} split")
    else:
        tried.append(f"there is no folder {Path(root) / name}" if root else "STACKELBERG_DATA is not set")
    if known.system:
        if files := idx_files(SYSTEM / known.system, split):
            return read_idx(files, known.classes)
        tried.append(f"{SYSTEM / known.system} has no idx files")
    if known.hub:
        try:
            return read_hub(known.hub, split, known.classes)
        except Unreachable as error:
            tried.append(str(error))
    raise StackelbergError(
        f"data set {name} not found: {'; '.join(tried)}. Set STACKELBERG_DATA to a folder with"
        f" {name}/train.parquet and {name}/test.parquet" + (", or connect to the network once" if known.hub else "")
    )


def _on_the_hub(name: str, split: str) -> Dataset:
    try:
        return read_hub(name, split, None)
    except Unreachable as error:
        raise StackelbergError(f"{error}; check the name and the network, or pass the path of a local copy") from error


def _digits(split: str) -> Dataset:
    """scikit-learn's 1,797 digits, 8x8, levels 0..16 spread to 0..255; of each class every fifth is for the test."""
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    y = torch.from_numpy(target).long()
    rank = F.one_hot(y).cumsum(0).gather(1, y[:, None])[:, 0]  # 1, 2, ... within the class
    chosen = (rank % 5 == 0) == (split == "test")
    return Dataset(x[chosen], y[chosen], list(KNOWN["digits"].classes), "digits")


def _readers(path: Path, name: str, classes: Sequence[str] | None) -> _Readers:
    """A reader for each split of a local source."""
    if path.is_dir():
        return _folder_readers(path, name, classes)
    if path.is_file():
        return _file_readers(path, classes)
    if os.sep in name or "." in name:
        raise StackelbergError(
            f"no data set: there is no file or folder {name}; known names are {', '.join(sorted(KNOWN))}"
        )
    raise unknown("data set", name, KNOWN)


def _file_readers(path: Path, classes: Sequence[str] | None) -> _Readers:
    if path.suffix == ".npz":
        return dict(npz_splits(path))
    if path.suffix == ".parquet":
        split = "test" if path.stem.startswith("test") else "train"
        return {split: partial(read_parquet, [path], classes)}
    raise StackelbergError(
        f"{path} is no image set: a file must be .parquet or .npz, got {path.suffix or 'no ending'!r}; convert it, or"
        " pass a folder of images"
    )


def _folder_readers(folder: Path, name: str, classes: Sequence[str] | None) -> _Readers:
    if tables := _parquet_files(folder):
        names = classes or read_classes([path for paths in tables.values() for path in paths])
        return {split: partial(read_parquet, paths, names) for split, paths in tables.items()}
    raw = {split: files for split in SPLITS if (files := idx_files(folder, split))}
    if raw:
        return {split: partial(read_idx, files, classes) for split, files in raw.items()}
    parts = {split: folder / split for split in SPLITS if (folder / split).is_dir()} or {"train": folder}
    found = sorted({entry for part in parts.values() for entry in class_folders(part)})
    if not found:
        raise StackelbergError(
            f"{name} is no image set: the folder holds no train.parquet, no idx files and no class folders with images"
        )
    return {split: partial(read_folder, part, classes or found) for split, part in parts.items()}


def parquet_parts(source: str | os.PathLike[str], split: str) -> tuple[list[Path], list[str]] | None:
    """(the Parquet files of a split, in order, and the names of the classes), or None where it lies otherwise."""
    name = os.fspath(source)
    known = KNOWN.get(name)
    root = os.environ.get("STACKELBERG_DATA")
    path = Path(root) / name if known is not None and root else Path(name)
    if path.is_dir():
        files = _parquet_files(path).get(split)
    else:
        here = path.is_file() and path.suffix == ".parquet" and path.stem.startswith("test") == (split == "test")
        files = [path] if here else None
    if files is None:
        return None
    return files, list(known.classes) if known is not None else read_classes(files)


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    """The Parquet files of each split, in `folder` or in its subfolder data/, whole or in numbered parts."""
    found = {}
    for split in SPLITS:
        for place in (folder, folder / "data"):
            if files := sorted([*place.glob(f"{split}.parquet"), *place.glob(f"{split}-*.parquet")]):
                found[split] = files
                break
    return found
