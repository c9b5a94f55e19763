"""How do I publish images on which nobody can train?  One call for every method, and what it has moved."""

import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.games.processes import launch
from stackelberg.poison.clouds import availability_of_clouds
from stackelberg.poison.generator import Generator
from stackelberg.poison.grid import Grid
from stackelberg.poison.methods import method as named
from stackelberg.poison.poisoner import Poisoner, Setting
from stackelberg.threat import Ball


@dataclass(frozen=True)
class Moves:
    """How far stored bytes have moved from the clean ones, measured on the bytes.

    Attributes:
        n: examples.
        norm: of the ball.
        radius: that was allowed, input units (l0: a count).
        largest: distance that occurs, in the same unit.
        outside: examples beyond the radius.
        levels: the largest move of a pixel, in grey levels.
        mean_levels: the mean size of a pixel's move, in grey levels.
        unmoved: examples that did not change.
        seconds: spent on moving them.
    """

    n: int
    norm: str
    radius: float
    largest: float
    outside: int
    levels: int
    mean_levels: float
    unmoved: int
    seconds: float = 0.0

    @classmethod
    def between(
        cls, clean: UInt8[Tensor, "B C H W"], moved: UInt8[Tensor, "B C H W"], ball: Ball, seconds: float = 0.0
    ) -> "Moves":
        """The moves of one batch."""
        x, z = clean.double() / 255, moved.double() / 255
        distance = ball.distance(z, x)
        size = (moved.int() - clean.int()).abs()
        return cls(
            len(x), ball.norm, float(ball.radius), float(distance.max()),
            int((~ball.contains(z, x)).sum()), int(size.max()),
            float(size.double().mean()), int((size.flatten(1).amax(1) == 0).sum()), seconds,
        )  # fmt: skip

    def __add__(self, other: "Moves") -> "Moves":
        n = self.n + other.n
        return Moves(
            n, self.norm, self.radius, max(self.largest, other.largest), self.outside + other.outside,
            max(self.levels, other.levels), (self.n * self.mean_levels + other.n * other.mean_levels) / n,
            self.unmoved + other.unmoved, self.seconds + other.seconds,
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """As plain data, for records."""
        return asdict(self)

    def __str__(self) -> str:
        held = f"{self.outside} outside it" if self.outside else "all inside it"
        return (
            f"{self.n} images, {self.norm} radius {self.radius:.6g}, largest move {self.largest:.6g}, {held}; a pixel"
            f" moves by {self.mean_levels:.2f} grey levels on average and {self.levels} at most; {self.unmoved}"
            f" unmoved; {1000 * self.seconds / self.n:.3g} ms an image"
        )


@dataclass(frozen=True, eq=False)
class Poisoned(Dataset):
    """A data set whose images were moved, labels kept, with the rule that moved them.

    Attributes:
        poisoner: the rule; takes new images, as bytes, with their labels.
        moves: how far the images moved.
        method: its name.
    """

    poisoner: Poisoner
    moves: Moves
    method: str

    @property
    def generator(self) -> Generator:
        """The network that protects a new picture in one forward pass, where the method has one.

        Raises:
            StackelbergError: the method has none.
        """
        if not isinstance(self.poisoner, Generator):
            raise StackelbergError(
                f"the method {self.method} trains no generator; pass method='gue' or method='deepconfuse'"
            )
        return self.poisoner


def poisoner(
    train: Dataset, ball: Ball, method: str = "gue", *, fit: int | None = None, seed: int = 0, device: str = "auto",
    progress: bool = False, **settings: Any,
) -> Poisoner:  # fmt: skip
    """Learn the rule of a method on some training images; it then takes images of any data set of this kind.

    Args:
        train: images and labels.
        ball: in which every image may move; at least 1/255 in linf.
        method: em, robust-em, max, max-targeted, hypocritical, deepconfuse, gue, lsp, cuda or noise.
        fit: on how many random examples it learns; None for all.
        seed: of all random numbers.
        device: "cpu", "cuda" or "auto".
        progress: lines on standard error.
        **settings: fields of the method's own class.

    Raises:
        StackelbergError: an unknown method or setting; points instead of images; one class only; a radius that allows
            no change.
    """
    made = named(method, **settings)
    if train.x.dim() != 4:
        raise StackelbergError(
            f"{train.name} holds {train.kind}, not images, whose pixels the availability poisons move"
        )
    present = train.y.unique()
    if len(present) < 2:
        raise StackelbergError(
            f"{train.name} has examples of {len(present)} class only ({train.classes[int(present[0])]!r}): there is"
            " nothing to learn that could be prevented; add another class"
        )
    Grid(ball)
    if fit is not None:
        if not 2 <= fit <= len(train):
            raise StackelbergError(f"fit must lie between 2 and the {len(train)} examples, got {fit}; leave it out")
        train = train if fit == len(train) else train.split(fit, seed)[1]
    begun = time.monotonic()

    def say(words: str) -> None:
        if progress:
            print(f"{time.monotonic() - begun:.0f} s, {words}", file=sys.stderr, flush=True)

    return made(Setting(train, ball, seed, launch(device).device, say))


def availability(
    train: Dataset, ball: Ball, method: str = "gue", *, fit: int | None = None, seed: int = 0, device: str = "auto",
    progress: bool = False, **settings: Any,
) -> Poisoned | Any:  # fmt: skip
    """The training set moved so that who trains on it learns little of the clean images: same shape, bytes, labels.

    Every image stays in `ball` after it is rounded to 8 bits, as the rounding is part of every method's optimisation.
    The arguments are those of `poisoner`, which see. Clouds of points have methods of their own, for example "fc-em":
    which takes the place of "gue" there: see `availability_of_clouds`, which gives back a plain data set.

    >>> import stackelberg as sb
    >>> train = sb.data.load("digits", "train")
    >>> poison = sb.poison.availability(train, sb.Ball("linf", 16 / 255), "lsp", device="cpu")
    >>> poison.x.shape == train.x.shape, poison.moves.outside
    (True, 0)
    """
    if train.cloud:
        method = "fc-em" if method == "gue" else method
        part = train if fit is None else train.take(fit)
        return availability_of_clouds(part, ball, method, seed=seed, device=str(launch(device).device), **settings)
    rule = poisoner(train, ball, method, fit=fit, seed=seed, device=device, progress=progress, **settings)
    poisoned, moves = moving(rule, train)
    return Poisoned(poisoned.x, train.y, train.classes, train.name, rule, moves, method)


def moving(rule: Poisoner, data: Dataset) -> tuple[Dataset, Moves]:
    """(the moved data set, how far its images moved)."""
    begun = time.perf_counter()
    poisoned = rule.poisoned(data)
    seconds = time.perf_counter() - begun
    total = None
    for part in torch.arange(len(data)).split(4096):
        moves = Moves.between(data.x[part], poisoned.x[part], rule.ball)
        total = moves if total is None else total + moves
    assert total is not None
    return poisoned, total + Moves(0, total.norm, total.radius, 0.0, 0, 0, 0.0, 0, seconds)
