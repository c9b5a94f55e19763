"""JSMA: few pixels, changed altogether, by the saliency map of their pairs (Papernot et al. 2016, algorithm 3)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.boundary import rivals
from stackelberg.attacks.hunt import Hunt
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.payoff import others

Rule = Literal["saliency", "probability", "gap"]
PAIRS = 2**23
"""Pairs of pixels that are weighed at once: 32 MiB in float32."""


@dataclass(frozen=True)
class JSMA(Attack):
    """Two coordinates at a time go by `theta`, those with the largest -(a_p + a_q)(b_p + b_q), until the label turns.

    a = d z_t / dx and b = d sum_{k != t} z_k / dx on the logits, the pair one with a_p + a_q > 0 > b_p + b_q (for
    theta < 0 both signs turn). A coordinate that has reached the end of the box leaves the search. Without a target
    the likeliest other class is sought. The radius of the l0 ball is the largest number of coordinates changed.

    Attributes:
        theta: how far a coordinate goes, in input units; +1 sets it to the upper end.
        rule: "saliency", as published, on logits; "probability", the same on p = softmax(z) (both are in use: Carlini
            and Wagner 2017, section VIII), where sum_k p_k = 1 makes b = -a, so that the pair is that of the two
            largest slopes of p_t; or "gap": a is the slope of z_t - max_{k != t} z_k, b is not looked at, and each
            coordinate goes to whichever end raises it more, by a first-order estimate; fewer pixels.
    """

    ball: Ball
    theta: float = 1.0
    rule: Rule = "saliency"

    def __post_init__(self) -> None:
        if self.ball.norm != "l0":
            raise StackelbergError(f"jsma is defined for l0, got norm {self.ball.norm!r}; use attacks.PGD or APGD")
        if self.theta == 0 or self.rule not in get_args(Rule):
            raise StackelbergError(
                f"theta must not be 0 and rule be one of {', '.join(get_args(Rule))}, got {self.theta} and"
                f" {self.rule!r}"
            )

    def search(self, hunt: Hunt) -> None:
        index = hunt.standing(self.within)
        if not len(index):
            return
        target = rivals(hunt, index, 1)[:, 0] if hunt.target is None else hunt.target[index]
        moved = hunt.x[index]
        free = self._movable(moved)
        for _ in range(int(self.ball.radius) // 2):
            step, chosen = self._step(hunt, index, moved, target, free)
            left = ~hunt.broken[index] & chosen.any(1)
            if not left.any():
                return
            index, moved, target, free, step, chosen = (t[left] for t in (index, moved, target, free, step, chosen))
            moved = (moved + step.view_as(moved)).clamp(self.ball.low, self.ball.high)
            free = free & ~(chosen & self._spent(moved))
        hunt.look(index, moved)

    def _movable(self, x: Tensor) -> Bool[Tensor, "B D"]:
        if self.rule == "gap":
            return torch.ones_like(x.flatten(1), dtype=torch.bool)
        return x.flatten(1) < self.ball.high if self.theta > 0 else x.flatten(1) > self.ball.low

    def _spent(self, moved: Tensor) -> Bool[Tensor, "B D"]:
        flat = moved.flatten(1)
        return (flat <= self.ball.low) | (flat >= self.ball.high)

    def _step(
        self, hunt: Hunt, index: Tensor, moved: Tensor, target: Tensor, free: Tensor
    ) -> tuple[Float[Tensor, "b D"], Bool[Tensor, "b D"]]:
        """(the move, which coordinates it changes); none where no pair helps."""

        def own(z: Tensor, _: Tensor) -> Tensor:
            return z.gather(1, target[:, None])[:, 0]

        if self.rule == "gap":
            slope, _ = hunt.ask(index, moved, lambda z, i: own(z, i) - others(z, target).amax(1))
            slope, flat = slope.flatten(1), moved.flatten(1)
            room = torch.where(slope > 0, self.ball.high - flat, flat - self.ball.low)
            worth = torch.where(free, slope.abs() * room, 0.0)
            top = worth.topk(2, dim=1)
            chosen = torch.zeros_like(free).scatter_(1, top.indices, top.values > 0)
            return torch.where(chosen, slope.sign() * room, 0.0), chosen
        sign = 1.0 if self.theta > 0 else -1.0
        if self.rule == "probability":  # log p_t has the direction of p_t's slope, and does not vanish with it
            up, _ = hunt.ask(index, moved, lambda z, i: own(z.log_softmax(1), i))
            top = (sign * up.flatten(1)).masked_fill(~free, -torch.inf).topk(2, dim=1)
            helps = (top.values.sum(1, keepdim=True) > 0) & top.values.isfinite()
            chosen = torch.zeros_like(free).scatter_(1, top.indices, helps)
            return chosen.to(moved.dtype) * self.theta, chosen
        up, _ = hunt.ask(index, moved, own)
        down, _ = hunt.ask(index, moved, lambda z, i: z.sum(1) - own(z, i), keep=False)
        pair = best_pair(sign * up.flatten(1), sign * down.flatten(1), free)
        chosen = torch.zeros_like(free).scatter_(1, pair.clamp(min=0), pair >= 0)
        return chosen.to(moved.dtype) * self.theta, chosen


def best_pair(up: Float[Tensor, "B D"], down: Float[Tensor, "B D"], free: Bool[Tensor, "B D"]) -> Int64[Tensor, "B 2"]:
    """argmax over p < q, both free, of -(up_p + up_q)(down_p + down_q) where up is above and down below 0; else -1.

    All pairs are weighed of those coordinates that can belong to the best one, see `_undominated`, for as many examples
    at once as `PAIRS` allows.
    """
    a, b = up.masked_fill(~free, -torch.inf), down.masked_fill(~free, torch.inf)
    candidate = _undominated(a, -b)
    size = max(2, int(candidate.sum(1).amax())) if len(a) else 2
    kept = candidate.to(torch.uint8).topk(size, dim=1).indices.sort(1).values
    found = torch.full((len(up), 2), -1, dtype=torch.long, device=up.device)
    for part in torch.arange(len(up), device=up.device).split(max(1, PAIRS // size**2)):
        rise, fall = a[part].gather(1, kept[part]), b[part].gather(1, kept[part])
        gain, loss = rise[:, :, None] + rise[:, None, :], fall[:, :, None] + fall[:, None, :]
        worth = (gain.clamp_(min=0) * loss.neg_().clamp_(min=0)).nan_to_num_(nan=0.0, posinf=0.0).triu_(1)
        value, place = worth.flatten(1).max(1)
        pair = kept[part].gather(1, torch.stack([place // size, place % size], 1))
        found[part] = torch.where(value[:, None] > 0, pair, -1)
    return found


def _undominated(a: Float[Tensor, "B D"], c: Float[Tensor, "B D"]) -> Bool[Tensor, "B D"]:
    """Which coordinates at most one other surpasses: is above in c and not below in a.

    A pair with the largest (a_p + a_q)(c_p + c_q), both factors above 0, is among these: of two that surpass a
    coordinate one is not in its pair yet, and serves it better.
    """
    order = a.argsort(1, descending=True)
    ordered = c.gather(1, order)
    most = ordered.cummax(1).values
    second = torch.minimum(ordered[:, 1:], most[:, :-1]).cummax(1).values  # the second largest c so far
    enough = torch.ones_like(ordered, dtype=torch.bool)
    enough[:, 1:] = ordered[:, 1:] >= second
    return torch.zeros_like(enough).scatter_(1, order, enough)
