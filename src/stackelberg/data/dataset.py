"""What is a data set in memory?  Images or texts as bytes, points as floats; labels, and the names of the classes."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from torch import Tensor

from stackelberg.errors import StackelbergError

Index: TypeAlias = Tensor | slice | Sequence[int] | Iterable[int]


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled examples, held as they were stored: an image costs its bytes and becomes a float only in a batch.

    Attributes:
        x: images, grey levels 0..255 [N, C, H, W]; or point clouds, float32 [N, P, 3] in their own units; or texts,
            [N, T] bytes with zeros behind their end.
        y: the class of each example, 0..K-1.
        classes: the K names.
        name: where it comes from, for reports.

    Raises:
        StackelbergError: the numbers of examples and labels differ, a label lies outside the classes, or a coordinate
            is NaN or infinite; the first example at fault is named.
    """

    x: UInt8[Tensor, "N C H W"] | Float32[Tensor, "N P 3"] | UInt8[Tensor, "N T"]
    y: Int64[Tensor, " labels"]  # as many as examples: checked below, with a sentence
    classes: list[str]
    name: str

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise StackelbergError(
                f"{self.name}: every example needs one label, got {len(self.x)} examples and {len(self.y)} labels;"
                " drop what has no partner"
            )
        outside = (self.y < 0) | (self.y >= len(self.classes))
        if outside.any():
            index = int(outside.nonzero()[0])
            raise StackelbergError(
                f"{self.name}: the label of example {index} is {int(self.y[index])}, allowed are 0 to"
                f" {len(self.classes) - 1} ({len(self.classes)} classes); correct the label or name the class"
            )
        if self.x.is_floating_point() and not self.x.isfinite().all():
            index = int((~self.x.isfinite()).flatten(1).any(1).nonzero()[0])
            raise StackelbergError(f"{self.name}: example {index} has a NaN or infinite value; correct or remove it")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example: (C, H, W), or (P, 3), or (T,)."""
        return tuple(self.x.shape[1:])

    @property
    def cloud(self) -> bool:
        """Whether the examples are clouds of points."""
        return self.x.dim() == 3

    @property
    def text(self) -> bool:
        """Whether the examples are texts."""
        return self.x.dim() == 2

    @property
    def kind(self) -> str:
        """What the examples are, in words: images, points or texts."""
        return {2: "texts", 3: "points", 4: "images"}[self.x.dim()]

    @property
    def box(self) -> tuple[float, float]:
        """(low, high) of valid inputs, what a `Ball` of these data needs: [0, 1] for images.

        Clouds come in their own units: [-r, r] with the smallest power of two r that holds every coordinate, which is
        [-1, 1] for clouds in the unit ball. A text moves where the network embeds it, each byte as a vector of length
        1 (see `models.embedded`): [-1, 1]. `Ball(norm, radius, *data.box)`.
        """
        if self.text:
            return -1.0, 1.0
        if not self.cloud:
            return 0.0, 1.0
        largest = float(self.x.abs().max()) if len(self.x) else 1.0
        r = 2.0 ** math.ceil(math.log2(largest)) if largest > 0 else 1.0
        return -r, r

    @property
    def device(self) -> torch.device:
        """Where x and y live."""
        return self.x.device

    def to(self, device: torch.device | str) -> "Dataset":
        """The same examples on another device (images still as bytes)."""
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def batch(self, index: Index) -> tuple[Float32[Tensor, "B ..."] | UInt8[Tensor, "B T"], Int64[Tensor, " B"]]:
        """(x, y) as the networks take them, on the data's device: images as grey level / 255, float32 in [0, 1].

        Clouds and texts as they are.
        """
        places = self._places(index)
        return as_taken(self.x[places]), self.y[places]

    def take(self, which: int | Index) -> "Dataset":
        """The first `which` examples (all, where there are fewer), or those at the given places."""
        if isinstance(which, int):
            if which < 1:
                raise StackelbergError(f"the number of examples to take from {self.name} must be >= 1, got {which}")
            which = slice(0, which)
        places = self._places(which)
        return replace(self, x=self.x[places], y=self.y[places])

    def points(self, count: int) -> "Dataset":
        """The same clouds with their first `count` points each (all, where there are fewer).

        In a set whose points lie in no order, as in ModelNet10 here, these are a random sample of the surface.
        """
        if not self.cloud:
            raise StackelbergError(f"{self.name} holds {self.kind}, which have no points to choose; leave points out")
        if count < 1:
            raise StackelbergError(f"the number of points of a cloud must be >= 1, got {count}; pass 1024 for all")
        return replace(self, x=self.x[:, :count].contiguous())

    def split(self, held_out: int, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """(the rest, `held_out` random examples), each in the original order; the same for the same seed."""
        if not 0 < held_out < len(self):
            raise StackelbergError(f"held_out must lie between 1 and {len(self) - 1} for {self.name}, got {held_out}")
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        return self.take(order[held_out:].sort().values), self.take(order[:held_out].sort().values)

    def content(self) -> str:
        """SHA-256, in hexadecimal digits, of the examples as they are stored, and of their labels."""
        digest = hashlib.sha256()
        for part in (*self.x.split(4096), self.y):
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels, in [0, 1] units: what `Normalized` takes.

        Exact sums over the 256 grey levels; a channel that never varies gets the deviation 1.
        """
        if self.x.dim() != 4:
            raise StackelbergError(f"{self.name} holds {self.kind}, not images: it has no channels to normalise")
        level = torch.arange(256, dtype=torch.float64)
        means, stds = [], []
        for channel in range(self.x.shape[1]):
            count = _histogram(self.x[:, channel])
            share = count / count.sum()
            mean = float((share * level).sum())
            variance = float((share * (level - mean) ** 2).sum())
            means.append(mean / 255)
            stds.append(variance**0.5 / 255 or 1.0)
        return tuple(means), tuple(stds)

    def _places(self, index: Index) -> Tensor | slice:
        if isinstance(index, slice):
            return index
        return torch.as_tensor(index if isinstance(index, Tensor) else list(index)).to(self.device)


def as_taken(x: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "B ..."]:
    """Stored examples as the networks take them: grey levels as floats in [0, 1], all else as it is."""
    return x.to(torch.float32).div_(255) if x.dtype == torch.uint8 and x.dim() == 4 else x


def empty_class(source: str, name: str, label: int) -> StackelbergError:
    """The error for a class without examples."""
    return StackelbergError(
        f"{source}: class {name!r} (label {label}) has no example; add some, or drop the class and renumber the labels"
    )


def _histogram(levels: Shaped[Tensor, "N H W"]) -> Shaped[Tensor, "256"]:
    """How often each grey level occurs, float64; in parts, so that no wide copy of all pixels is made."""
    total = torch.zeros(256, dtype=torch.float64)
    for part in levels.split(4096):
        total += torch.bincount(part.flatten(), minlength=256).cpu()
    return total
