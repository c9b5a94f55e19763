"""FAB: the nearest error, by steps to the linearised boundary drawn back towards the input (Croce and Hein 2020)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stackelberg.attacks.apgd import promising_targets
from stackelberg.attacks.attack import Attack
from stackelberg.attacks.boundary import linear_gap, refuse_l0, rivals, to_boundary
from stackelberg.attacks.hunt import Hunt
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance

DRAW = 0.1
"""At most so much of each step starts from the clean input (alpha_max)."""
BEYOND = 1.05
"""By so much each step is lengthened, to cross the boundary (eta)."""
BACK = 0.9
"""From an error, so much of its distance is kept (beta)."""


@dataclass(frozen=True)
class FAB(Attack):
    """x <- (1 - a) (x + 1.05 d(x)) + a (x0 + 1.05 d(x0)), d the shortest step to the linearised boundary in the box.

    a = min(||d(x)|| / (||d(x)|| + ||d(x0)||), 0.1) (algorithm 1). From an error the walk goes back to 0.9 of its
    distance and on. It looks for the nearest error of each example; `ball` says in which norm, and how far an error
    may lie to count.

    Attributes:
        steps: per restart (and class, if targeted).
        restarts: the first from the input, the others from random points of half the radius.
        targets: how many other classes.
        targeted: whether each class is sought in turn, nearest first (one gradient a step), or the nearest of all at
            every step (`targets` gradients a step).
    """

    ball: Ball
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    targeted: bool = True

    def __post_init__(self) -> None:
        refuse_l0("fab", self.ball)
        if self.steps < 1 or self.restarts < 1 or self.targets < 1:
            raise StackelbergError(
                f"steps, restarts and targets must be at least 1, got {self.steps}, {self.restarts} and {self.targets}"
            )

    @property
    def name(self) -> str:
        """For example fab-100, fab-targeted-100x5."""
        times = f"x{self.restarts}" if self.restarts > 1 else ""
        kind = "fab-targeted" if self.targeted else "fab"
        return f"{kind}-{self.steps}{times}" + (f"-{self.precision}" if self.precision != "auto" else "")

    def search(self, hunt: Hunt) -> None:
        index = hunt.standing(self.within)
        if not len(index):
            return
        if hunt.target is not None:
            plans: list[Tensor | None] = [None]
        else:
            chosen = (
                promising_targets(hunt, index, self.targets) if self.targeted else rivals(hunt, index, self.targets)
            )
            table = chosen.new_zeros(len(hunt.x), chosen.shape[1]).index_copy_(0, index, chosen)
            plans = list(table.split(1, dim=1)) if self.targeted else [table]
        for restart in range(self.restarts):
            for number, classes in enumerate(plans):
                self._walk(hunt, classes, restart, restart * len(plans) + number)

    def _walk(self, hunt: Hunt, classes: Int64[Tensor, "B T"] | None, restart: int, number: int) -> None:
        index = hunt.standing(self.within)
        point = hunt.x[index]
        if restart and len(index):
            half = self.ball.with_radius(self.ball.radius / 2)
            point = half.sample(point, chance.fold(hunt.keys[index], number))
        for _ in range(self.steps):
            if not len(index):
                return
            slope, gap, wrong = linear_gap(hunt, index, point, None if classes is None else classes[index])
            left = ~hunt.broken[index]
            if not left.all():
                index, point, slope, gap, wrong = (t[left] for t in (index, point, slope, gap, wrong))
            if len(index):
                point = self._step(hunt.x[index], point, slope, gap, wrong)
        if len(index):
            hunt.look_inside(index, point)

    def _step(
        self,
        x: Float[Tensor, " b *shape"],
        point: Float[Tensor, " b *shape"],
        slope: Float[Tensor, " b *shape"],
        gap: Float[Tensor, " b"],
        wrong: Tensor,
    ) -> Float[Tensor, " b *shape"]:
        """One step; an error is drawn back towards x first, its boundary moving with it."""
        wide = (-1, *[1] * (x.dim() - 1))
        drawn = torch.where(wrong.view(wide), x + BACK * (point - x), point)
        gap = gap + (slope * (drawn - point)).flatten(1).sum(1).to(gap.dtype)
        clean = gap + (slope * (x - drawn)).flatten(1).sum(1).to(gap.dtype)
        near, far = to_boundary(slope, gap, drawn, self.ball), to_boundary(slope, clean, x, self.ball)
        own = self.ball.distance(near, torch.zeros_like(near))
        other = self.ball.distance(far, torch.zeros_like(far))
        share = (own / (own + other).clamp(min=1e-12)).clamp(max=DRAW).view(wide)
        moved = (1 - share) * (drawn + BEYOND * near) + share * (x + BEYOND * far)
        return moved.clamp(self.ball.low, self.ball.high)
