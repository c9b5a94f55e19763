"""Images in folders: one subfolder per class, in train/ and test/ or at the top."""

from collections.abc import Sequence
from pathlib import Path

import torch

from stackelberg.data.dataset import Dataset, empty_class
from stackelberg.data.decode import decode
from stackelberg.errors import StackelbergError

_ENDINGS = (".png", ".jpg", ".jpeg")


def class_folders(folder: Path) -> list[str]:
    """The names of the subfolders, sorted; hidden ones are left out."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def read_folder(folder: Path, classes: Sequence[str]) -> Dataset:
    """The PNG and JPEG images of `folder`/<class>/, the classes in turn: the first of each, then the second of each.

    So a part from the front has all classes. Hidden files are left out.

    Raises:
        StackelbergError: a class has no image, a file is no image, or the images differ in size.
    """
    members = [_images(folder / name) for name in classes]
    for label, (name, files) in enumerate(zip(classes, members, strict=True)):
        if not files:
            raise empty_class(str(folder), name, label)
    turns = sorted((turn, label) for label, files in enumerate(members) for turn in range(len(files)))
    x = decode([members[label][turn] for turn, label in turns], str(folder))
    return Dataset(x, torch.tensor([label for _, label in turns]), list(classes), str(folder))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in files:
        if path.suffix.lower() not in _ENDINGS:
            raise StackelbergError(
                f"{path} is no PNG or JPEG image; a class folder holds images only, move it elsewhere"
            )
    return files
