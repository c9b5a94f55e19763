"""What values may an activation take?  A box that encloses what the float network computes, not only what it should.

Invariant of every `Region`: for each input x' in the ball, the activation *as the network computes it*, in its own
precision with unit roundoff u, lies in [low, high]. A sum of n products computed in any order, with or without fused
multiply-add, is off by at most gamma_n * sum |w_j x_j|, gamma_n = n u / (1 - n u) (Higham 2002, Accuracy and
Stability of Numerical Algorithms, lemma 3.1); each rule widens its interval by that much. The bounds themselves are
computed in float64; their own rounding, some n 2^-53, is paid for by two more roundings u in gamma_(n+2).
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from stackelberg.threat import Ball

TINY = 2.0**-120  # pays for products and sums that underflow: far more than 2^-126 for each of them
Constant: TypeAlias = Tensor | float | int


@dataclass(frozen=True)
class Arithmetic:
    """Whose roundings are paid for, and in which precision the bounds are computed.

    Attributes:
        unit: roundoff of the network's arithmetic; 0 to pay for none.
        factors: relative error of a product's factors taken together.
        dtype: of the bounds.
    """

    unit: float = 2.0**-24
    factors: float = 0.0
    dtype: torch.dtype = torch.float64


_SINGLE = Arithmetic()
_arithmetic: ContextVar[Arithmetic] = ContextVar("arithmetic", default=_SINGLE)


@contextlib.contextmanager
def rounding_of(model: torch.nn.Module) -> Iterator[None]:
    """Inside, `gamma` speaks of this model's arithmetic: its parameters' precision, and TF32 products on a GPU.

    On CUDA the factors of a matrix product or convolution may first be rounded to TF32 (unit roundoff 2^-11 each), so
    that is assumed there whatever the present flags are.
    """
    kinds = [p for p in model.parameters() if p.is_floating_point()]
    unit = max((torch.finfo(p.dtype).eps / 2 for p in kinds), default=2.0**-24)
    factors = 2.0**-9 if any(p.is_cuda for p in kinds) else 0.0  # (1 + 2^-11)^2 - 1 < 2^-9
    with _arithmetic_of(Arithmetic(unit, factors)):
        yield


@contextlib.contextmanager
def _arithmetic_of(arithmetic: Arithmetic) -> Iterator[None]:
    token = _arithmetic.set(arithmetic)
    try:
        yield
    finally:
        _arithmetic.reset(token)


def without_rounding(dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Inside, bounds are computed in `dtype` and pay for no rounding: quick, differentiable, and no proof."""
    return _arithmetic_of(Arithmetic(0.0, 0.0, dtype))


def precision() -> torch.dtype:
    """Of the bounds."""
    return _arithmetic.get().dtype


def working(values: Tensor) -> Tensor:
    """In the precision of the bounds."""
    return values.to(precision())


def gamma(roundings: int, products: bool = False) -> float:
    """The relative error after so many roundings, with two more for the bound's own arithmetic."""
    now = _arithmetic.get()
    part = (roundings + 2) * now.unit
    return math.inf if part >= 0.5 else part / (1 - part) + (now.factors if products else 0.0)


@dataclass(frozen=True, eq=False)
class Origin:
    """An activation that is still a diagonal map of the input: computed value = scale * x' + shift, off by <= error.

    Attributes:
        ball: the ball in which x' lies, seen by `dual`.
        centre: scale * x + shift, float64 [B, *shape].
        scale: float64 [B, *shape], the same for every example.
        error: bound of the rounding so far, float64 [B, *shape].
    """

    ball: Ball
    centre: Tensor
    scale: Tensor
    error: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Origin":
        """The same after a rearrangement of coordinates."""
        return Origin(self.ball, change(self.centre), change(self.scale), change(self.error))

    def affine(self, factor: Constant, shift: Constant) -> "Origin":
        """factor * value + shift, with three roundings."""
        centre = self.centre * factor + shift
        scale = (self.scale * factor).expand_as(centre)
        error = abs(factor) * self.error + gamma(3) * (abs(factor) * self.reach() + abs(shift)) + TINY
        return Origin(self.ball, centre, scale, error.expand_as(centre))

    def reach(self) -> Tensor:
        """max |computed value| over the ball, [B, *shape]."""
        return self.centre.abs() + self.scale.abs() * reach(self.ball) + self.error

    def dual(self, rows: Tensor) -> Tensor:
        """max <row, x' - x> over the ball without its box, per row, from rows [..., n] in units of x: dual norms."""
        if self.ball.norm == "l2":
            size = rows.norm(dim=-1)
        elif self.ball.norm == "l1":
            size = rows.abs().amax(-1)
        else:
            size = rows.abs().topk(min(int(reach(self.ball)), rows.shape[-1]), dim=-1).values.sum(-1)
            return size * (self.ball.high - self.ball.low) * (1 + 1e-9)
        return size * reach(self.ball) * (1 + 1e-9)


@dataclass(frozen=True, eq=False)
class Region:
    """low <= computed activation <= high, float64 [B, *shape]; `origin` while it is a diagonal map of the input."""

    low: Tensor
    high: Tensor
    origin: Origin | None = None

    @property
    def shape(self) -> torch.Size:
        return self.low.shape

    @property
    def centre(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def radius(self) -> Tensor:
        return (self.high - self.low) / 2

    @property
    def magnitude(self) -> Tensor:
        """max |value|."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def map(self, change: Callable[[Tensor], Tensor]) -> "Region":
        """The same after an exact rearrangement of coordinates."""
        return Region(change(self.low), change(self.high), None if self.origin is None else self.origin.map(change))

    def monotone(self, function: Callable[[Tensor], Tensor], roundings: int = 0) -> "Region":
        """After a non-decreasing function that the network computes with so many roundings."""
        return widened(
            function(self.low.clone()), function(self.high.clone()), roundings
        )  # some write over their input


def widened(low: Tensor, high: Tensor, roundings: int, magnitude: Tensor | None = None) -> Region:
    """[low, high] with room for so many roundings of numbers of size `magnitude` (default: of the result)."""
    if not roundings:
        return Region(low, high)
    size = torch.maximum(low.abs(), high.abs()) if magnitude is None else magnitude
    slack = gamma(roundings) * size + TINY
    return Region(low - slack, high + slack)


def reach(ball: Ball) -> float:
    """The radius within which the bounds hold: all that `Ball.contains` accepts, its tolerance included."""
    return ball.radius * (1 + 1e-5) + (1e-7 if ball.norm != "l0" else 0)


def input_region(x: Tensor, ball: Ball) -> Region:
    """The box around ball and box together, and for l2, l1, l0 the ball itself for the first affine layer."""
    centre = working(x)
    moves = (math.inf if reach(ball) >= 1 else 0.0) if ball.norm == "l0" else reach(ball)
    low, high = (centre - moves).clamp(min=ball.low), (centre + moves).clamp(max=ball.high)
    if ball.norm == "linf":
        return Region(low, high)
    return Region(low, high, Origin(ball, centre, torch.ones_like(centre), torch.zeros_like(centre)))
