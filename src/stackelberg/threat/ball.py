"""What may the adversary do?  Move an example inside a ball of a norm, and stay inside the box of valid inputs.

Every operation on a ball is written here once, for all four norms: a move is a `delta` with ||delta|| <= radius and
low <= x + delta <= high. Projections are onto the intersection of ball and box, exactly, in one step: projecting on
one after the other is not the nearest point (for l1 and l2), and costs an attack part of its budget.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import chance

Norm = Literal["linf", "l2", "l1", "l0"]


def parse_radius(text: str | float) -> float:
    """A radius in input units from a number or a fraction.

    >>> parse_radius("8/255") == 8 / 255
    True
    """
    try:
        top, _, bottom = str(text).partition("/")
        value = float(top) / float(bottom) if bottom else float(top)
    except (ValueError, ZeroDivisionError):
        raise StackelbergError(
            f"radius must be a number or a fraction like 8/255 in input units, got {text!r}"
        ) from None
    return value


@dataclass(frozen=True)
class Ball:
    """The set {x' : ||x' - x|| <= radius, low <= x' <= high} around each example x.

    Attributes:
        norm: "linf", "l2", "l1", or "l0" (how many coordinates may change, channels counted singly).
        radius: in input units (inputs lie in [low, high]); for l0 a count. 0 allows no change.
        low: smallest valid input.
        high: largest valid input.
    """

    norm: Norm
    radius: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise unknown("norm", str(self.norm), get_args(Norm))
        if not self.low < self.high:
            raise StackelbergError(f"low must be below high, got low={self.low}, high={self.high}")
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise StackelbergError(
                f"radius must be a number >= 0 in input units, got {self.radius}; for 8 grey levels pass 8/255"
            )
        if self.norm == "linf" and self.radius >= self.high - self.low:
            raise StackelbergError(
                f"radius {self.radius:g} covers the whole input range [{self.low:g}, {self.high:g}], so every claim about it"
                f" is empty; pass a radius below {self.high - self.low:g}, for 8 grey levels 8/255"
            )

    def with_radius(self, radius: float) -> "Ball":
        """The same threat at another radius."""
        return replace(self, radius=radius)

    def distance(self, a: Float[Tensor, " B *shape"], b: Float[Tensor, " B *shape"]) -> Float[Tensor, " B"]:
        """||a - b|| per example, in this ball's norm."""
        delta = (a - b).flatten(1)
        if self.norm == "l0":
            return (delta != 0).sum(1).to(a.dtype)
        order = {"linf": math.inf, "l2": 2, "l1": 1}[self.norm]
        return torch.linalg.vector_norm(delta, ord=order, dim=1)

    def contains(
        self, moved: Float[Tensor, " B *shape"], x: Float[Tensor, " B *shape"], tolerance: float = 1e-5
    ) -> Bool[Tensor, " B"]:
        """Whether each moved example lies in the ball around x and in the box, up to `tolerance` of the radius."""
        inside = self.distance(moved, x) <= self.radius * (1 + tolerance) + (1e-7 if self.norm != "l0" else 0)
        flat = moved.flatten(1)
        return inside & (flat >= self.low).all(1) & (flat <= self.high).all(1)

    def project(self, moved: Float[Tensor, " B *shape"], x: Float[Tensor, " B *shape"]) -> Float[Tensor, " B *shape"]:
        """argmin ||z - moved||_2 over z in ball and box (x must lie in the box); exact for every norm."""
        if self.norm == "linf":
            low = (x - self.radius).clamp_(min=self.low)
            high = (x + self.radius).clamp_(max=self.high)
            return moved.clamp(low, high)
        u = (moved - x).flatten(1)
        low, high = (self.low - x).flatten(1), (self.high - x).flatten(1)
        solve = {"l2": _project_l2, "l1": _project_l1, "l0": _project_l0}[self.norm]
        delta = solve(u, low, high, self.radius)
        # x + (low - x) may round to a neighbour of low: the box holds exactly
        return (x + delta.view_as(x)).clamp_(self.low, self.high)

    def sample(self, x: Float[Tensor, " B *shape"], keys: Int64[Tensor, " B"]) -> Float[Tensor, " B *shape"]:
        """A random point of the set per example, from the example's own key (see `chance`).

        linf: uniform on the intersection of ball and box. l2, l1: uniform in the ball, then projected (jointly). l0:
        `radius` random coordinates, each uniform in the box.
        """
        shape = tuple(x.shape[1:])
        if self.norm == "linf":
            low = (x - self.radius).clamp_(min=self.low)
            high = (x + self.radius).clamp_(max=self.high)
            return (low + (high - low) * chance.uniform(keys, shape)).clamp_(self.low, self.high)
        if self.norm == "l0":
            order = chance.uniform(keys, shape).flatten(1)
            count = min(int(self.radius), order.shape[1])
            chosen = torch.zeros_like(order).scatter_(1, order.topk(count, dim=1).indices, 1.0).view_as(x)
            return torch.where(chosen.bool(), self.low + (self.high - self.low) * chance.uniform(keys, shape, 1), x)
        size = math.prod(shape)
        depth = chance.uniform(keys, (1,), 1) ** (1 / size) * self.radius
        if self.norm == "l2":
            u = chance.normal(keys, shape).flatten(1)
            u = u / u.norm(dim=1, keepdim=True) * depth
        else:  # l1: exponential magnitudes with random signs are uniform on the sphere
            u = -torch.log(chance.uniform(keys, shape)).flatten(1)
            u = u / u.sum(1, keepdim=True) * depth
            u = u * torch.where(chance.uniform(keys, shape, 2).flatten(1) < 0.5, -1.0, 1.0)
        return self.project(x + u.view_as(x).to(x.dtype), x)

    def ascent(
        self,
        gradient: Float[Tensor, " B *shape"],
        moved: Float[Tensor, " B *shape"],
        coordinates: int | Int64[Tensor, " B"] = 1,
    ) -> Float[Tensor, " B *shape"]:
        """The unit step of steepest ascent, argmax <gradient, d> over ||d|| <= 1, that does not leave the box at once.

        l1 and l0 spread the step over the `coordinates` largest usable gradients, a number for all or one per example
        (1 is the exact argmax; more is the sparse step of Tramer and Boneh 2019). A zero gradient gives a zero step.
        """
        if self.norm == "linf":
            return gradient.sign()
        stuck = ((moved <= self.low) & (gradient < 0)) | ((moved >= self.high) & (gradient > 0))
        usable = gradient.masked_fill(stuck, 0).flatten(1)
        if self.norm == "l2":
            step = usable / usable.norm(dim=1, keepdim=True).clamp_(min=torch.finfo(gradient.dtype).tiny)
        else:
            step = usable.sign() * _largest(usable.abs(), coordinates)
            if self.norm == "l1":
                step = step / step.abs().sum(1, keepdim=True).clamp_(min=1)
        return step.view_as(gradient)


def _largest(size: Tensor, count: int | Tensor) -> Tensor:
    """1.0 at the `count` largest entries of each row, else 0.0."""
    most = min(int(count.max()) if isinstance(count, Tensor) else count, size.shape[1])
    places = size.topk(most, dim=1).indices
    ones = torch.ones(places.shape, dtype=size.dtype, device=size.device)
    if isinstance(count, Tensor):
        ones = (torch.arange(most, device=size.device) < count[:, None]).to(size.dtype)
    return torch.zeros_like(size).scatter_(1, places, ones)


def _project_l2(u: Tensor, low: Tensor, high: Tensor, radius: float) -> Tensor:
    """argmin ||d - u||_2 with low <= d <= high, ||d||_2 <= radius: d = clip(s u, low, high), s in [0, 1] exact.

    ||clip(s u)||^2 = s^2 * (sum of u_j^2 still free) + (sum of bounds^2 reached): s lies between two breakpoints.
    """
    clipped = u.clamp(low, high)
    over = clipped.norm(dim=1) > radius
    if not over.any():
        return clipped
    v = u[over].double()
    bound = torch.where(v > 0, high[over].double(), -low[over].double())  # >= 0: how far |d_j| may go
    size = v.abs()
    at = torch.where(size > 0, bound / size.clamp(min=1e-300), torch.inf)  # s at which coordinate j reaches its bound
    at, order = at.sort(dim=1)
    free = (size**2).gather(1, order)
    fixed = torch.where(at.isfinite(), (bound**2).gather(1, order), 0.0)
    zero = torch.zeros(len(v), 1, dtype=v.dtype, device=v.device)
    reached = torch.cat([zero, fixed.cumsum(1)], 1)  # [., j]: coordinates 0..j-1 at their bounds
    left = torch.cat([free.flip(1).cumsum(1).flip(1), zero], 1)
    s = ((radius**2 - reached).clamp(min=0) / left.clamp(min=1e-300)).sqrt()
    start = torch.cat([zero, at], 1)
    end = torch.cat([at, torch.full_like(zero, torch.inf)], 1)
    fits = (s >= start * (1 - 1e-12)) & (s <= end * (1 + 1e-12)) & (left > 0)
    index = fits.to(torch.uint8).argmax(1, keepdim=True)
    scale = torch.where(fits.any(1, keepdim=True), s.gather(1, index), 1.0).clamp(max=1.0)
    out = clipped.clone()
    out[over] = (v * scale).clamp(low[over].double(), high[over].double()).to(u.dtype)
    return out


def _project_l1(u: Tensor, low: Tensor, high: Tensor, radius: float) -> Tensor:
    """argmin ||d - u||_2 with low <= d <= high, ||d||_1 <= radius: |d_j| = clip(|u_j| - t, 0, bound_j), t >= 0 exact.

    The sum over j is piecewise linear and falls in t, with kinks at |u_j| and |u_j| - bound_j (Croce and Hein 2021).
    """
    clipped = u.clamp(low, high)
    over = clipped.abs().sum(1) > radius
    if not over.any():
        return clipped
    v = u[over].double()
    size = v.abs()
    bound = torch.where(v > 0, high[over].double(), -low[over].double())
    # the slope of sum_j clip(size - t, 0, bound) changes by -1 at t = size - bound, by +1 at t = size
    kinks = torch.cat([(size - bound), size], 1)
    change = torch.cat([-torch.ones_like(size), torch.ones_like(size)], 1)
    kinks, order = kinks.sort(dim=1)
    slope = change.gather(1, order).cumsum(1)  # on [kinks_i, kinks_i+1]
    fall = torch.cat([torch.zeros_like(kinks[:, :1]), (slope[:, :-1] * kinks.diff(dim=1)).cumsum(1)], 1)
    total = bound.sum(1, keepdim=True) + fall  # sum at each kink, non-increasing
    index = ((total >= radius).sum(1, keepdim=True) - 1).clamp(min=0)
    gap = (total.gather(1, index) - radius) / (-slope.gather(1, index)).clamp(min=1)
    threshold = (kinks.gather(1, index) + gap).clamp(min=0)
    magnitude = torch.minimum((size - threshold).clamp(min=0), bound)
    out = clipped.clone()
    out[over] = (magnitude * v.sign()).to(u.dtype)
    return out


def _project_l0(u: Tensor, low: Tensor, high: Tensor, radius: float) -> Tensor:
    """Keep the floor(radius) coordinates whose clipped move saves most of ||d - u||^2, drop the others."""
    clipped = u.clamp(low, high)
    count = min(int(radius), u.shape[1])
    saved = u**2 - (u - clipped) ** 2
    kept = torch.zeros_like(u).scatter_(1, saved.topk(count, dim=1).indices, 1.0)
    return clipped * kept
