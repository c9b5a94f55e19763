"""DeepFool: step to the nearest linearised boundary, again and again (Moosavi-Dezfooli, Fawzi and Frossard 2016)."""

from dataclasses import dataclass

from torch import Tensor

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.boundary import linear_gap, refuse_l0, rivals, to_boundary
from stackelberg.attacks.hunt import Hunt
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball


@dataclass(frozen=True)
class DeepFool(Attack):
    """x <- x + the shortest step to the nearest linearised boundary, until the label turns (algorithm 2).

    Unlike the published one every step stays in the box. It looks for the nearest error, not for the worst point of
    a ball; `ball` says in which norm, and how far an error may lie to count.

    Attributes:
        steps: at most.
        classes: how many other classes are looked at, one gradient each and step.
        overshoot: by how much the whole move is lengthened, so that it crosses the boundary.
    """

    ball: Ball
    steps: int = 50
    classes: int = 9
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        refuse_l0("deepfool", self.ball)
        if self.steps < 1 or self.classes < 1 or self.overshoot < 0:
            raise StackelbergError(
                f"steps and classes must be at least 1 and overshoot at least 0, got {self.steps}, {self.classes} and"
                f" {self.overshoot}"
            )

    def search(self, hunt: Hunt) -> None:
        index = hunt.standing(self.within)
        if not len(index):
            return
        classes = None if hunt.target is not None else rivals(hunt, index, self.classes)
        point = hunt.x[index]
        for _ in range(self.steps):
            slope, gap, wrong = linear_gap(hunt, index, self._beyond(point, hunt.x[index]), classes)
            left = ~wrong & ~hunt.broken[index]
            index, point, slope, gap = index[left], point[left], slope[left], gap[left]
            classes = classes if classes is None else classes[left]
            if not len(index):
                return
            point = point + to_boundary(slope, gap, point, self.ball)
            point = point.clamp(self.ball.low, self.ball.high)
        hunt.look_inside(index, self._beyond(point, hunt.x[index]))

    def _beyond(self, point: Tensor, x: Tensor) -> Tensor:
        return (x + (1 + self.overshoot) * (point - x)).clamp(self.ball.low, self.ball.high)
