"""How does each operation become nodes?  A value that only writes down what is done to it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from stackelberg.certify.certificate import Unsupported
from stackelberg.certify.maps import Convolution, Map, Matrix, Pick, Pooled, Reshape, Same, Scale
from stackelberg.certify.nodes import EXACT, Activation, Affine, Node
from stackelberg.certify.region import gamma, precision, working

PROBE = 2  # examples in a value's shape, to see whether the first coordinate stays the batch
Constant: TypeAlias = Tensor | float | int


def rate(roundings: int) -> float:
    """Relative error of a result of so many roundings in the network's arithmetic."""
    return max(EXACT, gamma(roundings))


def each(additions: int) -> float:
    """Relative error of one product, its factors' included, and of partial sums that are off themselves."""
    return gamma(0, products=True) + gamma(additions) ** 2


@dataclass(frozen=True, eq=False)
class Value:
    """An activation of the network that is being written down, with the shape of `PROBE` examples."""

    nodes: list[Node]
    place: int
    shape: torch.Size
    device: torch.device

    def affine(
        self,
        maps: Map,
        shape: Sequence[int],
        relative: float = EXACT,
        constant: Tensor | None = None,
        size: Tensor | None = None,
        each: float | None = None,
    ) -> "Value":
        """This value through one linear map, plus a constant."""
        return combined([self], [maps], shape, relative, constant, size, each)

    def activation(self, kind: str, slope: float = 0.0, roundings: int = 0) -> "Value":
        """One of the functions of `Activation`, coordinate by coordinate."""
        node = Activation(self.place, kind, slope, rate(roundings) if roundings else EXACT, tuple(self.shape[1:]))
        return self._added(node)

    def moved(self, function: Callable[[Tensor], Tensor]) -> "Value":
        """After a function that only moves entries or fills in zeros."""
        before = tuple(self.shape[1:])
        numbers = torch.arange(1, math.prod(before) + 1, dtype=torch.float64, device=self.device)
        moved = function(numbers.reshape(1, *before).expand(PROBE, *before))
        if not moved.dim() or moved.shape[0] != PROBE or not torch.equal(moved[0], moved[-1]):
            raise Unsupported(
                "linear bounds treat examples one by one, this network moves or merges the batch dimension"
                f" (shape {tuple(self.shape)} to {tuple(moved.shape)} for {PROBE} examples)"
            )
        after, places = tuple(moved.shape[1:]), moved[0].reshape(-1).round().long() - 1
        if torch.equal(places, torch.arange(math.prod(before), device=self.device)):
            return self.affine(Reshape(before, after), after)
        return self.affine(Pick(places, before, after), after)

    def pooled(self, function: Callable[[Tensor], Tensor], terms: int) -> "Value":
        """After an average or sum, given as a function, of at most so many terms."""
        after = function(torch.zeros(self.shape, dtype=torch.float64, device=self.device)).shape
        if not len(after) or after[0] != PROBE:
            raise Unsupported("linear bounds treat examples one by one, this network averages over the batch")
        return self.affine(Pooled(function, tuple(self.shape[1:])), after[1:], rate(terms + 2))

    def _added(self, node: Activation | Affine) -> "Value":
        self.nodes.append(node)
        return Value(self.nodes, len(self.nodes) - 1, torch.Size((PROBE, *node.shape)), self.device)


def combined(
    values: list[Value],
    maps: list[Map],
    shape: Sequence[int],
    relative: float,
    constant: Tensor | None = None,
    size: Tensor | None = None,
    each: float | None = None,
) -> Value:
    """sum_j W_j a_j + constant."""
    zero = torch.zeros((), dtype=precision(), device=values[0].device)
    shift = zero if constant is None else constant
    places = tuple(v.place for v in values)
    node = Affine(places, tuple(maps), shift, shift.abs() if size is None else size, relative, tuple(shape), each)
    return values[0]._added(node)


def linear(value: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    constant = None if bias is None else working(bias)
    shape = (*value.shape[1:-1], len(weight))
    terms = weight.shape[1] + 1
    return value.affine(Matrix(working(weight)), shape, rate(terms), constant, each=each(terms))


def conv2d(
    value: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """A convolution; "same" padding that is not the same on both sides is a pad first."""
    steps, spread = _pair(stride), _pair(dilation)
    pads = _pair(0 if padding == "valid" else padding) if padding != "same" else None
    if pads is None:
        total = [d * (k - 1) for d, k in zip(spread, weight.shape[2:], strict=True)]
        value = pad(value, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
        pads = (0, 0)
    weight = working(weight)
    before = tuple(value.shape[1:])
    maps = Convolution(weight, steps, pads, spread, groups, before)
    shape = maps.apply(torch.zeros(value.shape, dtype=precision(), device=value.device)).shape[1:]
    constant = None if bias is None else working(bias)[:, None, None]
    terms = weight[0].numel() + 1
    return value.affine(maps, shape, rate(terms), constant, each=each(terms))


def conv1d(
    value: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """A convolution along one line: an image of height one."""
    line = value.moved(lambda a: a.unsqueeze(2))
    pads = padding if isinstance(padding, str) else (0, _pair(padding)[0])
    image = conv2d(line, weight.unsqueeze(2), bias, (1, _pair(stride)[0]), pads, (1, _pair(dilation)[0]), groups)
    return image.moved(lambda a: a.squeeze(2))


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else tuple(value) * (2 if len(value) == 1 else 1)
    return int(first), int(second)


def scaled(value: Value, factor: Constant, shift: Constant, relative: float | None = None) -> Value:
    """factor * a + shift elementwise, with constants; at most six roundings however the network orders them."""
    kind = {"dtype": precision(), "device": value.device}
    factor, shift = torch.as_tensor(factor, **kind), torch.as_tensor(shift, **kind)
    after = torch.broadcast_shapes(value.shape, factor.shape, shift.shape)
    if (
        len(after) != len(value.shape)
        or after[0] != PROBE
        or any(c.dim() == len(after) and c.shape[0] != 1 for c in (factor, shift))
    ):
        raise Unsupported(
            f"linear bounds know constants for one example only, this network combines {tuple(value.shape[1:])} with"
            f" constants of shape {tuple(factor.shape)} and {tuple(shift.shape)}"
        )  # fmt: skip
    if after != value.shape:
        value = value.moved(lambda a: a.expand(len(a), *after[1:]))
    maps = Same() if factor.dim() == 0 and factor == 1 else Scale(factor)
    return value.affine(maps, after[1:], rate(6) if relative is None else relative, shift)


def batch_norm(
    value: Value, mean: Tensor | None, var: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Value:
    """weight (a - mean) / sqrt(var + eps) + bias with the running statistics; sixteen roundings of each part."""
    if mean is None or var is None:
        raise Unsupported("linear bounds need batch normalisation with running statistics, this one tracks none")
    factor = (1.0 if weight is None else working(weight)) / (working(var) + eps).sqrt()
    back = working(mean) * factor
    shift = (0.0 if bias is None else working(bias)) - back
    lift = (-1, *[1] * (len(value.shape) - 2))
    size = (shift.abs() + 2 * back.abs()).view(lift)
    return value.affine(Scale(factor.view(lift)), value.shape[1:], rate(16), shift.view(lift), size)


def add(a: Value | Constant, b: Value | Constant) -> Value:
    return _sum(a, b, 1.0)


def subtract(a: Value | Constant, b: Value | Constant) -> Value:
    return _sum(a, b, -1.0)


def _sum(a: Value | Constant, b: Value | Constant, sign: float, relative: float | None = None) -> Value:
    if not isinstance(b, Value):
        return scaled(a, 1.0, sign * b)  # pyright: ignore[reportArgumentType]
    if not isinstance(a, Value):
        return scaled(b, sign, a)
    after = torch.broadcast_shapes(a.shape, b.shape)
    if len(a.shape) != len(b.shape):
        raise Unsupported(f"linear bounds add activations of like shapes, not {tuple(a.shape)} and {tuple(b.shape)}")
    wide = [v if v.shape == after else v.moved(lambda t: t.expand(len(t), *after[1:])) for v in (a, b)]
    return combined(wide, [Same(), Same(sign)], after[1:], rate(1) if relative is None else relative)


def negate(a: Value) -> Value:
    return a.affine(Same(-1.0), a.shape[1:])


def multiply(a: Value | Constant, b: Value | Constant) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        raise Unsupported("linear bounds know products with constants only, this network multiplies two activations")
    value, constant = (a, b) if isinstance(a, Value) else (b, a)
    return scaled(value, constant, 0.0)  # pyright: ignore[reportArgumentType]


def divide(a: Value | Constant, b: Value | Constant) -> Value:
    if isinstance(b, Value):
        raise Unsupported("linear bounds know division by constants only, this network divides by an activation")
    return scaled(a, 1.0 / (working(b) if isinstance(b, Tensor) else b), 0.0)  # pyright: ignore[reportArgumentType]


def matmul(a: Value, b: Tensor | Value) -> Value:
    if not isinstance(a, Value) or isinstance(b, Value) or b.dim() != 2:
        raise Unsupported("linear bounds know products a @ W with a constant matrix W only")
    return linear(a, b.T)


def concatenate(parts: Any, dim: int = 0) -> Value:
    """Each part in its place among zeros, added up; constants are part of the constant."""
    if any(not isinstance(p, Value) for p in parts):
        raise Unsupported("linear bounds concatenate activations only, this network appends a constant")
    dim %= len(parts[0].shape)
    if dim == 0:
        raise Unsupported("linear bounds treat examples one by one, this network concatenates batches")
    lengths = [p.shape[dim] for p in parts]
    after = (*parts[0].shape[1:dim], sum(lengths), *parts[0].shape[dim + 1 :])
    maps: list[Map] = []
    for number, part in enumerate(parts):
        before = tuple(part.shape[1:])
        places = torch.full((1, *after), -1, device=part.device)
        own = torch.arange(math.prod(before), device=part.device).view(1, *before)
        places.narrow(dim, sum(lengths[:number]), lengths[number]).copy_(own)
        maps.append(Pick(places.flatten(), before, after))
    return combined(list(parts), maps, after, EXACT)


def pad(a: Value, pad: Any, mode: str = "constant", value: float | None = None) -> Value:
    moved = a.moved(lambda t: F.pad(t, pad, mode))
    if mode != "constant" or not value:
        return moved
    frame = F.pad(torch.zeros(1, *a.shape[1:], dtype=precision(), device=a.device), pad, value=value)
    return scaled(moved, 1.0, frame, EXACT)


def mean(value: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return _reduced(value, torch.mean, "mean", dim, keepdim)


def total(value: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return _reduced(value, torch.sum, "sum", dim, keepdim)


def _reduced(value: Value, function: Callable[..., Tensor], name: str, dim: Any, keepdim: bool) -> Value:
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    if not dims or any(d % len(value.shape) == 0 for d in dims):
        raise Unsupported(f"linear bounds treat examples one by one, this network takes a {name} over the batch")
    return value.pooled(lambda a: function(a, dims, keepdim), math.prod(value.shape[d] for d in dims))


def average(value: Value, function: Callable[[Tensor], Tensor]) -> Value:
    """No window of a pooling layer is larger than the image."""
    return value.pooled(function, math.prod(value.shape[2:]))


def larger(a: Value, b: Value) -> Value:
    """max(a, b) = a + relu(b - a), which the network computes without rounding."""
    return _sum(a, _sum(b, a, -1.0, EXACT).activation("relu"), 1.0, EXACT)


def clamp(value: Value, min: float | None = None, max: float | None = None) -> Value:
    """min + relu(a - min), and from it max - relu(max - that): a clamp computes without rounding."""
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise Unsupported("linear bounds know clamps between numbers only, this network clamps between tensors")
    if min is not None:
        value = scaled(scaled(value, 1.0, -min, EXACT).activation("relu"), 1.0, min, EXACT)
    if max is not None:
        value = scaled(scaled(value, -1.0, max, EXACT).activation("relu"), -1.0, max, EXACT)
    return value


def leaky(value: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    if not 0 <= negative_slope <= 1:
        raise Unsupported(f"linear bounds need a leaky ReLU with a slope in [0, 1], this one has {negative_slope}")
    return value.activation("leaky", float(negative_slope), 3)


def max_pool(
    value: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """The maximum over windows, halved again and again by max(a, b) = a + relu(b - a)."""
    if ceil_mode or return_indices:
        raise Unsupported("linear bounds have no rule for max pooling with ceil_mode or return_indices")
    kernel, lone = _pair(kernel_size), len(value.shape) == 3
    steps = kernel if stride is None or stride == () or stride == [] else _pair(stride)
    if lone:
        raise Unsupported("linear bounds have no rule for max pooling without channels")
    channels, height, breadth = value.shape[1:]
    numbers = torch.arange(1, height * breadth + 1, dtype=torch.float64, device=value.device)
    windows = F.unfold(numbers.view(1, 1, height, breadth), kernel, _pair(dilation), _pair(padding), steps)[0].long()
    windows = torch.where(windows == 0, windows.amax(0), windows) - 1  # a padded place repeats another of its window
    value = value.moved(lambda a: a.flatten(2)[:, :, windows])
    while value.shape[2] > 1:
        half = value.shape[2] // 2
        left, right = value.moved(lambda a, h=half: a[:, :, :h]), value.moved(lambda a, h=half: a[:, :, h : 2 * h])
        rest = value.moved(lambda a, h=half: a[:, :, 2 * h :]) if value.shape[2] % 2 else None
        value = larger(left, right)
        value = value if rest is None else concatenate([value, rest], 2)
    size = [
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, p, d, k, s in zip(
            (height, breadth), _pair(padding), _pair(dilation), kernel, steps, strict=True
        )
    ]  # fmt: skip
    return value.moved(lambda a: a.reshape(len(a), channels, *size))
