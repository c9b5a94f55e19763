"""MI-FGSM: gradient steps with momentum (Dong et al. 2018, algorithm 1)."""

from dataclasses import dataclass

import torch

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.goal import PAYOFFS, goal_for
from stackelberg.attacks.hunt import Hunt
from stackelberg.attacks.pgd import sparse_coordinates
from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import Ball


@dataclass(frozen=True)
class MIFGSM(Attack):
    """g <- decay g + grad / ||grad||_1, x' <- project(x' + step * steepest ascent of g), from the clean input.

    Attributes:
        steps: gradient steps.
        step: step length in input units; radius / steps when None.
        decay: of the momentum; 0 leaves BIM.
        payoff: "ce", "cw" or "dlr".
    """

    ball: Ball
    steps: int = 10
    step: float | None = None
    decay: float = 1.0
    payoff: str = "ce"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.decay < 0:
            raise StackelbergError(f"steps must be at least 1 and decay at least 0, got {self.steps} and {self.decay}")
        if self.payoff not in PAYOFFS:
            raise unknown("payoff", self.payoff, PAYOFFS)

    @property
    def name(self) -> str:
        return f"mi-fgsm-{self.steps}"

    def search(self, hunt: Hunt) -> None:
        index = hunt.standing(self.within)
        if not len(index):
            return
        goal, moved, x = goal_for(self.payoff, hunt), hunt.x[index], hunt.x[index]
        length = self.ball.radius / self.steps if self.step is None else self.step
        if self.ball.norm == "l0":
            length = self.ball.high - self.ball.low
        coordinates = sparse_coordinates(self.ball, hunt.x)
        momentum = torch.zeros_like(moved)
        for _ in range(self.steps):
            gradient, _ = hunt.ask(index, moved, goal)
            size = gradient.flatten(1).abs().sum(1).clamp(min=torch.finfo(gradient.dtype).tiny)
            momentum = self.decay * momentum + gradient / size.view(-1, *[1] * (x.dim() - 1))
            left = ~hunt.broken[index]
            if not left.all():
                index, x, moved, momentum = index[left], x[left], moved[left], momentum[left]
            if not len(index):
                return
            moved = self.ball.project(moved + length * self.ball.ascent(momentum, moved, coordinates), x)
        hunt.look(index, moved)
