"""What is known of each example while attacks run: the worst point so far, and who still stands.

An attack only looks at points; the hunt keeps the score. A success seen by the fast view is asked of the user's own
module in float32 before it counts, and an example that has fallen is left alone.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stackelberg.attacks.oracle import JUDGES, Oracle
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin

Goal = Callable[[Tensor, Tensor], Tensor]
"""(logits [b, K], which examples of the hunt they belong to [b]) -> what the adversary maximises, [b]."""


def near_enough(left: Tensor, value: Tensor, opening: Tensor, flat: Tensor, within: float | None) -> Tensor:
    """Of the examples `left` (a mask [B]) those whose margin has shrunk to `within` of the clean one; None: all.

    Where a gradient was zero (`flat`) the margin says nothing, so those examples always belong.
    """
    return left if within is None else left & ((value >= within * opening) | flat)


class Hunt:
    """One batch of examples under attack.

    Attributes:
        oracle: answers about the network.
        ball: where the examples may move.
        x: clean inputs [B, *shape].
        y: true labels [B].
        keys: one random key per example [B].
        target: labels to reach [B], or None when any wrong label will do.
        stop: whether an example is left alone once the user's own module errs on it.
        best: the point of largest value seen so far [B, *shape]; for a broken example a verified point.
        value: its margin [B] in logit units: max_{k != y} z_k - z_y, or towards a target z_t - max_{k != t} z_k.
        opening: the margin at the clean input [B].
        broken: on which examples the user's own module errs, in float32, at `best` [B].
        flat: where some input gradient was exactly zero in every coordinate [B].
    """

    together = 64
    """So many copies of standing examples are worth one call: fewer leave the processor waiting."""

    def __init__(
        self,
        oracle: Oracle,
        ball: Ball,
        x: Float[Tensor, " B *shape"],
        y: Int64[Tensor, " B"],
        keys: Int64[Tensor, " B"],
        target: Int64[Tensor, " B"] | None = None,
        stop: bool = True,
    ) -> None:
        self.oracle, self.ball, self.x, self.y, self.keys = oracle, ball, x, y, keys
        self.target, self.stop = target, stop
        self.best = x.clone()
        self.value = self.opening = torch.full((len(x),), -torch.inf, device=x.device)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.flat = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._doubted = torch.zeros(len(x), device=x.device)  # fast values up to this one were false alarms

    def open(self) -> None:
        """Score the clean inputs by the user's own module; an example that it already gets wrong is broken there."""
        index = torch.arange(len(self.x), device=self.x.device)
        self.opening = self.judge(index, self.x, thorough=True)
        self.value = self.opening.clone()
        if self.stop:
            self.broken = self.value > 0

    def standing(self, within: float | None = None) -> Int64[Tensor, " b"]:
        """The examples still to be attacked; with `within` those of them that are `near_enough`."""
        return near_enough(~self.broken, self.value, self.opening, self.flat, within).nonzero()[:, 0]

    def score(self, logits: Float[Tensor, "b K"], index: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The margin of the adversary at these logits; above 0 is success, and a logit that is NaN is one, too."""
        value = margin(logits, self.y[index]) if self.target is None else -margin(logits, self.target[index])
        return value.nan_to_num(nan=torch.inf)

    def judge(
        self, index: Int64[Tensor, " b"], points: Float[Tensor, " b *shape"], thorough: bool = False
    ) -> Float[Tensor, " b"]:
        """The margin of which the user's own module decides the sign; `thorough` asks a random one more often.

        Where its answers are no logits, or random, the size is the fast view's, so that margins can be compared.
        """
        more = {"draws": 4 * JUDGES} if thorough else {}
        value = self.score(self.oracle.exact(points, **more), index)
        if self.oracle.same_units:
            return value
        size = self.score(self.oracle.logits(points), index)
        tiny = torch.finfo(size.dtype).tiny
        return torch.where(value > 0, size.clamp(min=tiny), size.clamp(max=0))

    def look(self, index: Int64[Tensor, " b"], points: Float[Tensor, " b *shape"]) -> Float[Tensor, "b K"]:
        """Logits of the fast view at `points`, no gradient; the score is kept."""
        logits = self.oracle.logits(points)
        self.keep(index, points, logits)
        return logits

    def look_inside(self, index: Int64[Tensor, " b"], points: Float[Tensor, " b *shape"]) -> None:
        """Look at those of the points that lie in the ball."""
        inside = self.ball.contains(points, self.x[index])
        self.look(index[inside], points[inside])

    def ask(
        self, index: Int64[Tensor, " b"], points: Float[Tensor, " b *shape"], goal: Goal, keep: bool | Tensor = True
    ) -> tuple[Float[Tensor, " b *shape"], Float[Tensor, " b"]]:
        """(input gradient of `goal`, goal) at `points` by the fast view; `keep` the score of those in the ball."""
        gradient, value, logits = self.oracle.gradient(points, lambda z: goal(z, index))
        if isinstance(keep, Tensor):
            self.keep(index[keep], points[keep], logits[keep])
        elif keep:
            self.keep(index, points, logits)
        gradient = gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        self.flat[index] |= ~gradient.flatten(1).any(1)
        return gradient, value.nan_to_num(nan=-torch.inf)

    def keep(self, index: Tensor, points: Tensor, logits: Tensor) -> None:
        """Note what the fast view answered at `points` in the ball, each example at most once; verify successes."""
        value = self.score(logits, index)
        hopeful = (value > 0) & ~self.broken[index]
        better = (value > self.value[index]) & ~(hopeful if self.stop else self.broken[index])
        self.value[index[better]] = value[better]
        self.best[index[better]] = points[better]
        if self.stop:
            hopeful &= value > self._doubted[index]
            if hopeful.any():
                self._verify(index[hopeful], points[hopeful], value[hopeful])

    def _verify(self, index: Tensor, points: Tensor, claimed: Tensor) -> None:
        """Ask the user's own module about these points."""
        value = self.judge(index, points)
        fell = value > 0
        self.broken[index[fell]] = True
        self._doubted[index] = claimed
        known = fell | (value > self.value[index])
        self.value[index[known]] = value[known]
        self.best[index[known]] = points[known]

    def copies(self, index: Int64[Tensor, " b"], count: int) -> "Hunt":
        """A hunt of `count` copies of some standing examples as they are now, all of them `count` times over."""
        many = index.repeat(count)
        target = None if self.target is None else self.target[many]
        wide = Hunt(self.oracle, self.ball, self.x[many], self.y[many], self.keys[many], target, self.stop)
        wide.best, wide.value, wide.opening = self.best[many], self.value[many], self.opening[many]
        wide.flat, wide._doubted = self.flat[many], self._doubted[many]
        return wide

    def take_over(self, wide: "Hunt", index: Int64[Tensor, " b"]) -> None:
        """What the copies of some examples found: of each the copy that fell, else the one of the largest value."""
        score = torch.where(wide.broken, torch.inf, wide.value).view(-1, len(index))
        place = score.argmax(0) * len(index) + torch.arange(len(index), device=index.device)
        self.best[index], self.value[index] = wide.best[place], wide.value[place]
        self.broken[index] = wide.broken[place]
        self.flat[index] = wide.flat.view_as(score).any(0)
        self._doubted[index] = wide._doubted.view_as(score).amax(0)

    def settle(self) -> None:
        """Ask the user's own module about the best point of every standing example: the fast view rounds.

        A random one is asked about all examples, and more often: of many lucky draws some came by chance.
        """
        left = torch.ones_like(self.broken) if self.oracle.random and self.stop else ~self.broken
        index = (left & self.value.isfinite()).nonzero()[:, 0]
        if len(index):
            value = self.judge(index, self.best[index], thorough=True)
            self.broken[index] = value > 0
            self.value[index] = value
