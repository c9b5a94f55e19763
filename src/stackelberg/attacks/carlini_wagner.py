"""Carlini and Wagner's l2 attack: the nearest error by descent, the box taken off by a tanh (2017, section VI.A)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.hunt import Hunt
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball

_EDGE = 1 - 1e-6  # of the tanh: an input at the very edge of the box must have a finite image


class _Adam:
    """Adam (Kingma and Ba 2015), elementwise, so that no example knows another."""

    def __init__(self, rate: float, like: Tensor) -> None:
        self.rate, self.step = rate, 0
        self.mean, self.square = torch.zeros_like(like), torch.zeros_like(like)

    def move(self, gradient: Tensor) -> Tensor:
        self.step += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean, square = self.mean / (1 - 0.9**self.step), self.square / (1 - 0.999**self.step)
        return -self.rate * mean / (square.sqrt() + 1e-8)


@dataclass(frozen=True)
class CarliniWagner(Attack):
    """min over w of ||x' - x||^2 + c max(gap, -confidence), x' = low + (high - low) (tanh w + 1) / 2; l2 only.

    gap is the margin still missing to the error; it is measured in units of the clean gap, so that the scale of the
    logits does not matter. c is found for each example by `searches` rounds: times 10 until an error is found, then
    by bisection. `ball` says how far an error may lie to count.

    Attributes:
        steps: of Adam per c.
        searches: how many c are tried.
        rate: of Adam.
        c: the first one.
        confidence: by how much of the clean gap the wrong class must lead.
    """

    ball: Ball
    steps: int = 100
    searches: int = 6
    rate: float = 0.02
    c: float = 1.0
    confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.ball.norm != "l2":
            raise StackelbergError(
                f"carlini-wagner is defined for l2, got norm {self.ball.norm!r}; use attacks.FAB or attacks.APGD"
            )
        if self.steps < 1 or self.searches < 1 or self.rate <= 0 or self.c <= 0 or self.confidence < 0:
            raise StackelbergError(
                "steps and searches must be at least 1, rate and c above 0 and confidence at least 0, got"
                f" {self.steps}, {self.searches}, {self.rate}, {self.c} and {self.confidence}"
            )

    @property
    def name(self) -> str:
        return f"carlini-wagner-{self.searches}x{self.steps}"

    def search(self, hunt: Hunt) -> None:
        index = hunt.standing(self.within)
        c = torch.full((len(index),), self.c, device=hunt.x.device, dtype=torch.float64)
        below, above = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(self.searches):
            if not len(index):
                return
            found = self._descend(hunt, index, c)
            above, below = torch.where(found, c, above), torch.where(found, below, c)
            c = torch.where(above.isfinite(), (below + above) / 2, 10 * c)
            left = ~hunt.broken[index]
            index, c, below, above = index[left], c[left], below[left], above[left]

    def _descend(self, hunt: Hunt, index: Tensor, c: Tensor) -> Tensor:
        """Adam for given c; returns which examples met an error [b]."""
        x = hunt.x[index]
        wide = (-1, *[1] * (x.dim() - 1))
        middle, half = (self.ball.high + self.ball.low) / 2, (self.ball.high - self.ball.low) / 2
        w = torch.atanh(((x - middle) / half).clamp(-_EDGE, _EDGE))
        clean = hunt.opening[index].abs().clamp(min=1e-12)
        adam, found = _Adam(self.rate, w), torch.zeros(len(index), dtype=torch.bool, device=x.device)
        for _ in range(self.steps):
            moved = middle + half * torch.tanh(w)
            moved = moved.clamp(self.ball.low, self.ball.high)
            inside = hunt.ball.contains(moved, x)
            slope, gap = hunt.ask(index, moved, lambda z, i: hunt.score(z, i), inside)
            found |= gap > 0
            # the adversary lacks -gap; what it lacks is weighed while it is above -confidence
            lacking = (-gap / clean > -self.confidence).to(x.dtype)
            pull = (c.to(x.dtype) * lacking / clean.to(x.dtype)).view(wide)
            gradient = 2 * (moved - x) - pull * slope
            w = w + adam.move(gradient * half * (1 - torch.tanh(w) ** 2))
        hunt.look_inside(index, (middle + half * torch.tanh(w)).clamp(self.ball.low, self.ball.high))
        return found
