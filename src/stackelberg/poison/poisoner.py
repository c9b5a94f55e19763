"""What is a poisoner?  A rule that moves a training image in its ball, given its label, and answers in whole bytes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison.grid import Grid
from stackelberg.threat import Ball, chance

BATCH = 256

Images = Float[Tensor, "B C H W"]
Labels = Int64[Tensor, " B"]


@dataclass(frozen=True)
class Setting:
    """On what, and with which chance, a method makes its poisoner.

    Attributes:
        train: the examples it learns from.
        ball: in which every image may move.
        seed: of all random numbers.
        device: where it computes.
        say: tells the user how far it is.
    """

    train: Dataset
    ball: Ball
    seed: int
    device: torch.device
    say: Callable[[str], None]

    @property
    def grid(self) -> Grid:
        return Grid(self.ball)

    @property
    def colour(self) -> bool:
        """Whether trainers will crop and mirror these images, as is usual for pictures in colour."""
        return self.train.x.shape[1] == 3


@dataclass(frozen=True, eq=False)
class Poisoner(ABC):
    """Moves each image by a rule of its own: no example needs another, so a data set of any size passes in batches.

    Attributes:
        ball: in which every image may move; the answer is in it, after rounding to 8 bits.
        classes: K, how many labels there are.
        seed: of the rule's noise, which belongs to the example.
        bounded: whether the ball holds the answer (the convolution-based poison as published has no ball).
    """

    ball: Ball
    classes: int
    seed: int
    bounded: bool = field(default=True, kw_only=True)

    @abstractmethod
    def moved(self, x: Images, y: Labels, keys: Int64[Tensor, " B"]) -> Images:
        """The moved images, before they are rounded for the last time."""

    def __call__(self, x: UInt8[Tensor, "B C H W"], y: Labels) -> UInt8[Tensor, "B C H W"]:
        """The poisoned images as bytes.

        Raises:
            StackelbergError: the images are no bytes, or a label lies outside the classes.
        """
        check_labels(y, len(x), self.classes)
        if x.dtype != torch.uint8 or x.dim() != 4:
            raise StackelbergError(
                f"a poisoner takes images as bytes [B, C, H, W], got {x.dtype} {list(x.shape)}; for values in [0, 1]"
                " multiply by 255 and round"
            )
        values = x.float().div_(255)
        moved = self.moved(values, y, chance.example_keys(values, self.seed))
        if not self.bounded:
            return (moved * 255).round().clamp(0, 255).to(torch.uint8)
        return Grid(self.ball).bytes(moved, values)

    def poisoned(self, data: Dataset) -> Dataset:
        """The data set with every image moved and every label kept; a batch at a time, as bytes."""
        out = torch.empty_like(data.x)
        for part in torch.arange(len(data), device=data.device).split(BATCH):
            out[part] = self(data.x[part], data.y[part])
        return Dataset(out, data.y, data.classes, data.name)


def check_labels(y: Tensor, count: int, classes: int) -> None:
    """Refuse labels that do not fit the images or the classes."""
    if len(y) != count:
        raise StackelbergError(f"every image needs one label, got {count} images and {len(y)} labels; drop the rest")
    outside = ((y < 0) | (y >= classes)).nonzero()
    if len(outside):
        index = int(outside[0])
        raise StackelbergError(f"the label of example {index} is {int(y[index])}, allowed are 0 to {classes - 1}")
