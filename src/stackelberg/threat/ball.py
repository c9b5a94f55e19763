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


def parse_radius(text: str | float | int) -> float:
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
        low: smallest valid input; 0 and 1 are those of images, clouds of points have their own (`Dataset.box`).
        high: largest valid input.

    >>> ball, x = Ball("linf", 8 / 255), torch.full((1, 3, 2, 2), 0.99)
    >>> float(ball.project(x + 0.5, x).max())  # the box ends sooner than the ball
    1.0
    """

    norm: str
    radius: float | int
    low: float | int = 0.0
    high: float | int = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if self.norm not in get_args(Norm):
            raise unknown("norm", self.norm, get_args(Norm))
        if not self.low < self.high:
            raise StackelbergError(f"low must be below high, got low={self.low}, high={self.high}")
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise StackelbergError(
                f"radius must be a number >= 0 in input units, got {self.radius}; for 8 grey levels pass 8/255"
            )
        if self.norm == "linf" and self.radius >= self.high - self.low:
            raise StackelbergError(
                f"radius {self.radius:g} covers the whole input range [{self.low:g}, {self.high:g}], so every claim"
                f" about it is empty; pass a radius below {self.high - self.low:g}, for 8 grey levels 8/255"
            )

    def with_radius(self, radius: float | int) -> "Ball":
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


def _project_l2(u: Tensor, low: Tensor, high: Tensor, radius: float | int) -> Tensor:
    """argmin ||d - u||_2 with low <= d <= high, ||d||_2 <= radius: d = clip(s u, low, high), s in [0, 1].

    With a_j = |u_j| and b_j the bound on u_j's side, ||d||^2 = s^2 * (sum of the a_j^2 with s a_j < b_j) + (sum of the
    other b_j^2). Solving this for s with the coordinates that reach their bound at a smaller s raises s, and never
    beyond the solution; when no further coordinate reaches its bound, s is exact.
    """
    clipped = u.clamp(low, high)
    over = (torch.linalg.vector_norm(clipped, dim=1) > radius).nonzero()[:, 0]
    if not len(over):
        return clipped
    v, low, high = (u, low, high) if len(over) == len(u) else (u[over], low[over], high[over])
    bound = torch.where(v > 0, high, -low).clamp_(min=0)
    size, bound_2 = v.abs(), bound**2
    size_2 = size**2
    scale, reached = torch.zeros(len(v), 1, dtype=torch.float64, device=v.device), torch.full_like(v[:, 0], -1)
    while True:
        fixed = size * scale.to(v.dtype) >= bound
        now = fixed.sum(1).to(v.dtype)
        if (now == reached).all():
            break
        reached = now
        free = torch.where(fixed, 0, size_2).sum(1, keepdim=True, dtype=torch.float64)
        spent = torch.where(fixed, bound_2, 0).sum(1, keepdim=True, dtype=torch.float64)
        root = ((radius**2 - spent).clamp_(min=0) / free.clamp(min=1e-300)).sqrt_()
        scale = torch.maximum(scale, torch.where(free > 0, root, scale)).clamp_(max=1)
    inside = torch.minimum(torch.maximum(v * scale.to(v.dtype), low), high)
    return inside if len(over) == len(u) else clipped.index_copy(0, over, inside)


def _project_l1(u: Tensor, low: Tensor, high: Tensor, radius: float | int) -> Tensor:
    """argmin ||d - u||_2 with low <= d <= high, ||d||_1 <= radius: |d_j| = clip(|u_j| - t, 0, bound_j), t >= 0.

    The sum over j is piecewise linear and falls in t, with kinks at |u_j| and |u_j| - bound_j (Croce and Hein 2021): t
    is found by Newton steps inside a shrinking bracket, to the rounding of the sum.
    """
    clipped = u.clamp(low, high)
    over = (clipped.abs().sum(1) > radius).nonzero()[:, 0]
    if not len(over):
        return clipped
    v, low, high = u[over], low[over], high[over]
    size, bound = v.abs(), torch.where(v > 0, high, -low).clamp_(min=0)
    threshold = _threshold(size, bound, radius)
    magnitude = torch.minimum((size - threshold).clamp_(min=0), bound)
    total = magnitude.sum(1, keepdim=True, dtype=torch.float64).clamp_(min=torch.finfo(torch.float64).tiny)
    magnitude = magnitude * (radius / total).clamp_(max=1).to(u.dtype)  # what rounding left above the radius
    return clipped.index_copy(0, over, magnitude.copysign(v))


def _threshold(size: Tensor, bound: Tensor, radius: float | int) -> Tensor:
    """t [b, 1] with sum_j clip(size_j - t, 0, bound_j) = radius in every row, where t = 0 gives more."""
    found = torch.zeros(len(size), 1, dtype=size.dtype, device=size.device)
    rows = torch.arange(len(size), device=size.device)
    below, above = torch.zeros_like(found, dtype=torch.float64), size.amax(1, keepdim=True).double()
    t = below
    slack = 4 * torch.finfo(size.dtype).eps * radius
    for _ in range(100):  # bisection alone needs fewer than 64 for 64-bit numbers
        left = (size - t.to(size.dtype)).clamp_(min=0)
        excess = torch.minimum(left, bound).sum(1, keepdim=True, dtype=torch.float64) - radius
        free = ((left > 0) & (left < bound)).sum(1, keepdim=True)
        below, above = torch.where(excess >= 0, t, below), torch.where(excess <= 0, t, above)
        done = (excess.abs() <= slack) | (above - below <= torch.finfo(size.dtype).eps * above)
        newton = t + excess / free
        found[rows] = t.to(size.dtype)
        if done.all():
            break
        inner = (newton > below) & (newton < above)
        t = torch.where(inner, newton, (below + above) / 2)
        todo = ~done[:, 0]
        if not todo.all():
            rows, size, bound, below, above, t = (z[todo] for z in (rows, size, bound, below, above, t))
    return found


def _project_l0(u: Tensor, low: Tensor, high: Tensor, radius: float | int) -> Tensor:
    """Keep the floor(radius) coordinates whose clipped move saves most of ||d - u||^2, drop the others."""
    clipped = u.clamp(low, high)
    count = min(int(radius), u.shape[1])
    saved = u**2 - (u - clipped) ** 2
    kept = torch.zeros_like(u).scatter_(1, saved.topk(count, dim=1).indices, 1.0)
    return clipped * kept
