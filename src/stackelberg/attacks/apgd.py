"""Auto-PGD: gradient ascent that chooses its own step length (Croce and Hein 2020, algorithm 1; for l1, 2021).

Steps are long while the payoff rises and are halved at checkpoints where it does not, starting again from the best
point. In l1 the step changes few coordinates, as many as the best point so far asks for.
"""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.boundary import dual_size
from stackelberg.attacks.goal import PAYOFFS, goal_for, goal_towards
from stackelberg.attacks.hunt import Goal, Hunt
from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import lead, others

MOMENTUM = 0.75
RISING = 0.75  # the share of steps between two checkpoints that must raise the payoff
TARGETED = "dlr-targeted"


def checkpoints(steps: int) -> list[int]:
    """When the step length is reconsidered: p_0 = 0, p_1 = 0.22, p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06)."""
    marks, last, gap = [], 0, 22  # in hundredths, so that the ends are exact
    while last + gap <= 100:
        last += gap
        gap = max(gap - 3, 6)
        marks.append(math.ceil(last * steps / 100))
    return marks


class Climb:
    """Where each example is on its way up; examples that fall leave, and every tensor shrinks with them."""

    def __init__(
        self,
        hunt: Hunt,
        index: Int64[Tensor, " b"],
        start: Float[Tensor, " b *shape"],
        goal: Goal,
        ball: Ball,
        length: float,
    ) -> None:
        self.hunt, self.goal, self.ball = hunt, goal, ball
        self.index, self.x = index, hunt.x[index]
        self.point = self.previous = self.best = start
        self.inside = ball.radius <= hunt.ball.radius
        self.gradient, self.value = hunt.ask(index, start, goal, self.inside)
        self.best_gradient, self.best_value = self.gradient, self.value
        self.step = torch.full_like(self.value, length)
        self.rises = torch.zeros_like(self.value)
        self.marked_value = self.best_value  # at the last checkpoint
        self.halved = torch.zeros_like(self.value, dtype=torch.bool)
        size = self.x[0].numel()
        self.sparsity = torch.full_like(self.value, max(1.0, size / 5))  # l1: how many coordinates a step changes
        self.support = torch.full_like(self.value, size)  # l1: how many coordinates the best point has changed
        self._drop()

    def _drop(self) -> None:
        """Let the fallen go."""
        left = ~self.hunt.broken[self.index]
        if not left.all():
            for name, value in vars(self).items():
                if isinstance(value, Tensor):
                    setattr(self, name, value[left])

    def _across(self, values: Tensor) -> Tensor:
        """[b] -> [b, 1, ...], to meet images."""
        return values.view(-1, *[1] * (self.x.dim() - 1))

    def move(self, first: bool) -> None:
        """One step to a new point."""
        if self.ball.norm == "l1":
            ascent = self.ball.ascent(self.gradient, self.point, self.sparsity.long().clamp(min=1))
            moved = self.ball.project(self.point + self._across(self.step) * ascent, self.x)
        else:
            ascent = self.ball.ascent(self.gradient, self.point)
            moved = self.ball.project(self.point + self._across(self.step) * ascent, self.x)
            if not first:
                moved = self.point + MOMENTUM * (moved - self.point) + (1 - MOMENTUM) * (self.point - self.previous)
                moved = self.ball.project(moved, self.x)
        self.previous, self.point = self.point, moved

    def look(self) -> None:
        """Gradient and payoff at the new point; the best point so far is remembered."""
        self.gradient, value = self.hunt.ask(self.index, self.point, self.goal, self.inside)
        self.rises = self.rises + (value > self.value)
        self.value = value
        better = value > self.best_value
        wide = self._across(better)
        self.best = torch.where(wide, self.point, self.best)
        self.best_gradient = torch.where(wide, self.gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)
        self._drop()

    def adapt(self, since: int) -> None:
        """At a checkpoint, `since` steps after the last: halve steps that do not pay, and go back to the best point."""
        stalled = (self.best_value <= self.marked_value) & ~self.halved
        halve = (self.rises < RISING * since) | stalled
        self.step = torch.where(halve, self.step / 2, self.step)
        self._return(halve)
        self.halved, self.marked_value = halve, self.best_value
        self.rises = torch.zeros_like(self.rises)

    def adapt_sparsity(self, length: float) -> None:
        """l1, every 4 % of the steps: as sparse as the best point is, long steps again where its support shrank."""
        support = ((self.best - self.x).abs() > 0).flatten(1).sum(1).to(self.value.dtype)
        shrank = support < 0.95 * self.support
        self.step = torch.where(shrank, length, (self.step / 1.5).clamp(min=length / 10))
        self.sparsity, self.support = support / 1.5, support
        self._return(shrank)

    def _return(self, where: Tensor) -> None:
        wide = self._across(where)
        self.point = torch.where(wide, self.best, self.point)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)


def climb(
    hunt: Hunt,
    index: Int64[Tensor, " b"],
    start: Float[Tensor, " b *shape"],
    goal: Goal,
    steps: int,
    length: float = 2.0,
    ball: Ball | None = None,
) -> tuple[Int64[Tensor, " c"], Float[Tensor, " c *shape"]]:
    """`steps` of Auto-PGD from `start`; returns the examples still standing and their best points for `goal`.

    The first steps are `length` radii long (in l1 at most one); `ball` is where to move, when it is not the hunt's own.
    """
    ball = hunt.ball if ball is None else ball
    first = (min(length, 1.0) if ball.norm == "l1" else length) * ball.radius
    way = Climb(hunt, index, start, goal, ball, first)
    sparse = max(1, math.ceil(0.04 * steps))
    marks, last = checkpoints(steps), 0
    for k in range(1, steps + 1):
        if not len(way.index):
            break
        way.move(first=k == 1)
        way.look()
        if ball.norm == "l1":
            if k % sparse == 0:
                way.adapt_sparsity(first)
        elif k in marks:
            way.adapt(k - last)
            last = k
    return way.index, way.best


SHRINKING = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""l1: balls of 3, 2 and 1 radii, each with its share of the steps (Croce and Hein 2021)."""
FAR = ((8.0, 0.15), (4.0, 0.15), (2.0, 0.15), (1.5, 0.15), (1.0, 0.4))
"""From far away: what the gradient near the input does not show is often seen beyond, and carried back."""


def times_wider(ball: Ball, times: float) -> Ball:
    """The ball of so many radii; in linf no wider than the box lets inputs move."""
    most = 0.999 * (ball.high - ball.low) if ball.norm == "linf" else math.inf
    return ball.with_radius(max(ball.radius, min(times * ball.radius, most)))


def ascent_by_radii(
    hunt: Hunt, index: Tensor, start: Tensor, goal: Goal, steps: int, plan: tuple[tuple[float, float], ...]
) -> None:
    """Auto-PGD through balls of so many radii, one after the other, each with its share of the steps."""
    ends = [min(round(share * steps), steps - 1) for share in accumulate(share for _, share in plan[:-1])]
    for (times, _), begun, end in zip(plan, [0, *ends], [*ends, steps], strict=True):
        if not len(index) or begun == end:
            continue
        ball = times_wider(hunt.ball, times)
        start = ball.project(start, hunt.x[index])
        index, start = climb(hunt, index, start, goal, end - begun, ball=ball)


def promising_targets(hunt: Hunt, index: Int64[Tensor, " b"], count: int) -> Int64[Tensor, "b T"]:
    """The `count` other classes nearest by the linearised distance (z_y - z_k) / ||grad (z_y - z_k)||_dual, in order.

    Measured at each example's best point so far; only the `count` + 3 largest other logits are looked at.
    """
    points, y = hunt.best[index], hunt.y[index]
    logits = hunt.look(index, points)
    near = others(logits, y).topk(min(count + 3, logits.shape[1] - 1), dim=1).indices
    distance = []
    for column in near.T:

        def gap(z: Tensor, _: Tensor, k: Tensor = column) -> Tensor:
            return lead(z, y, k)

        gradient, value = hunt.ask(index, points, gap)
        distance.append(-value / dual_size(gradient, hunt.ball.norm).clamp(min=1e-12))
    order = torch.stack(distance, 1).argsort(dim=1, stable=True)[:, :count]
    return near.gather(1, order)


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD from random starts.

    Attributes:
        steps: gradient steps per restart.
        restarts: independent random starts (per class, for "dlr-targeted").
        loss: "ce", "cw", "dlr", or "dlr-targeted": towards each of the `targets` nearest other classes in turn (a
            margin takes the place of the ratio where there are fewer than four classes).
        targets: how many classes "dlr-targeted" tries.
        start: "random" in the ball; "worst": the worst point so far, with first steps of a quarter radius; or "far":
            random in eight radii, and back through balls of four, two, one and a half and one.
    """

    ball: Ball
    steps: int = 100
    restarts: int = 1
    loss: str = "ce"
    targets: int = 9
    start: Literal["random", "worst", "far"] = "random"

    def __post_init__(self) -> None:
        if self.ball.norm == "l0":
            raise StackelbergError("apgd is defined for linf, l2 and l1, got norm 'l0'; use attacks.PGD")
        if self.steps < 1 or self.restarts < 1 or self.targets < 1:
            raise StackelbergError(
                f"steps, restarts and targets must be at least 1, got {self.steps}, {self.restarts} and {self.targets}"
            )
        if self.loss not in (*PAYOFFS, TARGETED):
            raise unknown("loss", self.loss, (*PAYOFFS, TARGETED))

    @property
    def name(self) -> str:
        """For example apgd-ce-100, apgd-dlr-targeted-100x2 or apgd-cw-20-worst-float32."""
        parts = ["apgd", self.loss, str(self.steps) + (f"x{self.restarts}" if self.restarts > 1 else "")]
        parts += [self.start] * (self.start != "random") + [self.precision] * (self.precision != "auto")
        return "-".join(parts)

    def search(self, hunt: Hunt) -> None:
        index, classes = hunt.standing(self.within), None
        if self.loss == TARGETED and hunt.target is None and len(index):
            classes = promising_targets(hunt, index, self.targets)
        climbs, done = self.restarts * (1 if classes is None else classes.shape[1]), 0
        while len(index) and done < climbs:
            now = range(done, min(climbs, done + max(1, hunt.together // len(index))))
            keys = torch.cat([chance.fold(hunt.keys[index], number) for number in now])
            aims = None if classes is None else torch.cat([classes[:, n % classes.shape[1]] for n in now])
            if len(now) == 1:
                self._climb(hunt, index, keys, aims)
            else:
                wide = hunt.copies(index, len(now))
                self._climb(wide, torch.arange(len(keys), device=keys.device), keys, aims)
                hunt.take_over(wide, index)
            left, done = ~hunt.broken[index], now.stop
            index, classes = index[left], None if classes is None else classes[left]

    def _climb(self, hunt: Hunt, index: Tensor, keys: Tensor, aims: Tensor | None) -> None:
        """One climb of the examples `index`, away from their labels or towards the classes `aims`."""
        if aims is None:
            goal = goal_for("dlr" if self.loss == TARGETED else self.loss, hunt)
        else:
            goal = goal_towards(torch.zeros_like(hunt.y).index_copy_(0, index, aims), hunt)
        if self.start == "worst":
            climb(hunt, index, hunt.best[index], goal, self.steps, length=0.25)
            return
        plan = FAR if self.start == "far" else SHRINKING if self.ball.norm == "l1" else ((1.0, 1.0),)
        widest = self.ball if plan is SHRINKING else times_wider(self.ball, plan[0][0])
        ascent_by_radii(hunt, index, widest.sample(hunt.x[index], keys), goal, self.steps, plan)
