"""What happens at each step of a network?  An affine map of earlier activations, or one function of each coordinate."""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from stackelberg.certify.maps import Map, cast
from stackelberg.certify.region import TINY

EXACT = 2.0**-40
"""The least relative error any node is charged with: what the bounds' own float64 arithmetic may lose there."""


@dataclass(frozen=True, eq=False)
class Input:
    """The network's input.

    Attributes:
        shape: of one example.
    """

    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Affine:
    """sum_j W_j a_j + constant, which the network computes up to (rate + each) * (sum_j |W_j| |a_j| + size).

    Attributes:
        inputs: numbers of the earlier nodes a_j.
        maps: W_j, one for each.
        constant: broadcasts to [1, *shape], float64.
        size: magnitude of the constant parts as the network adds them, broadcasts to [1, *shape].
        rate: relative rounding error of the additions, at least `EXACT`.
        shape: of one example's result.
        each: relative rounding error of every product before it is added; None where the node is no plain sum of
            products, so that `rate` is all.
    """

    inputs: tuple[int, ...]
    maps: tuple[Map, ...]
    constant: Tensor
    size: Tensor
    rate: float
    shape: tuple[int, ...]
    each: float | None = None

    def apply(self, parts: list[Tensor]) -> Tensor:
        """The exact value from those of the inputs, [B, *shape]."""
        return self.linear(parts) + self.constant

    def linear(self, parts: list[Tensor]) -> Tensor:
        """sum_j W_j a_j."""
        return sum_of([m.apply(a) for m, a in zip(self.maps, parts, strict=True)])

    def magnitude(self, parts: list[Tensor]) -> Tensor:
        """sum_j |W_j| a_j for a_j >= 0."""
        return sum_of([m.size(a) for m, a in zip(self.maps, parts, strict=True)])

    def rounding(self, parts: list[Tensor]) -> Tensor:
        """How far the network's own result may be off where |a_j| <= parts_j."""
        return (self.rate + (self.each or 0.0)) * (self.magnitude(parts) + self.size) + TINY

    def drift(self, lows: list[Tensor], highs: list[Tensor]) -> Tensor:
        """How far the network's own result may be off where lows_j <= a_j <= highs_j; mostly half of `rounding`.

        Each addition, in whatever order, rounds a partial sum, and that lies between minus the sum N of all negative
        products and the sum P of all positive ones: the additions lose rate * max(P, N), not rate * (P + N). With up
        the positive and down the negative reach of the a_j, 2 max(P, N) <= |W| (up + down) + |W (up - down)| + 2 size.
        """
        reach = [torch.maximum(a.abs(), b.abs()) for a, b in zip(lows, highs, strict=True)]
        whole = self.magnitude(reach) + self.size
        if self.each is None:
            return self.rate * whole + TINY
        up, down = [b.clamp(min=0) for b in highs], [(-a).clamp(min=0) for a in lows]
        both = self.magnitude([a + b for a, b in zip(up, down, strict=True)])
        apart = self.linear([a - b for a, b in zip(up, down, strict=True)]).abs()
        return self.rate * torch.minimum((both + apart) / 2 + self.size, whole) + self.each * whole + TINY

    def to(self, dtype: torch.dtype) -> "Affine":
        """The same in another precision."""
        return replace(cast(self, dtype), maps=tuple(cast(m, dtype) for m in self.maps))


@dataclass(frozen=True, eq=False)
class Activation:
    """One non-decreasing function of each coordinate: "relu", "leaky" (slope a for a < 0), "sigmoid" or "tanh".

    Attributes:
        input: number of the earlier node.
        kind: of function.
        slope: of a leaky ReLU below zero, in [0, 1]; 0 for the others.
        rate: relative rounding error of the network's own evaluation, at least `EXACT`.
        shape: of one example.
    """

    input: int
    kind: str
    slope: float
    rate: float
    shape: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """As a tuple, as an affine node has them."""
        return (self.input,)

    @property
    def piecewise(self) -> bool:
        """Whether it is linear on either side of zero."""
        return self.kind in ("relu", "leaky")

    def apply(self, a: Tensor) -> Tensor:
        """The exact value."""
        if self.kind == "relu":
            return a.relu()
        if self.kind == "leaky":
            return F.leaky_relu(a, self.slope)
        return a.sigmoid() if self.kind == "sigmoid" else a.tanh()


Node: TypeAlias = Input | Affine | Activation


def sum_of(terms: list[Tensor]) -> Tensor:
    """The sum of at least one tensor."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def width(node: Node) -> int:
    """How many coordinates."""
    return math.prod(node.shape)
