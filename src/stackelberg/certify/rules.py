"""How does each operation change an interval?  One rule per operation, tight for that operation alone.

Interval bound propagation (Gowal et al. 2018, section 3): an affine map takes centre mu and radius r to W mu + b and
|W| r; a monotone function is applied to both ends. Each rule adds the rounding of the network's own arithmetic.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stackelberg.certify.certificate import Unsupported
from stackelberg.certify.region import TINY, Constant, Origin, Region, gamma, widened, working


def affine(
    region: Region, apply: Callable[[Tensor, Tensor], Tensor], weight: Tensor, bias: Tensor | None, terms: int
) -> Region:
    """W a + b for `apply(input, weight)` linear in both, with `terms` products in each sum."""
    w, size = working(weight), working(weight).abs()
    rate = gamma(terms + 1, products=True)
    shift = w.new_zeros(()) if bias is None else working(bias)
    shift = shift.view(-1, *[1] * (region.low.dim() - 2)) if bias is not None and weight.dim() > 2 else shift
    middle = apply(region.centre, w) + shift
    # |W| (r + gamma (|mu| + r)) + gamma |b|: the interval and the rounding in one product
    spread = apply(region.radius + rate * (region.centre.abs() + region.radius), size) + rate * shift.abs() + TINY
    low, high = middle - spread, middle + spread
    if region.origin is not None:
        start = region.origin
        through = apply(start.centre, w) + shift
        slack = apply(start.error + rate * region.magnitude, size) + rate * shift.abs() + TINY
        slack = slack + _dual(start, w)
        low, high = torch.maximum(low, through - slack), torch.minimum(high, through + slack)
    return Region(low, high)


def _dual(origin: Origin, weight: Tensor) -> Tensor:
    """The dual-norm radius of each row of a linear layer [out], or of a convolution's kernel [out, 1, 1]."""
    if weight.dim() == 2:
        return origin.dual(weight * origin.scale[0])
    scale = origin.scale[0].abs().flatten(1).amax(1)  # per channel
    per_group = weight.shape[1]
    scale = scale if len(scale) == per_group else scale.amax().expand(per_group)
    rows = (weight.abs() * scale.view(-1, *[1] * (weight.dim() - 2))).flatten(1)
    return origin.dual(rows).view(-1, *[1] * (weight.dim() - 2))


def linear(region: Region, weight: Tensor, bias: Tensor | None = None) -> Region:
    return affine(region, F.linear, weight, bias, weight.shape[1])


def conv2d(
    region: Region,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Region:
    def apply(a: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(a, w, None, stride, padding, dilation, groups)

    return affine(region, apply, weight, bias, weight[0].numel())


def scaled(region: Region, factor: Constant, shift: Constant) -> Region:
    """factor * a + shift elementwise, with constants; at most six roundings however the network orders them."""
    factor = working(factor) if isinstance(factor, Tensor) else factor
    shift = working(shift) if isinstance(shift, Tensor) else shift
    middle = region.centre * factor + shift
    spread = region.radius * abs(factor)
    size = region.magnitude * abs(factor) + abs(shift)
    out = widened(middle - spread, middle + spread, 6, size)
    return Region(out.low, out.high, None if region.origin is None else region.origin.affine(factor, shift))


def batch_norm(
    region: Region, mean: Tensor | None, var: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Region:
    """weight (a - mean) / sqrt(var + eps) + bias with the running statistics; ten roundings of each part."""
    if mean is None or var is None:
        raise Unsupported("interval bounds need batch normalisation with running statistics, this one tracks none")
    factor = (1.0 if weight is None else working(weight)) / (working(var) + eps).sqrt()
    shift = (0.0 if bias is None else working(bias)) - working(mean) * factor
    ends = [v.view(-1, *[1] * (region.low.dim() - 2)) for v in (factor, shift, working(mean) * factor)]
    out = scaled(region, ends[0], ends[1])
    slack = gamma(10) * (region.magnitude * ends[0].abs() + ends[1].abs() + 2 * ends[2].abs())
    return Region(out.low - slack, out.high + slack)


def average(region: Region, function: Callable[[Tensor], Tensor], terms: int) -> Region:
    """A mean of at most `terms` values."""
    size = function(region.magnitude)
    return widened(function(region.low), function(region.high), terms + 2, size)


def valley(region: Region, function: Callable[[Tensor], Tensor], lowest: float) -> Region:
    """A function that falls until `lowest` and rises after it (GELU, SiLU); eight roundings of the argument's size."""
    at_low, at_high = function(region.low), function(region.high)
    bottom = float(function(torch.tensor(lowest, dtype=torch.float64))) - 1e-12
    across = (region.low <= lowest) & (region.high >= lowest)
    low = torch.where(across, torch.full_like(at_low, bottom), torch.minimum(at_low, at_high))
    return widened(low, torch.maximum(at_low, at_high), 8, region.magnitude)


def add(a: Region | Constant, b: Region | Constant) -> Region:
    if isinstance(a, Region) and isinstance(b, Region):
        return widened(a.low + b.low, a.high + b.high, 1, a.magnitude + b.magnitude)
    region, constant = (a, b) if isinstance(a, Region) else (b, a)
    return scaled(region, 1.0, constant)  # pyright: ignore[reportArgumentType]


def subtract(a: Region | Constant, b: Region | Constant) -> Region:
    return add(a, negate(b)) if isinstance(b, Region) else scaled(a, 1.0, -b)  # pyright: ignore[reportArgumentType]


def negate(a: Region) -> Region:
    return Region(-a.high, -a.low, None if a.origin is None else a.origin.affine(-1.0, 0.0))


def multiply(a: Region | Constant, b: Region | Constant) -> Region:
    if isinstance(a, Region) and isinstance(b, Region):
        raise Unsupported("interval bounds know products with constants only, this network multiplies two activations")
    region, constant = (a, b) if isinstance(a, Region) else (b, a)
    return scaled(region, constant, 0.0)  # pyright: ignore[reportArgumentType]


def divide(a: Region | Constant, b: Region | Constant) -> Region:
    if isinstance(b, Region):
        raise Unsupported("interval bounds know division by constants only, this network divides by an activation")
    return scaled(a, 1.0 / (working(b) if isinstance(b, Tensor) else b), 0.0)  # pyright: ignore[reportArgumentType]


def concatenate(parts: Any, dim: int = 0) -> Region:
    ends = [(p.low, p.high) if isinstance(p, Region) else (working(p), working(p)) for p in parts]
    return Region(torch.cat([low for low, _ in ends], dim), torch.cat([high for _, high in ends], dim))


def mean(region: Region, dim: Any = None, keepdim: bool = False) -> Region:
    dims = tuple(range(1, region.low.dim())) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    terms = math.prod(region.shape[d] for d in dims)
    if dim is None or any(d % region.low.dim() == 0 for d in dims):
        raise Unsupported("interval bounds treat examples one by one, this network takes a mean over the batch")
    return average(region, lambda a: a.mean(dims, keepdim), terms)
