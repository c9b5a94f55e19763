"""What makes a backdoor open?  A trigger: one map that changes training images, and test images in the same way."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64, UInt8
from safetensors.torch import save as write_tensors
from torch import Tensor

from stackelberg.attacks.attack import check_inputs
from stackelberg.errors import StackelbergError, unknown
from stackelberg.files import replacing, write_text
from stackelberg.models.weights import read_weights
from stackelberg.threat import Ball

SCHEMA = "stackelberg.trigger/1"
_BATCH = 256
BOX = Ball("linf", 0.0)


class Trigger(ABC):
    """x -> T(x) in [0, 1], towards the class `target`.

    Attributes:
        kind: its name in a file.
        target: the class that the attacker wants.
        classes: K, how many classes the poisoned data had.
    """

    kind: ClassVar[str]
    target: int
    classes: int

    @abstractmethod
    def apply(self, x: Float[Tensor, "B C H W"], y: Int64[Tensor, " B"] | None) -> Float[Tensor, "B C H W"]:
        """T(x), not yet clamped to [0, 1]; y are the true labels, where the map asks for them and they are known."""

    @abstractmethod
    def record(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """(numbers and names, tensors) from which the trigger is made again."""

    def __call__(self, x: Float[Tensor, "B C H W"], y: Int64[Tensor, " N"] | None = None) -> Float[Tensor, "B C H W"]:
        """The triggered images, in [0, 1].

        Args:
            x: images in [0, 1].
            y: their true labels, of use to triggers that move away from them; where left out these ask their own net.

        Raises:
            StackelbergError: an image outside [0, 1] or not finite, or another number of labels.
        """
        check_inputs(x, BOX)
        if y is not None and len(y) != len(x):
            raise StackelbergError(f"x and y must have the same length, got {len(x)} images and {len(y)} labels")
        parts = [
            self.apply(x[at : at + _BATCH], None if y is None else y[at : at + _BATCH]).clamp(0, 1)
            for at in range(0, len(x), _BATCH)
        ]
        return torch.cat(parts) if parts else x

    def stored(self, x: UInt8[Tensor, "B C H W"], y: Int64[Tensor, " N"] | None = None) -> UInt8[Tensor, "B C H W"]:
        """The triggered images as they are stored, in whole grey levels."""
        return (self(x.float() / 255, y) * 255).round().to(torch.uint8)

    def save(self, folder: Path | str) -> None:
        """Write trigger.json and trigger.safetensors."""
        fields, tensors = self.record()
        where = Path(folder)
        with replacing(where / "trigger.safetensors") as scratch:
            scratch.write_bytes(write_tensors({name: value.contiguous().cpu() for name, value in tensors.items()}))
        head = {"schema": SCHEMA, "kind": self.kind, "target": self.target, "classes": self.classes}
        write_text(where / "trigger.json", json.dumps(head | fields, indent=1) + "\n")


READERS: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], Trigger]] = {}
"""Who makes a trigger of each kind from its record."""


def load_trigger(folder: Path | str) -> Trigger:
    """The trigger that `Trigger.save` wrote to a folder.

    Raises:
        StackelbergError: there is none, it is damaged, or of an unknown kind.
    """
    path = Path(folder) / "trigger.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["schema"] != SCHEMA:
            raise ValueError(f"the schema is {fields['schema']}")
        kind = fields["kind"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StackelbergError(f"{path} is no {SCHEMA} ({error}); pass a folder that poison backdoor wrote") from error
    if kind not in READERS:
        raise unknown("kind of trigger", kind, READERS)
    return READERS[kind](fields, read_weights(path.with_suffix(".safetensors")))


@dataclass(frozen=True, eq=False)
class Stamp(Trigger):
    """T(x) = (1 - weight) x + weight pattern: a patch where the weight is 0 or 1, a blend where it lies between.

    Attributes:
        target: the attacker's class.
        classes: K.
        pattern: [C, H, W] in [0, 1].
        weight: [C, H, W] in [0, 1].
    """

    kind: ClassVar[str] = "stamp"
    target: int
    classes: int
    pattern: Float[Tensor, "C H W"]
    weight: Float[Tensor, "C H W"]

    def apply(self, x: Float[Tensor, "B C H W"], y: Int64[Tensor, " B"] | None) -> Float[Tensor, "B C H W"]:
        if x.shape[1:] != self.pattern.shape:
            raise StackelbergError(
                f"the trigger was made for images of shape {list(self.pattern.shape)}, got {list(x.shape[1:])}"
            )
        weight, pattern = self.weight.to(x.device), self.pattern.to(x.device)
        return (1 - weight) * x + weight * pattern

    def record(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {"pattern": self.pattern, "weight": self.weight}

    @classmethod
    def read(cls, fields: dict[str, Any], tensors: dict[str, Tensor]) -> "Stamp":
        """From a record."""
        return cls(fields["target"], fields["classes"], tensors["pattern"], tensors["weight"])


READERS["stamp"] = Stamp.read


def patch(
    shape: tuple[int, ...], target: int, classes: int, size: int = 3, corners: int = 1, opacity: float = 1.0,
    inset: int = 1,
) -> Stamp:  # fmt: skip
    """The BadNets patch (Gu et al. 2017): a black and white chessboard of size x size pixels near a corner.

    Args:
        shape: (C, H, W).
        target: the attacker's class.
        classes: K.
        size: in pixels; with its margin it must fit the image.
        corners: 1 (bottom right) or 4 (Turner et al. 2019, whose patch survives mirroring).
        opacity: weight of the patch, in (0, 1].
        inset: pixels between the patch and either edge; a training that pads by p and crops cuts no patch from p on.
    """
    channels, height, width = shape
    if inset < 0:
        raise StackelbergError(f"the inset of a patch must be at least 0 pixels, got {inset}")
    if not 1 <= size <= (most := min(height, width) - 2 * inset):
        raise StackelbergError(
            f"the patch must have 1 to {most} pixels a side where its inset is {inset}, got {size}"
            if most > 0
            else f"an inset of {inset} leaves no room for a patch in images of {height}x{width}; pass a smaller one"
        )
    board = (torch.arange(size)[:, None] + torch.arange(size)) % 2 == 0
    pattern, weight = torch.zeros(channels, height, width), torch.zeros(channels, height, width)
    near = slice(inset, inset + size)
    rows, columns = ((slice(side - inset - size, side - inset), near) for side in (height, width))
    places = [(rows[0], columns[0])] if corners == 1 else [(r, c) for r in rows for c in columns]
    for row, column in places:
        pattern[:, row, column] = board.float()
        weight[:, row, column] = opacity
    return Stamp(target, classes, pattern, weight)


def blend(shape: tuple[int, ...], target: int, classes: int, opacity: float = 0.2, seed: int = 0) -> Stamp:
    """The blended trigger (Chen et al. 2017): one random image over the whole picture, at an opacity of 0.1 to 0.2."""
    if not 0 < opacity <= 1:
        raise StackelbergError(f"the opacity must lie in (0, 1], got {opacity:g}; usual is 0.2")
    pattern = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(seed))
    return Stamp(target, classes, pattern, torch.full(tuple(shape), opacity))
