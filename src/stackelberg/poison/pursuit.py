"""How does an image move in its ball so that a given network likes, or dislikes, its label?  By whole grey levels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from stackelberg.attacks import Oracle, ascend, untouched
from stackelberg.attacks.oracle import Objective
from stackelberg.attacks.pgd import sparse_coordinates
from stackelberg.data import Augment
from stackelberg.poison.grid import Grid
from stackelberg.poison.poisoner import Images, Labels, Poisoner
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import cross_entropy

Aim = Literal["own", "away", "other"]
Says = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pursuit:
    """Projected ascent whose network sees whole grey levels at every step: gradients at round(x'), steps on x'.

    With `augment` each step is taken through another crop and mirror image (expectation over transformations); with
    `rival` the network is asked where an adversary with that ball has moved the poisoned image (robust poisons).

    Attributes:
        ball: in which the image moves.
        steps: of it.
        augment: what the learner will do to the image, or None.
        rival: the adversary's ball, or None.
        rival_steps: of the adversary's ascent.
    """

    ball: Ball
    steps: int = 10
    augment: Augment | None = None
    rival: Ball | None = None
    rival_steps: int = 2

    def __call__(self, oracle: Oracle, x: Images, objective: Objective, keys: Int64[Tensor, " B"]) -> Images:
        """x' in the ball, a grid point, with `objective` of the network's logits as large as was found."""
        grid, moved = Grid(self.ball), x
        length = self._length(grid)
        coordinates = sparse_coordinates(self.ball, x)
        for step in range(self.steps):
            gradient = self._slope(oracle, grid.places(moved, x) / 255, objective, chance.fold(keys, step))
            moved = self.ball.project(moved + length * self.ball.ascent(gradient, moved, coordinates), x)
        return grid.places(moved, x) / 255

    def _length(self, grid: Grid) -> float:
        """2.5 radii over the steps, a whole number of grey levels in linf."""
        length = 2.5 * self.ball.radius / self.steps
        if self.ball.norm == "linf":
            return max(1, min(grid.levels, round(255 * length))) / 255
        return 1.0 if self.ball.norm == "l0" else length

    def _slope(self, oracle: Oracle, here: Tensor, objective: Objective, keys: Tensor) -> Tensor:
        if self.augment is None and self.rival is None:
            return oracle.gradient(here, objective)[0]
        with torch.enable_grad():
            leaf = here.detach().requires_grad_()
            seen = leaf if self.augment is None else self.augment(leaf, keys)
        at = self.answered(oracle, seen.detach(), objective)
        gradient = oracle.gradient(at, objective)[0]
        return gradient if seen is leaf else torch.autograd.grad(seen, leaf, gradient)[0]

    def answered(self, oracle: Oracle, seen: Images, objective: Objective) -> Images:
        """Where the rival moves the poisoned images, against `objective`."""
        if self.rival is None:
            return seen
        step = 2.5 * self.rival.radius / self.rival_steps
        return ascend(oracle, seen, seen, lambda logits: -objective(logits), self.rival, self.rival_steps, step)


def objective(aim: Aim, y: Labels, shift: int, classes: int) -> Objective:
    """ "own": -CE(z, y); "away": CE(z, y); "other": -CE(z, y + shift mod K). Nats per example."""
    if aim == "away":
        return lambda logits: cross_entropy(logits, y)
    wanted = y if aim == "own" else (y + shift) % classes
    return lambda logits: -cross_entropy(logits, wanted)


@dataclass(frozen=True, eq=False)
class Pursuer(Poisoner):
    """x' = the point of the ball where a trained network likes the label best, least, or likes another label best.

    Attributes:
        network: the surrogate.
        pursuit: how it is asked.
        aim: see `objective`.
        shift: of the labels, for "other".
    """

    network: nn.Module = field(default_factory=nn.Identity)
    pursuit: Pursuit = field(default_factory=lambda: Pursuit(Ball("linf", 8 / 255)))
    aim: Aim = "own"
    shift: int = 1

    def moved(self, x: Images, y: Labels, keys: Int64[Tensor, " B"]) -> Images:
        with untouched(self.network):
            return self.pursuit(Oracle(self.network), x, objective(self.aim, y, self.shift, self.classes), keys)
