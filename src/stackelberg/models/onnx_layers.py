"""ONNX operators that are layers of torch: linear maps, convolutions, normalisations, pooling, activations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from stackelberg.models.onnx_file import Node, Unbuildable
from stackelberg.models.onnx_graph import Array, Builder, Shape, Value, floats

Rule = Callable[[Builder, Node], None]


def linear(weight: Array, bias: Array | None = None) -> nn.Linear:
    """x -> weight x + bias, weight [out, in]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    _set(layer.weight, weight)
    if bias is not None:
        _set(layer.bias, np.broadcast_to(bias.reshape(-1), (weight.shape[0],)))
    return layer


def _set(parameter: Any, array: Array) -> None:
    with torch.no_grad():
        parameter.copy_(floats(array))


def _gemm(b: Builder, n: Node) -> None:
    """alpha A' B' + beta C (a prime: transposed if so set)."""
    x = b.value(n.inputs[0], "Gemm")
    weight = b.constant(n, 1, "weight")
    bias = b.constant(n, 2, "bias")
    if weight is None or len(x.shape) != 2:
        raise Unbuildable("Gemm of something else than a matrix and a constant")
    weight = weight * n.options.get("alpha", 1.0)
    weight = weight if n.options.get("transB") else weight.T
    if bias is not None:
        bias = bias * n.options.get("beta", 1.0)
        if bias.size not in (1, len(weight)):
            raise Unbuildable("Gemm with a bias for every row")
    if n.options.get("transA") and weight.shape[1] != math.prod(x.shape):
        raise Unbuildable("Gemm of a transposed matrix")
    _apply_linear(b, n, x, linear(weight, bias))


def _apply_linear(b: Builder, n: Node, x: Value, layer: nn.Linear) -> None:
    """A linear layer over the last dimension; a single vector is laid flat."""
    if math.prod(x.shape) == layer.in_features:
        b.put(n, b.module(layer, b.view(x, (layer.in_features,))), (layer.out_features,))
    else:
        b.put(n, b.module(layer, b.view(x, x.inner)), (*x.inner[:-1], layer.out_features))


def _matmul(b: Builder, n: Node) -> None:
    first, second = b.get(n.inputs[0]), b.get(n.inputs[1])
    if isinstance(first, Value) and not isinstance(second, Value) and second.ndim <= 2:
        _apply_linear(b, n, first, linear(second.reshape(second.shape[0], -1).T))
    elif isinstance(second, Value) and not isinstance(first, Value) and first.ndim <= 2:
        rows = first.reshape(-1, first.shape[-1])
        if math.prod(second.shape) == rows.shape[1]:
            _apply_linear(b, n, second, linear(rows))
        else:
            product = b.call(torch.matmul, b.tensor(rows), b.view(second, second.inner))
            b.put(n, product, (*second.inner[:-2], len(rows), second.inner[-1]))
    elif isinstance(first, Value) and isinstance(second, Value):
        _product(b, n, first, second)
    else:
        raise Unbuildable("MatMul with a constant of more than two dimensions")


def _product(b: Builder, n: Node, first: Value, second: Value) -> None:
    """A product of two activations, matrix by matrix."""
    rank = max(len(first.shape), len(second.shape))
    if min(len(first.shape), len(second.shape)) < 2:
        raise Unbuildable("MatMul of a vector and an activation")
    one, other = ((1,) * (rank - len(v.shape)) + v.shape for v in (first, second))
    if one[0] == other[0] == 1 and rank > 2:
        one, other = one[1:], other[1:]
    real = (*np.broadcast_shapes(one[:-2], other[:-2]), one[-2], other[-1])
    b.put(n, b.call(torch.matmul, b.view(first, one), b.view(second, other)), real)


def _margins(n: Node, sides: Shape, window: Shape, steps: Shape, spread: Shape) -> tuple[Shape, Shape]:
    """How many zeros stand before and after each side of an image."""
    mode = n.options.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = tuple(n.options.get("pads", (0,) * (2 * len(sides))))
        return pads[: len(sides)], pads[len(sides) :]
    if mode == "VALID":
        return (0,) * len(sides), (0,) * len(sides)
    full = [
        max(0, (math.ceil(size / step) - 1) * step + (w - 1) * wide + 1 - size)
        for size, step, w, wide in zip(sides, steps, window, spread, strict=True)
    ]
    less, more = tuple(size // 2 for size in full), tuple(size - size // 2 for size in full)
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def _padded(b: Builder, x: fx.Node, before: Shape, after: Shape, value: float) -> fx.Node:
    """The image with a frame of `value`; torch counts sides from the last."""
    frame = [size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair]
    kinds = {2: nn.ConstantPad1d, 4: nn.ConstantPad2d, 6: nn.ConstantPad3d}
    return b.module(kinds[len(frame)](tuple(frame), value), x)


def _image(b: Builder, n: Node) -> tuple[Value, fx.Node, Shape]:
    """(the input, as [B, C, *sides], its sides)."""
    x = b.value(n.inputs[0], n.op)
    if not x.headed or not 3 <= len(x.shape) <= 5:
        raise Unbuildable(f"{n.op} of a tensor of shape {list(x.shape)}")
    return x, b.view(x, x.shape[1:]), x.shape[2:]


def _conv(b: Builder, n: Node) -> None:
    _, node, sides = _image(b, n)
    weight, bias = b.constant(n, 1, "weight"), b.constant(n, 2, "bias")
    if weight is None:
        raise Unbuildable("Conv without a weight")
    window = weight.shape[2:]
    steps = tuple(n.options.get("strides", (1,) * len(sides)))
    spread = tuple(n.options.get("dilations", (1,) * len(sides)))
    groups = n.options.get("group", 1)
    before, after = _margins(n, sides, window, steps, spread)
    if before != after:
        node, before = _padded(b, node, before, after, 0.0), (0,) * len(sides)
    kind: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(sides)]
    layer = kind(
        weight.shape[1] * groups, weight.shape[0], window, steps, before, spread, groups, bias is not None
    )  # fmt: skip
    _set(layer.weight, weight)
    if bias is not None:
        _set(layer.bias, bias)
    b.put(n, b.module(layer, node), b.trace.shapes[n.outputs[0]][1:])


def _batch_norm(b: Builder, n: Node) -> None:
    x = b.value(n.inputs[0], n.op)
    if n.options.get("training_mode") or not x.headed or not 2 <= len(x.shape) <= 5:
        raise Unbuildable("BatchNormalization in training mode or without examples")
    channels = x.inner[0]
    parts = [b.constant(n, place, "statistic") for place in (1, 2, 3, 4)]
    kind: Any = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(len(x.shape), nn.BatchNorm1d)
    layer = kind(channels, eps=n.options.get("epsilon", 1e-5))
    for place, array in zip((layer.weight, layer.bias, layer.running_mean, layer.running_var), parts, strict=True):
        _set(place, array)  # pyright: ignore[reportArgumentType]  # they are not optional
    b.put(n, b.module(layer, b.view(x, x.shape[1:])), x.shape[1:])


def _layer_norm(b: Builder, n: Node) -> None:
    x = b.value(n.inputs[0], n.op)
    axis = n.options.get("axis", -1) % len(x.shape)
    weight, bias = b.constant(n, 1, "scale"), b.constant(n, 2, "bias")
    if weight is None or axis == 0:
        raise Unbuildable("LayerNormalization over all examples")
    layer = nn.LayerNorm(list(x.shape[axis:]), n.options.get("epsilon", 1e-5), bias=bias is not None)
    _set(layer.weight, np.broadcast_to(weight, x.shape[axis:]))
    if bias is not None:
        _set(layer.bias, np.broadcast_to(bias, x.shape[axis:]))
    b.put(n, b.module(layer, b.view(x, x.inner)), x.inner)


def _pool(b: Builder, n: Node) -> None:
    _, node, sides = _image(b, n)
    window = tuple(n.options["kernel_shape"])
    steps = tuple(n.options.get("strides", (1,) * len(sides)))
    spread = tuple(n.options.get("dilations", (1,) * len(sides)))
    before, after = _margins(n, sides, window, steps, spread)
    ceiling, largest = bool(n.options.get("ceil_mode", 0)), n.op == "MaxPool"
    counted = bool(n.options.get("count_include_pad", 0))
    if before != after or any(2 * pad > size for pad, size in zip(before, window, strict=True)):
        if not (largest or counted):
            raise Unbuildable("AveragePool with uneven padding")
        node, before = _padded(b, node, before, after, -math.inf if largest else 0.0), (0,) * len(sides)
    if largest:
        kind: Any = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}[len(sides)]
        layer = kind(window, steps, before, spread, ceil_mode=ceiling)
    elif set(spread) != {1}:
        raise Unbuildable("AveragePool with dilation")
    else:
        kind = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[len(sides)]
        layer = kind(window, steps, before, ceiling, counted)
    b.put(n, b.module(layer, node), b.trace.shapes[n.outputs[0]][1:])


def _global_pool(b: Builder, n: Node) -> None:
    x, node, sides = _image(b, n)
    kinds: dict[str, Any] = {
        "GlobalAveragePool": (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        "GlobalMaxPool": (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    }
    b.put(n, b.module(kinds[n.op][len(sides) - 1](1), node), (x.shape[1], *(1,) * len(sides)))


def activation(make: Callable[[dict[str, Any]], nn.Module]) -> Rule:
    """The rule of a module that works number by number, made from the operator's options."""

    def rule(b: Builder, n: Node) -> None:
        x = b.value(n.inputs[0], n.op)
        b.put(n, b.module(make(n.options), x.node), x.real)

    return rule


def _clip(b: Builder, n: Node) -> None:
    x = b.value(n.inputs[0], n.op)
    ends = []
    for place, name in ((1, "min"), (2, "max")):
        array = b.constant(n, place, name)
        ends.append(n.options.get(name) if array is None else float(array.reshape(())))
    low, high = ends
    if low == 0 and high is None:
        layer: nn.Module = nn.ReLU()
    else:
        layer = nn.Hardtanh(-math.inf if low is None else low, math.inf if high is None else high)
    b.put(n, b.module(layer, x.node), x.real)


def _softmax(b: Builder, n: Node) -> None:
    x = b.value(n.inputs[0], n.op)
    recent = b.trace.opset >= 13
    axis = n.options.get("axis", -1 if recent else 1) % len(x.shape)
    if not recent and math.prod(x.shape[axis + 1 :]) != 1:
        raise Unbuildable(f"{n.op} over several dimensions")
    if axis == 0 and x.headed:
        raise Unbuildable(f"{n.op} over the examples")
    layer = (nn.LogSoftmax if n.op == "LogSoftmax" else nn.Softmax)(axis if x.headed else axis + 1)
    b.put(n, b.module(layer, b.view(x, x.inner)), x.inner)


def _prelu(b: Builder, n: Node) -> None:
    x, slope = b.value(n.inputs[0], n.op), b.constant(n, 1, "slope")
    if slope is None or slope.size not in (1, x.shape[1] if len(x.shape) > 1 else 1) or not x.headed:
        raise Unbuildable("PRelu with a slope for every number")
    layer = nn.PReLU(slope.size)
    _set(layer.weight, slope.reshape(-1))
    b.put(n, b.module(layer, b.view(x, x.inner)), x.inner)


LAYERS: dict[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Clip": _clip,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "PRelu": _prelu,
    "Relu": activation(lambda options: nn.ReLU()),
    "LeakyRelu": activation(lambda options: nn.LeakyReLU(options.get("alpha", 0.01))),
    "Sigmoid": activation(lambda options: nn.Sigmoid()),
    "Tanh": activation(lambda options: nn.Tanh()),
    "Elu": activation(lambda options: nn.ELU(options.get("alpha", 1.0))),
    "Selu": activation(lambda options: nn.SELU()),
    "Softplus": activation(lambda options: nn.Softplus()),
    "Softsign": activation(lambda options: nn.Softsign()),
    "HardSwish": activation(lambda options: nn.Hardswish()),
    "Gelu": activation(lambda options: nn.GELU(options.get("approximate", "none"))),
    "Mish": activation(lambda options: nn.Mish()),
}
