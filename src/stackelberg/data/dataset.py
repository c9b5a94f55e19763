"""What is a data set in memory?  Images as bytes (or points as floats), labels, and the names of the classes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from stackelberg.errors import StackelbergError

Images: TypeAlias = UInt8[Tensor, "N C H W"]
Points: TypeAlias = Float[Tensor, "N P 3"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled examples, held as they were stored: an image costs its bytes and becomes a float only in a batch.

    Attributes:
        x: images, grey levels 0..255 [N, C, H, W]; or point clouds, float32 [N, P, 3] in their own units.
        y: the class of each example, 0..K-1.
        classes: the K names.
        name: where it comes from, for reports.
    """

    x: Images | Points
    y: Int64[Tensor, " N"]
    classes: list[str]
    name: str

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise StackelbergError(
                f"{self.name}: as many labels as examples are needed, got {len(self.x)} examples and {len(self.y)} labels;"
                " drop what has no partner"
            )
        if len(self.y) and (int(self.y.min()) < 0 or int(self.y.max()) >= len(self.classes)):
            outside = (self.y < 0) | (self.y >= len(self.classes))
            index = int(outside.nonzero()[0])
            raise StackelbergError(
                f"{self.name}: the label of example {index} is {int(self.y[index])}, allowed are 0 to"
                f" {len(self.classes) - 1} ({len(self.classes)} classes); correct the label or name the class"
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example: (C, H, W), or (P, 3)."""
        return tuple(self.x.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where x and y live."""
        return self.x.device

    def to(self, device: torch.device | str) -> "Dataset":
        """The same examples on another device (still as bytes)."""
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def batch(self, index: Tensor | slice | Iterable[int]) -> tuple[Float[Tensor, "B *shape"], Int64[Tensor, " B"]]:
        """Examples as the networks take them: x float32 in [0, 1] (grey level / 255), y; on the data's device."""
        index = self._index(index)
        x = self.x[index]
        return (x.to(torch.float32).div_(255) if x.dtype == torch.uint8 else x), self.y[index]

    def take(self, which: int | Tensor | slice | Iterable[int]) -> "Dataset":
        """The first `which` examples, or those at the given places."""
        index = slice(0, which) if isinstance(which, int) else self._index(which)
        return replace(self, x=self.x[index], y=self.y[index])

    def split(self, held_out: int, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """(the rest, `held_out` random examples), both in the original order; the same for the same seed."""
        if not 0 < held_out < len(self):
            raise StackelbergError(f"held_out must lie between 1 and {len(self) - 1} for {self.name}, got {held_out}")
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        return self.take(order[held_out:].sort().values), self.take(order[:held_out].sort().values)

    def _index(self, index: Tensor | slice | Iterable[int]) -> Tensor | slice:
        if isinstance(index, slice):
            return index
        return torch.as_tensor(index if isinstance(index, Tensor) else list(index)).to(self.device)
