"""Where is the boundary, as the gradient sees it?  The nearest point of a hyperplane inside the box, for every norm.

FAB and DeepFool linearise the gap g = z_k - z_y at a point and go to the nearest point at which the linear gap is
zero. The projection here is exact, box included (Croce and Hein 2020, "Minimally distorted adversarial examples",
section 2.2), and a sort per example.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stackelberg.attacks.hunt import Hunt
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.payoff import lead, others


def to_boundary(
    slope: Float[Tensor, " B *shape"], gap: Float[Tensor, " B"], point: Float[Tensor, " B *shape"], ball: Ball
) -> Float[Tensor, " B *shape"]:
    """argmin ||d|| over gap + <slope, d> = 0 with low <= point + d <= high, in the ball's norm; one d [B, *shape].

    linf and l2: d_j = s_j min(t r_j, room_j) with s_j the sign of help, r_j = 1 or |slope_j|, and t from a sum that
    is piecewise linear in t. l1: the steepest coordinates first, each as far as there is room. Where the box is too
    small for the boundary, every coordinate goes as far as it may.
    """
    size = slope.flatten(1).double().abs()
    help_ = (-gap).sign().double()[:, None] * slope.flatten(1).sign().double()
    flat = point.flatten(1).double()
    room = torch.where(help_ > 0, ball.high - flat, flat - ball.low).clamp_(min=0)
    need = gap.double().abs()[:, None]
    length = _by_slope(size, room, need) if ball.norm == "l1" else _by_room(size, room, need, ball.norm == "l2")
    return (help_ * length).to(point.dtype).view_as(point)


def _by_room(size: Tensor, room: Tensor, need: Tensor, euclidean: bool) -> Tensor:
    """min(t r, room) with sum_j size_j min(t r_j, room_j) = need, r = size or 1."""
    rate = size if euclidean else torch.ones_like(size)
    kink = torch.where(rate > 0, room / rate.clamp(min=1e-300), 0.0)
    kink, order = kink.sort(dim=1)
    gain = (size * rate).gather(1, order)
    left = gain.sum(1, keepdim=True) - gain.cumsum(1)  # of the rates, beyond each kink
    spent = (size * room).gather(1, order).cumsum(1)
    reached = spent + kink * left
    place = (reached < need).sum(1, keepdim=True)
    last = size.shape[1] - 1
    before = torch.where(place > 0, spent.gather(1, (place - 1).clamp(min=0)), 0.0)
    rest = torch.where(
        place > 0, left.gather(1, (place - 1).clamp(min=0)), gain.sum(1, keepdim=True)
    )  # rates not yet at their kink
    t = torch.where(place <= last, (need - before) / rest.clamp(min=1e-300), torch.inf)
    t = torch.where(need > 0, t, 0.0)
    return torch.where(rate > 0, torch.minimum(t.clamp(max=1e300) * rate, room), 0.0)


def _by_slope(size: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """The steepest coordinates take all their room, one a part of it, the others none."""
    steep, order = size.sort(dim=1, descending=True, stable=True)
    width = room.gather(1, order)
    before = (steep * width).cumsum(1) - steep * width
    taken = torch.minimum(((need - before) / steep.clamp(min=1e-300)).clamp(min=0), width)
    return torch.zeros_like(size).scatter_(1, order, torch.where(steep > 0, taken, 0.0))


def dual_size(gradient: Float[Tensor, " B *shape"], norm: str) -> Float[Tensor, " B"]:
    """||gradient|| in the norm dual to the ball's; for l0, which has none, in l1."""
    order = {"linf": 1, "l2": 2, "l1": math.inf, "l0": 1}[norm]
    return torch.linalg.vector_norm(gradient.flatten(1), ord=order, dim=1)


def refuse_l0(name: str, ball: Ball) -> None:
    """The nearest point of a hyperplane in l0 is no projection."""
    if ball.norm == "l0":
        raise StackelbergError(f"{name} is defined for linf, l2 and l1, got norm 'l0'; use attacks.JSMA")


def rivals(hunt: Hunt, index: Int64[Tensor, " b"], count: int) -> Int64[Tensor, "b T"]:
    """The classes with the `count` largest logits besides the label, at the clean inputs."""
    logits = hunt.oracle.logits(hunt.x[index])
    return others(logits, hunt.y[index]).topk(min(count, logits.shape[1] - 1), dim=1).indices


def linear_gap(
    hunt: Hunt, index: Int64[Tensor, " b"], points: Float[Tensor, " b *shape"], classes: Int64[Tensor, "b T"] | None
) -> tuple[Float[Tensor, " b *shape"], Float[Tensor, " b"], Bool[Tensor, " b"]]:
    """(slope, gap, whether wrong) at `points`: of the classes' gaps z_k - z_y the one whose boundary is nearest.

    With `classes` None the gap is the hunt's own: to the nearest other class, or towards the hunt's target. What lies
    in the hunt's ball is scored on the way.
    """
    inside = hunt.ball.contains(points, hunt.x[index])
    if classes is None:
        slope, gap = hunt.ask(index, points, lambda z, i: hunt.score(z, i), inside)
        return slope, gap, gap > 0
    y, found, near = hunt.y[index], None, torch.full((len(index),), torch.inf, device=points.device)
    wrong = torch.zeros_like(near, dtype=torch.bool)
    for column in classes.T:

        def towards(z: Tensor, _: Tensor, k: Tensor = column) -> Tensor:
            return lead(z, y, k)

        slope, gap = hunt.ask(index, points, towards, inside)
        wrong |= gap > 0
        away = gap.abs() / dual_size(slope, hunt.ball.norm).clamp(min=1e-12)
        nearer = away < near
        near = torch.where(nearer, away, near)
        if found is None:
            found = (slope, gap)
        else:
            wide = nearer.view(-1, *[1] * (slope.dim() - 1))
            found = (torch.where(wide, slope, found[0]), torch.where(nearer, gap, found[1]))
    assert found is not None
    return *found, wrong
