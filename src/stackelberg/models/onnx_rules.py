"""ONNX operators that compute with or rearrange numbers; with the layers, all that can be rebuilt (`RULES`)."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from stackelberg.models.onnx_file import Node, Unbuildable
from stackelberg.models.onnx_graph import Array, Builder, Shape, Value, floats
from stackelberg.models.onnx_layers import LAYERS, Rule


def _alias(b: Builder, n: Node) -> None:
    """The same numbers in the same order: a reshape, an identity, dropout in evaluation."""
    b.alias(n, b.value(n.inputs[0], n.op))


def _cast(b: Builder, n: Node) -> None:
    if n.options["to"] not in (1, 11):  # float, double
        raise Unbuildable("Cast to another type than float")
    _alias(b, n)


def _binary(function: Callable[..., Any], scalars: bool = True) -> Rule:
    """a function of two tensors that broadcast; `scalars`: whether it takes Python's numbers."""

    def rule(b: Builder, n: Node) -> None:
        first, second = b.get(n.inputs[0]), b.get(n.inputs[1])
        if isinstance(first, Value) and isinstance(second, Value):
            _both(b, n, function, first, second)
        elif isinstance(first, Value):
            x, constant, real = _beside(b, first, second, scalars)  # pyright: ignore[reportArgumentType]
            if not _is_bias(b, n, function, first, second):  # pyright: ignore[reportArgumentType]
                b.put(n, b.call(function, x, constant), real)
        else:
            x, constant, real = _beside(b, second, first, scalars)  # pyright: ignore[reportArgumentType]
            if not _is_bias(b, n, function, second, first):  # pyright: ignore[reportArgumentType]
                b.put(n, b.call(function, constant, x), real)

    return rule


def _folded(b: Builder, n: Node) -> None:
    """A binary operator of any number of tensors: Sum, Min, Max."""
    function = {"Sum": operator.add, "Min": torch.minimum, "Max": torch.maximum}[n.op]
    if len(n.inputs) == 1:
        _alias(b, n)
    elif len(n.inputs) == 2:
        _binary(function, scalars=n.op == "Sum")(b, n)
    else:
        raise Unbuildable(f"{n.op} of {len(n.inputs)} tensors")


def _both(b: Builder, n: Node, function: Callable[..., Any], first: Value, second: Value) -> None:
    if first.shape == second.shape and first.real == second.real:
        b.put(n, b.call(function, first.node, second.node), first.real)
        return
    rank = max(len(first.shape), len(second.shape))
    one, other = ((1,) * (rank - len(v.shape)) + v.shape for v in (first, second))
    if one[0] == other[0] == 1:
        one, other = one[1:], other[1:]
    b.put(n, b.call(function, b.view(first, one), b.view(second, other)), np.broadcast_shapes(one, other))


def _beside(b: Builder, x: Value, array: Array, scalars: bool) -> tuple[fx.Node, fx.Node | float, Shape]:
    """(x, a constant, the result's real shape) such that both broadcast as the file says."""
    if array.size == 1 and array.ndim <= len(x.shape):
        if scalars:
            return x.node, float(array.reshape(())), x.real
        return x.node, b.tensor(array.reshape(1)), x.real
    whole = np.broadcast_shapes(x.shape, array.shape)
    if math.prod(whole) == math.prod(x.shape):  # the constant is stretched, the activation is not
        if x.real in (whole, whole[1:]) and array.ndim <= len(x.real) + (whole[0] == 1):
            compact = array[0] if array.ndim > len(x.real) else array
        else:
            compact = np.broadcast_to(array, whole).reshape(x.real)
        return x.node, b.tensor(compact), x.real
    shape = (1,) * (len(whole) - len(x.shape)) + x.shape
    if whole[0] == 1:
        shape, whole = shape[1:], whole[1:]
        array = array[0] if array.ndim > len(whole) else array
    return b.view(x, shape), b.tensor(array), whole


def _is_bias(b: Builder, n: Node, function: Callable[..., Any], x: Value, array: Array) -> bool:
    """Put a constant that is added to a linear map alone into that map."""
    name = next(name for name in n.inputs if name not in b.constants)
    if function is not operator.add or x.node.op != "call_module" or b.uses[name] > 1 or len(x.node.users):
        return False
    layer = b.root.get_submodule(str(x.node.target))
    if type(layer) is not nn.Linear or layer.bias is not None or len(array.shape) > len(x.shape):
        return False
    across = len(x.real) == 1 or array.shape[-1:] == (array.size,)
    if array.size not in (1, layer.out_features) or not across:
        return False
    layer.bias = nn.Parameter(floats(np.broadcast_to(array.reshape(-1), x.real[-1:])))
    b.alias(n, x)
    return True


def _unary(function: Callable[..., Any]) -> Rule:
    def rule(b: Builder, n: Node) -> None:
        x = b.value(n.inputs[0], n.op)
        b.put(n, b.call(function, x.node), x.real)

    return rule


def _transpose(b: Builder, n: Node) -> None:
    x = b.value(n.inputs[0], n.op)
    order = tuple(n.options.get("perm", reversed(range(len(x.shape)))))
    wide = [place for place in order if x.shape[place] != 1]
    if wide == sorted(wide):
        b.alias(n, x)
    elif x.headed and order[0] == 0:
        b.put(n, b.call(torch.permute, b.view(x, x.shape[1:]), order), tuple(x.shape[place] for place in order[1:]))
    else:
        moved = b.call(torch.permute, b.view(x, x.shape), (0, *(place + 1 for place in order)))
        b.put(n, moved, tuple(x.shape[place] for place in order))


def _axes(b: Builder, n: Node, rank: int, place: int) -> tuple[int, ...] | None:
    """Axes from an option or, in later versions, from an input; None for all."""
    array = b.constant(n, place, "choice of axes")
    axes: Sequence[int] | None = n.options.get("axes") if array is None else [int(axis) for axis in array.reshape(-1)]
    return None if axes is None else tuple(axis % rank for axis in axes)


def _laid(b: Builder, x: Value, axes: Sequence[int]) -> tuple[fx.Node, Shape, int]:
    """(x with these axes within reach, its shape for one example, how far torch's axes lie beyond the file's)."""
    if x.headed and 0 not in axes:
        return b.view(x, x.shape[1:]), x.shape[1:], 0
    return b.view(x, x.shape), x.shape, 1


def _reduce(function: Callable[..., Any]) -> Rule:
    def rule(b: Builder, n: Node) -> None:
        x = b.value(n.inputs[0], n.op)
        axes = _axes(b, n, len(x.shape), 1)
        if axes is None:
            if n.options.get("noop_with_empty_axes"):
                return _alias(b, n)
            axes = tuple(range(1 if x.headed else 0, len(x.shape)))
        keep = bool(n.options.get("keepdims", 1))
        axes = tuple(axis for axis in axes if axis or not x.headed) or axes
        node, shape, far = _laid(b, x, axes)
        gone = {axis - 1 + far for axis in axes}
        real = tuple(1 if place in gone else size for place, size in enumerate(shape) if keep or place not in gone)
        b.put(n, b.call(function, node, tuple(axis + far for axis in axes), keep), real)
        return None

    return rule


def _concat(b: Builder, n: Node) -> None:
    parts = [b.get(name) for name in n.inputs]
    values = [part for part in parts if isinstance(part, Value)]
    axis = n.options["axis"] % len(values[0].shape)
    headed = axis > 0 and values[0].headed
    shapes = [part.shape[1:] if headed else part.shape for part in parts]
    leader = b.view(values[0], values[0].shape[1:] if headed else values[0].shape)
    nodes = []
    for part, shape in zip(parts, shapes, strict=True):
        if isinstance(part, Value):
            nodes.append(b.view(part, shape))
        else:
            batch = b.graph.call_method("size", (leader, 0))
            constant = b.tensor(part.reshape((1, *shape)))
            nodes.append(b.graph.call_method("expand", (constant, batch, *[-1] * len(shape))))
    place = axis - 1 if headed else axis
    real = list(shapes[0])
    real[place] = sum(shape[place] for shape in shapes)
    b.put(n, b.call(torch.cat, nodes, place + 1), tuple(real))


def _slice(b: Builder, n: Node) -> None:
    x = b.value(n.inputs[0], n.op)
    parts = [b.constant(n, place, "place") for place in (1, 2, 4)]
    starts, ends, steps = (None if part is None else [int(v) for v in part.reshape(-1)] for part in parts)
    starts, ends = starts or n.options["starts"], ends or n.options["ends"]
    axes = _axes(b, n, len(x.shape), 3) or tuple(range(len(starts)))
    steps = steps or [1] * len(axes)
    if min(steps) < 1:
        raise Unbuildable("Slice backwards")
    cut = {axis: slice(*ends_) for axis, *ends_ in zip(axes, starts, ends, steps, strict=True)}
    cut = {axis: part for axis, part in cut.items() if part.indices(x.shape[axis]) != (0, x.shape[axis], 1)}
    node, shape, far = _laid(b, x, tuple(cut))
    places = [cut.get(place + 1 - far, slice(None)) for place in range(len(shape))]
    real = tuple(len(range(*place.indices(size))) for place, size in zip(places, shape, strict=True))
    b.put(n, b.call(operator.getitem, node, (slice(None), *places)), real)


def _gather(b: Builder, n: Node) -> None:
    x, index = b.value(n.inputs[0], n.op), b.constant(n, 1, "index")
    if index is None or index.ndim > 1:
        raise Unbuildable("Gather by an array of indices")
    axis = n.options.get("axis", 0) % len(x.shape)
    node, shape, far = _laid(b, x, (axis,))
    place, wanted = axis - 1 + far, index % x.shape[axis]
    if index.ndim:
        chosen = b.call(torch.index_select, node, place + 1, b.tensor(wanted.astype(np.int64)))
        b.put(n, chosen, (*shape[:place], len(wanted), *shape[place + 1 :]))
    else:
        b.put(n, b.call(torch.select, node, place + 1, int(wanted)), (*shape[:place], *shape[place + 1 :]))


def _split(b: Builder, n: Node) -> None:
    x, given = b.value(n.inputs[0], n.op), b.constant(n, 1, "split")
    axis = n.options.get("axis", 0) % len(x.shape)
    sizes = n.options.get("split") if given is None else [int(size) for size in given]
    if sizes is None:
        whole = math.ceil(x.shape[axis] / len(n.outputs))
        sizes = [min(whole, x.shape[axis] - whole * place) for place in range(len(n.outputs))]
    node, shape, far = _laid(b, x, (axis,))
    start, place = 0, axis - 1 + far
    for output, size in enumerate(sizes):
        real = (*shape[:place], size, *shape[place + 1 :])
        b.put(n, b.call(torch.narrow, node, place + 1, start, size), real, output)
        start += size


def _pad(b: Builder, n: Node) -> None:
    x, given = b.value(n.inputs[0], n.op), b.constant(n, 1, "width")
    pads = n.options.get("pads") if given is None else [int(size) for size in given]
    filled = b.constant(n, 2, "value")
    value = n.options.get("value", 0.0) if filled is None else float(filled.reshape(()))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(n.options.get("mode", "constant"))
    if pads is None or mode is None or b.constant(n, 3, "choice of axes") is not None:
        raise Unbuildable("Pad of this mode or of chosen axes")
    before, after = pads[: len(x.shape)], pads[len(x.shape) :]
    if not x.headed or before[0] or after[0]:
        raise Unbuildable("Pad of the examples")
    pairs = list(zip(before[1:], after[1:], strict=True))
    real = tuple(size + low + high for size, (low, high) in zip(x.shape[1:], pairs, strict=True))
    while pairs and pairs[0] == (0, 0):
        pairs.pop(0)
    frame = tuple(size for pair in reversed(pairs) for size in pair)
    options: dict[str, Any] = {"mode": mode} | ({"value": value} if mode == "constant" else {})
    b.put(n, b.call(F.pad, b.view(x, x.shape[1:]), frame, **options), real)


def _where(b: Builder, n: Node) -> None:
    """A choice that does not depend on the input."""
    choice = b.constant(n, 0, "condition")
    parts = [b.get(name) for name in n.inputs[1:]]
    shape = b.trace.shapes[n.outputs[0]]
    inner = shape[1:] if shape and shape[0] == 1 else shape
    if choice is None or any(isinstance(part, Value) and part.shape != shape for part in parts):
        raise Unbuildable("Where that stretches an activation")
    nodes = [
        b.view(part, inner) if isinstance(part, Value) else b.tensor(np.broadcast_to(part, shape).reshape(inner))
        for part in parts
    ]
    b.put(n, b.call(torch.where, b.tensor(np.broadcast_to(choice, shape).reshape(inner)), *nodes), inner)


RULES: dict[str, Rule] = LAYERS | {
    "Add": _binary(operator.add), "Sub": _binary(operator.sub), "Mul": _binary(operator.mul),
    "Div": _binary(operator.truediv), "Pow": _binary(operator.pow), "Sum": _folded, "Min": _folded, "Max": _folded,
    "Reshape": _alias, "Flatten": _alias, "Squeeze": _alias, "Unsqueeze": _alias, "Identity": _alias,
    "Dropout": _alias, "Cast": _cast, "Transpose": _transpose, "Concat": _concat, "Slice": _slice, "Gather": _gather,
    "Split": _split, "Pad": _pad, "Where": _where,
    "ReduceMean": _reduce(torch.mean), "ReduceSum": _reduce(torch.sum), "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "Neg": _unary(operator.neg), "Abs": _unary(torch.abs), "Exp": _unary(torch.exp), "Log": _unary(torch.log),
    "Sqrt": _unary(torch.sqrt), "Reciprocal": _unary(torch.reciprocal), "Erf": _unary(torch.erf),
    "Sign": _unary(torch.sign), "Floor": _unary(torch.floor), "Ceil": _unary(torch.ceil),
    "Round": _unary(torch.round), "Sin": _unary(torch.sin), "Cos": _unary(torch.cos),
}  # fmt: skip
