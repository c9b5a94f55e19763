"""Which memorizers are there, and how is one written to a folder and read again?"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as write_tensors
from torch import Tensor

from stackelberg.errors import StackelbergError, unknown
from stackelberg.files import from_json, replacing, write_text
from stackelberg.memorize.generalizable import GeneralizableMemorizer, generalizable
from stackelberg.memorize.lipschitz import LipschitzMemorizer, lipschitz
from stackelberg.memorize.memorizer import Memorizer, checked
from stackelberg.memorize.optimal import OptimalMemorizer, optimal
from stackelberg.memorize.separation import Separation
from stackelberg.models.weights import read_weights

SCHEMA = "stackelberg.memorizer/1"
RECORD, POINTS = "memorizer.json", "points.safetensors"


@dataclass(frozen=True)
class Kind:
    """A kind of memorizer.

    Attributes:
        norm: where none is asked for.
        make: (points [N, ...], labels, norm, radius or None) -> memorizer.
        type: of the memorizer, as it is built again from its fields.
    """

    norm: str
    make: Callable[[Tensor, Tensor, str, float | None], Memorizer]
    type: Callable[[NDArray, NDArray[np.int64], tuple[int, ...], str, float, Separation], Memorizer]


def _lipschitz(x: Tensor, y: Tensor, norm: str, radius: float | None) -> LipschitzMemorizer:
    made = lipschitz(x, y, norm)
    if radius is not None and not 0 <= radius < made.radius:
        raise StackelbergError(
            f"radius must lie in [0, lambda / 2) = [0, {made.radius:.6g}) with the separation bound lambda ="
            f" {made.separation.value:.6g}, got {radius:g}; leave it out, as this memorizer is right for all of them at"
            " once"
        )
    return made


KINDS: dict[str, Kind] = {
    "optimal": Kind("linf", optimal, OptimalMemorizer),
    "generalizable": Kind("l2", generalizable, GeneralizableMemorizer),
    "lipschitz": Kind("linf", _lipschitz, LipschitzMemorizer),
}
"""By the name that `stackelberg memorize --kind` takes."""


def made(kind: str, x: Tensor, y: Tensor, norm: str | None = None, radius: float | None = None) -> Memorizer:
    """A memorizer by the name of its kind, in the kind's own norm if none is asked for.

    Raises:
        StackelbergError: an unknown kind, or what the kind refuses.
    """
    if kind not in KINDS:
        raise unknown("kind of memorizer", kind, KINDS)
    return KINDS[kind].make(x, y, norm or KINDS[kind].norm, radius)


def save(memorizer: Memorizer, folder: str | os.PathLike[str]) -> None:
    """Write points.safetensors (points and labels) and memorizer.json, each whole or not at all."""
    tensors = {"points": torch.from_numpy(memorizer.points), "labels": torch.from_numpy(memorizer.labels)}
    with replacing(Path(folder) / POINTS) as scratch:
        scratch.write_bytes(write_tensors(tensors))
    apart = memorizer.separation
    fields = {
        "schema": SCHEMA, "kind": memorizer.kind, "norm": memorizer.norm, "radius": memorizer.radius,
        "shape": list(memorizer.shape), "separation": {"value": apart.value, "pair": list(apart.pair)},
    }  # fmt: skip
    write_text(Path(folder) / RECORD, json.dumps(fields, indent=1) + "\n")


def load(folder: str | os.PathLike[str]) -> Memorizer:
    """The memorizer that `save` wrote.

    Raises:
        StackelbergError: a file is missing, damaged, or of an unknown kind.
    """
    path = Path(folder) / RECORD
    try:
        fields = from_json(path.read_text(encoding="utf-8"))
        if fields["schema"] != SCHEMA:
            raise ValueError(f"schema {fields['schema']!r}")
        kind, norm, radius = fields["kind"], fields["norm"], float(fields["radius"])
        shape = tuple(int(size) for size in fields["shape"])
        value, (i, j) = float(fields["separation"]["value"]), fields["separation"]["pair"]
        apart = Separation(value, (int(i), int(j)), norm, None, None, None)
        if (
            norm not in ("linf", "l2", "l1")
            or min(shape, default=0) < 1
            or not (0 <= 2 * radius <= value < math.inf and value > 0)
        ):
            raise ValueError(f"norm {norm!r}, shape {list(shape)}, radius {radius}, separation {value}")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise StackelbergError(f"{path} is missing or no {SCHEMA} record ({error}); memorize again") from error
    if not isinstance(kind, str) or kind not in KINDS:
        raise unknown("kind of memorizer", str(kind), KINDS)
    points, labels = _stored(Path(folder) / POINTS, math.prod(shape))
    return KINDS[kind].type(points, labels, shape, norm, radius, apart)


def _stored(path: Path, size: int) -> tuple[NDArray, NDArray[np.int64]]:
    """(points [N, size], labels [N]) as `save` wrote them."""
    tensors = read_weights(path)
    if missing := {"points", "labels"} - set(tensors):
        raise StackelbergError(f"{path} has no tensor {min(missing)!r}; memorize again")
    points, labels = tensors["points"], tensors["labels"]
    if points.dtype not in (torch.uint8, torch.float64) or points.dim() != 2 or points.shape[1] != size:
        raise StackelbergError(
            f"{path}: points are {points.dtype} {list(points.shape)}, the record needs uint8 or float64 [N, {size}];"
            " memorize again"
        )
    return checked(points, labels)
