"""Which linear maps W are networks made of?

Each has `apply(a)` = W a, `transpose(a)` = W^T a and `size(a)` = |W| a, entry by entry; all work on any number of rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Scale:
    """factor * a elementwise; `factor` broadcasts to one row [1, *shape]."""

    factor: Tensor

    def apply(self, a: Tensor) -> Tensor:
        return a * self.factor

    def transpose(self, a: Tensor) -> Tensor:
        return a * self.factor

    def size(self, a: Tensor) -> Tensor:
        return a * self.factor.abs()


@dataclass(frozen=True, eq=False)
class Same:
    """a, or -a."""

    sign: float = 1.0

    def apply(self, a: Tensor) -> Tensor:
        return a if self.sign > 0 else -a

    def transpose(self, a: Tensor) -> Tensor:
        return self.apply(a)

    def size(self, a: Tensor) -> Tensor:
        return a


@dataclass(frozen=True, eq=False)
class Matrix:
    """weight [out, in] on the last coordinate."""

    weight: Tensor

    def apply(self, a: Tensor) -> Tensor:
        return F.linear(a, self.weight)

    def transpose(self, a: Tensor) -> Tensor:
        return F.linear(a, self.weight.T)

    def size(self, a: Tensor) -> Tensor:
        return F.linear(a, self.weight.abs())


@dataclass(frozen=True, eq=False)
class Convolution:
    """Cross-correlation with weight [out, in / groups, h, w], zero padding, as torch.nn.functional.conv2d."""

    weight: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    before: tuple[int, ...]

    def _convolved(self, a: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(a, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def apply(self, a: Tensor) -> Tensor:
        return self._convolved(a, self.weight)

    def transpose(self, a: Tensor) -> Tensor:
        left = [
            side - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
            for side, out, s, p, d, k in zip(
                self.before[-2:], a.shape[-2:], self.stride, self.padding, self.dilation, self.weight.shape[2:],
                strict=True,
            )
        ]  # fmt: skip
        return F.conv_transpose2d(a, self.weight, None, self.stride, self.padding, left, self.groups, self.dilation)

    def size(self, a: Tensor) -> Tensor:
        return self._convolved(a, self.weight.abs())


@dataclass(frozen=True, eq=False)
class Reshape:
    """Other coordinates for the same numbers in the same order."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def apply(self, a: Tensor) -> Tensor:
        return a.reshape(-1, *self.after)

    def transpose(self, a: Tensor) -> Tensor:
        return a.reshape(-1, *self.before)

    def size(self, a: Tensor) -> Tensor:
        return self.apply(a)


@dataclass(frozen=True, eq=False)
class Pick:
    """The entries of a row at `places` (flat positions, -1 for a zero) in a new `after` shape: slices, pads, windows.

    Every rearrangement that copies is one of these; its transpose adds up.
    """

    places: Tensor
    before: tuple[int, ...]
    after: tuple[int, ...]

    def apply(self, a: Tensor) -> Tensor:
        flat = a.reshape(len(a), -1)
        picked = flat[:, self.places.clamp(min=0)]
        return (picked * (self.places >= 0).to(a.dtype)).reshape(-1, *self.after)

    def transpose(self, a: Tensor) -> Tensor:
        kept = a.reshape(len(a), -1) * (self.places >= 0).to(a.dtype)
        out = a.new_zeros(len(a), math.prod(self.before))
        return out.index_add(1, self.places.clamp(min=0), kept).reshape(-1, *self.before)

    def size(self, a: Tensor) -> Tensor:
        return self.apply(a)


@dataclass(frozen=True, eq=False)
class Pooled:
    """A map with entries >= 0 given as a function (averages and sums); the transpose is its vector-Jacobian product."""

    function: Callable[[Tensor], Tensor]
    before: tuple[int, ...]

    def apply(self, a: Tensor) -> Tensor:
        return self.function(a)

    def transpose(self, a: Tensor) -> Tensor:
        with torch.enable_grad():
            start = a.new_zeros(len(a), *self.before, requires_grad=True)
            out = self.function(start)
            return torch.autograd.grad(out, start, a, create_graph=a.requires_grad)[0]

    def size(self, a: Tensor) -> Tensor:
        return self.function(a)


Map: TypeAlias = Scale | Same | Matrix | Convolution | Reshape | Pick | Pooled
T = TypeVar("T")


def cast(value: T, dtype: torch.dtype) -> T:
    """A map (or node) with its numbers in another precision."""
    changes = {}
    for field in fields(value):  # pyright: ignore[reportArgumentType]
        now = getattr(value, field.name)
        if isinstance(now, Tensor) and now.is_floating_point():
            changes[field.name] = now.to(dtype)
    return replace(value, **changes) if changes else value  # pyright: ignore[reportArgumentType]
