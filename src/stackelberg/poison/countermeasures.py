"""What do trainers do against a poisoned set?  Augmentations, compressions, and adversarial training, by name."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from stackelberg.errors import StackelbergError, unknown
from stackelberg.games import Adversarial, Game, Play, Standard
from stackelberg.games.game import Inputs, Labels, Payoffs
from stackelberg.threat import Ball, chance, parse_radius
from stackelberg.threat.payoff import cross_entropy

Bytes = UInt8[Tensor, "N C H W"]


@dataclass(frozen=True)
class Cutout(Game):
    """A square of each image is set to 0, its centre uniform over the pixels (DeVries and Taylor 2017).

    Attributes:
        side: of the square, as a share of the image's; a half in the paper for CIFAR-10.
    """

    side: float = 0.5

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        height, breadth = x.shape[2:]
        keys, half = play.keys_for(x), self.side * min(height, breadth) / 2
        rows = chance.integers(keys, height, (1, 1, 1), stream=2)
        columns = chance.integers(keys, breadth, (1, 1, 1), stream=3)
        down = torch.arange(height, device=x.device).view(1, 1, -1, 1)
        across = torch.arange(breadth, device=x.device).view(1, 1, 1, -1)
        return x.masked_fill(((down - rows).abs() < half) & ((across - columns).abs() < half), 0)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return cross_entropy(model(moved), y)


@dataclass(frozen=True)
class Mixup(Game):
    """Each image is mixed with the one before it in the batch, and so is the loss (Zhang et al. 2018).

    share x_i + (1 - share) x_{i-1}, share uniform in (0, 1).
    """

    def share(self, play: Play, x: Inputs) -> Float[Tensor, " B"]:
        return chance.uniform(play.keys_for(x), (), stream=4).to(x.device)

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        share = self.share(play, x).view(-1, *[1] * (x.dim() - 1))
        return share * x + (1 - share) * x.roll(1, 0)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return cross_entropy(model(moved), y)

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        share, logits = self.share(play, x), model(moved)
        return share * cross_entropy(logits, y) + (1 - share) * cross_entropy(logits, y.roll(1, 0))


@dataclass(frozen=True)
class Countermeasure:
    """How one trainer trains.

    Attributes:
        name: as asked for.
        game: that is solved.
        prepare: what is done to every image, of the training set and of the test set, or None.
        recipe: fields of `games.Recipe`.
    """

    name: str
    game: Game = field(default_factory=Standard)
    prepare: Callable[[Bytes], Bytes] | None = None
    recipe: dict[str, Any] = field(default_factory=dict)


def grey(x: Bytes) -> Bytes:
    """The luma of ITU-R 601, (299 R + 587 G + 114 B) / 1000, in all three channels; grey images stay as they are."""
    if x.shape[1] != 3:
        return x
    out = torch.empty_like(x)
    weights = torch.tensor([299, 587, 114], device=x.device).view(1, 3, 1, 1)
    for start in range(0, len(x), 1024):
        part = x[start : start + 1024]
        out[start : start + 1024] = ((part.int() * weights).sum(1, keepdim=True) + 500).div(1000, rounding_mode="floor")
    return out


def jpeg(x: Bytes, quality: int = 10) -> Bytes:
    """Every image through JPEG and back (Liu, Zhao and Larson 2023 use quality 10)."""
    out = torch.empty_like(x)
    for index, pixels in enumerate(x.cpu()):
        array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "JPEG", quality=quality)
        back = torch.from_numpy(np.array(Image.open(buffer)))
        out[index] = back if back.dim() == 2 else back.permute(2, 0, 1)
    return out


_PLAIN = {"augment": -1}
_KNOWN: dict[str, Callable[[bool], Countermeasure]] = {
    "none": lambda colour: Countermeasure("none", recipe=_PLAIN),
    "crop-flip": lambda colour: Countermeasure("crop-flip", recipe={"augment": 4 if colour else 2, "flip": colour}),
    "cutout": lambda colour: Countermeasure("cutout", Cutout(), recipe=_PLAIN),
    "mixup": lambda colour: Countermeasure("mixup", Mixup(), recipe=_PLAIN),
    "grayscale": lambda colour: Countermeasure("grayscale", prepare=grey, recipe=_PLAIN),
    "jpeg": lambda colour: Countermeasure("jpeg", prepare=jpeg, recipe=_PLAIN),
}
COUNTERS = tuple(_KNOWN)


def countermeasure(name: str, colour: bool, steps: int = 3) -> Countermeasure:
    """The counter-measure called `name`: one of `COUNTERS`, or at:RADIUS (linf, for example at:4/255).

    Args:
        name: see above.
        colour: whether the images are; grey ones are neither mirrored nor made grey.
        steps: of the ascent in adversarial training.

    Raises:
        StackelbergError: there is no such counter-measure, or it changes nothing.
    """
    if name.startswith("at:"):
        radius = parse_radius(name.removeprefix("at:"))
        if not radius > 0:
            raise StackelbergError(f"adversarial training needs a radius > 0, got {name!r}; for example at:4/255")
        return Countermeasure(name, Adversarial(Ball("linf", radius), steps=steps), recipe=_PLAIN)
    if name not in _KNOWN:
        raise unknown("counter-measure", name, (*COUNTERS, "at:4/255"))
    if name == "grayscale" and not colour:
        raise StackelbergError("grayscale changes nothing on grey images; leave it out")
    return _KNOWN[name](colour)


def usual(colour: bool, radius: float) -> tuple[str, ...]:
    """What people use, with adversarial training at a quarter, a half and all of the poison's linf radius."""
    names = [name for name in COUNTERS if colour or name != "grayscale"]
    return (*names, *(f"at:{part * radius:.6g}" for part in (0.25, 0.5, 1)))
