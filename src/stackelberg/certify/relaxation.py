"""Between which two lines does an activation run?  On [l, u], for every coordinate, with one free parameter alpha.

ReLU and leaky ReLU: the chord above (Ehlers 2017), a line through zero of slope between those of its two pieces below
(Zhang et al. 2018, CROWN, section 3.2). Sigmoid and tanh: chords and tangents (the same, section 3.3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stackelberg.certify.nodes import Activation

_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Lines:
    """below * a + floor <= f(a) <= above * a + roof for l <= a <= u, up to the rounding of the node's `rate`."""

    below: Tensor
    floor: Tensor
    above: Tensor
    roof: Tensor


def lines(node: Activation, low: Tensor, high: Tensor, alpha: Tensor | None = None) -> Lines:
    """The two lines on [low, high]; alpha in [0, 1] (broadcasts) says which of all that are sound, None a good one."""
    if node.piecewise:
        return _bent(node.slope, low, high, alpha)
    return _curved(node, low, high, alpha)


def adaptive(low: Tensor, high: Tensor) -> Tensor:
    """The alpha of CROWN: the lower line of least area, slope 1 if u > -l, else the smaller slope."""
    return (high > -low).to(low.dtype)


def _bent(slope: float, low: Tensor, high: Tensor, alpha: Tensor | None) -> Lines:
    across = (low < 0) & (high > 0)
    width = torch.where(across, high - low, 1.0)
    chord = torch.where(across, (high - slope * low) / width, 0.0)
    side = torch.where(low >= 0, torch.ones_like(low), slope)
    free = slope + (1 - slope) * (adaptive(low, high) if alpha is None else alpha)
    roof = torch.where(across, (1 - chord) * high, 0.0)
    return Lines(torch.where(across, free, side), torch.zeros_like(low), torch.where(across, chord, side), roof)


def _curved(node: Activation, low: Tensor, high: Tensor, alpha: Tensor | None) -> Lines:
    """f is odd about its value at zero, so the line below on [l, u] is the line above on [-u, -l], turned round."""
    twice = 1.0 if node.kind == "sigmoid" else 0.0  # f(-a) = twice - f(a)
    part = torch.full_like(low, 0.5) if alpha is None else alpha
    above, roof = _above(node, low, high, part)
    below, under = _above(node, -high, -low, part)
    return Lines(below, twice - under, above, roof)


def _above(node: Activation, low: Tensor, high: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """(slope, offset) of a line above f, convex before zero and concave after it.

    With u <= 0 the chord. Else a tangent at any t in [t0, u], where t0 >= 0 is the first whose tangent is not below f
    at l; if there is none up to u, the chord again.
    """
    f, slope = node.apply, _derivative(node)
    start = low.clamp(min=0)
    ends = torch.maximum(high, start)
    inner, outer = start.clone(), ends.clone()
    for _ in range(_HALVINGS):
        middle = (inner + outer) / 2
        sound = f(middle) + slope(middle) * (low - middle) >= f(low)
        outer, inner = torch.where(sound, middle, outer), torch.where(sound, inner, middle)
    first = torch.where(low >= 0, start, outer)
    place = first + part * (ends - first)
    tangent = slope(place)
    width = high - low
    chord = torch.where(width > 1e-9, (f(high) - f(low)) / width.clamp(min=1e-9), 0.0)
    touches = (high > 0) & (f(ends) + slope(ends) * (low - ends) >= f(low))
    return (
        torch.where(touches, tangent, chord),
        torch.where(touches, f(place) - tangent * place, f(high) - chord * high),
    )


def _derivative(node: Activation) -> Callable[[Tensor], Tensor]:
    if node.kind == "sigmoid":
        return lambda a: a.sigmoid() * (1 - a.sigmoid())
    return lambda a: 1 - a.tanh() ** 2
