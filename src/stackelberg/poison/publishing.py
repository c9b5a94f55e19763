"""How does a protected data set go to disk?  In parts, as Parquet or image folders that any trainer reads."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stackelberg.data import Dataset
from stackelberg.data.decode import encode_png
from stackelberg.data.parquet import writing_parquet
from stackelberg.errors import StackelbergError, unknown
from stackelberg.files import replacing, write_text
from stackelberg.poison.availability import Moves, moving
from stackelberg.poison.generator import Generator
from stackelberg.poison.poisoner import Poisoner

FORMATS = ("parquet", "folder")
RECORD, GENERATOR = "poison.json", "generator.safetensors"
SCHEMA = "stackelberg.poison/1"


def publish(
    rule: Poisoner, parts: Iterable[Dataset], out: str | os.PathLike[str], *, form: str = "parquet",
    about: dict[str, Any] | None = None, progress: Callable[[int], None] | None = None,
) -> Moves:  # fmt: skip
    """Move every image of a data set that comes in parts, and write it to `out`: at most one part is in memory.

    Writes train.parquet in row groups ("parquet"), or train/<class>/<number>.png ("folder"); poison.json, which says
    how far the images moved; and generator.safetensors where the rule is one. `data.load(out)` reads it.

    Args:
        rule: what moves the images.
        parts: the training set, for example a `data.stream.Stream`, or [dataset].
        out: a folder that holds no data set yet.
        form: "parquet" or "folder".
        about: what else poison.json shall say.
        progress: is told how many images are written.

    Raises:
        StackelbergError: an unknown form; the folder holds a data set; an image is outside its ball; no image came.
    """
    if form not in FORMATS:
        raise unknown("form of a data set", form, FORMATS)
    folder = Path(out)
    refuse_published(folder)
    total: Moves | None = None
    with writing_parquet(folder / "train.parquet") if form == "parquet" else nullcontext(_Folder(folder)) as put:
        for part in parts:
            poisoned, moves = moving(rule, part)
            if rule.bounded and moves.outside:
                raise StackelbergError(
                    f"{moves.outside} images left the ball of radius {rule.ball.radius:g}; nothing was written"
                )
            put(poisoned)
            total = moves if total is None else total + moves
            if progress is not None:
                progress(total.n)
        if total is None:
            raise StackelbergError("the data set holds no image; nothing was written")
    if isinstance(rule, Generator):
        rule.save(folder / GENERATOR)
    write_record(folder, {**(about or {}), "form": form, "bounded": rule.bounded, "moves": total.describe()})
    return total


def refuse_published(folder: Path) -> None:
    """Raises StackelbergError where a folder holds a data set already."""
    if any((folder / name).exists() for name in ("train.parquet", "train", RECORD)):
        raise StackelbergError(f"{folder} already holds a data set; pass another --out, or remove it")


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """poison.json: what was done to the data set beside it."""
    write_text(folder / RECORD, json.dumps({"schema": SCHEMA, **record}, indent=1, default=str) + "\n")


class _Folder:
    """Puts data sets into train/<class>/, numbered in their order; a name that is no folder's is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder / "train", 0

    def __call__(self, dataset: Dataset) -> None:
        for name in dataset.classes:
            if not name or name.startswith(".") or "/" in name or os.sep in name:
                raise StackelbergError(f"the class {name!r} can be no folder's name; pass the form parquet")
        here = dataset.to("cpu")
        for pixels, label in zip(here.x, here.y.tolist(), strict=True):
            with replacing(self.folder / here.classes[label] / f"{self.count:08d}.png") as scratch:
                scratch.write_bytes(encode_png(pixels))
            self.count += 1
