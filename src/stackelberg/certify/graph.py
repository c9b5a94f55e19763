"""Which computation is this network?  A straight list of affine maps and activations, in order, in float64."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, fx, nn

from stackelberg.attacks import untouched
from stackelberg.certify import recording as r
from stackelberg.certify.certificate import Unsupported
from stackelberg.certify.nodes import Activation, Affine, Input, Node
from stackelberg.certify.reading import REARRANGING, Reader, Rules, traced
from stackelberg.certify.recording import PROBE, Value
from stackelberg.certify.region import rounding_of


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order: the first is the input, the last the output.

    A max pool is written as max(a, b) = a + relu(b - a), a clamp as two ReLUs, so that there are only three kinds of
    node and every bound and every solver knows them all.

    Attributes:
        nodes: `Input`, `Affine` or `Activation`; weights are float64 copies.
    """

    nodes: tuple[Node, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.nodes[0].shape

    def values(self, x: Float[Tensor, " B *shape"]) -> list[Tensor]:
        """Every node's value at x, exact but for the rounding of x's precision."""
        values: list[Tensor] = []
        for node in self.nodes:
            if isinstance(node, Input):
                values.append(x)
            elif isinstance(node, Affine):
                values.append(node.apply([values[i] for i in node.inputs]))
            else:
                values.append(node.apply(values[node.input]))
        return values

    def forward(self, x: Float[Tensor, " B *shape"]) -> Float[Tensor, " B *out"]:
        """The network in float64, whatever precision it has itself."""
        return self.values(x.double())[-1]

    def to(self, dtype: torch.dtype) -> "Graph":
        """The same in another precision, to search in; bounds are claimed in float64 only."""
        return Graph(tuple(n.to(dtype) if isinstance(n, Affine) else n for n in self.nodes))

    @property
    def activations(self) -> tuple[int, ...]:
        """The numbers of the activation nodes."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Activation))


def graph_of(model: nn.Module, shape: tuple[int, ...]) -> Graph:
    """The network as a `Graph`, for one example of this shape.

    Args:
        model: traceable by torch.fx, built from linear layers, convolutions, batch norm, pooling, ReLU-like
            activations, sigmoid, tanh, clamps, sums, concatenation and rearrangements; comes back as it was given.
        shape: of one example, (C, H, W) for images.

    Raises:
        Unsupported: the network cannot be traced, or holds an operation without a rule (named).
    """
    with untouched(model), rounding_of(model), torch.no_grad():
        return recorded(traced(model, GRAPHS.name), shape)


def recorded(trace: fx.GraphModule, shape: tuple[int, ...]) -> Graph:
    """The graph of a traced network, in the context's arithmetic; differentiable in its parameters if grad is on."""
    device = next((t.device for t in [*trace.parameters(), *trace.buffers()]), torch.device("cpu"))
    nodes: list[Node] = [Input(tuple(shape))]
    end = Reader(trace, GRAPHS).answer(Value(nodes, 0, torch.Size((PROBE, *shape)), device))
    return Graph(_needed(nodes, end.place))


def _needed(nodes: list[Node], last: int) -> tuple[Node, ...]:
    """Only the nodes the last one depends on, renumbered."""
    wanted, stack = {0}, [last]
    while stack:
        place = stack.pop()
        if place not in wanted:
            wanted.add(place)
            stack.extend(getattr(nodes[place], "inputs", ()))
    order = sorted(wanted)
    number = {place: i for i, place in enumerate(order)}
    kept: list[Node] = []
    for place in order:
        node = nodes[place]
        if isinstance(node, Affine):
            inputs = tuple(number[i] for i in node.inputs)
            node = replace(node, inputs=inputs)
        elif isinstance(node, Activation):
            node = Activation(number[node.input], node.kind, node.slope, node.rate, node.shape)
        kept.append(node)
    return tuple(kept)


def _convolved(layer: nn.Conv1d | nn.Conv2d, value: Value) -> Value:
    if layer.padding_mode != "zeros":
        raise Unsupported(f"linear bounds know zero padding only, this convolution pads by {layer.padding_mode!r}")
    rule = r.conv1d if isinstance(layer, nn.Conv1d) else r.conv2d
    return rule(value, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, value: Value) -> Value:
    return r.batch_norm(value, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps)


def _batch_norm_function(
    value: Value, mean: Any, var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    if training:
        raise Unsupported("linear bounds need batch normalisation in eval mode, this one normalises by its batch")
    return r.batch_norm(value, mean, var, weight, bias, eps)


def _dropout_function(value: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training:
        raise Unsupported("linear bounds need dropout in eval mode, this network drops out always")
    return value


def _moving(function: Callable[..., Tensor]) -> Callable[..., Value]:
    return lambda value, *args, **options: value.moved(lambda a: function(a, *args, **options))


def _average_function(function: Callable[..., Tensor]) -> Callable[..., Value]:
    return lambda value, *args, **options: r.average(value, lambda a: function(a, *args, **options))


def _activated(kind: str, roundings: int) -> Callable[..., Value]:
    return lambda value, inplace=False: value.activation(kind, roundings=roundings)


_relu, _sigmoid, _tanh = _activated("relu", 0), _activated("sigmoid", 8), _activated("tanh", 8)

MODULES: dict[type[nn.Module], Callable[[Any, Value], Value]] = {
    nn.Linear: lambda layer, value: r.linear(value, layer.weight, layer.bias),
    nn.Conv1d: _convolved, nn.Conv2d: _convolved,
    nn.BatchNorm1d: _batch_norm, nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda layer, value: _relu(value),
    nn.ReLU6: lambda layer, value: r.clamp(value, 0.0, 6.0),
    nn.Hardtanh: lambda layer, value: r.clamp(value, layer.min_val, layer.max_val),
    nn.LeakyReLU: lambda layer, value: r.leaky(value, layer.negative_slope),
    nn.Sigmoid: lambda layer, value: _sigmoid(value), nn.Tanh: lambda layer, value: _tanh(value),
    nn.AvgPool2d: lambda layer, value: r.average(value, layer),
    nn.AdaptiveAvgPool2d: lambda layer, value: r.average(value, layer),
    nn.MaxPool2d: lambda layer, value: r.max_pool(
        value, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices
    ),
    nn.ConstantPad2d: lambda layer, value: r.pad(value, layer.padding, value=layer.value),
    nn.ZeroPad2d: lambda layer, value: r.pad(value, layer.padding),
    nn.Flatten: lambda layer, value: value.moved(layer), nn.Unflatten: lambda layer, value: value.moved(layer),
    nn.Identity: lambda layer, value: value, nn.Dropout: lambda layer, value: value,
    nn.Dropout2d: lambda layer, value: value,
}  # fmt: skip

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    operator.add: r.add, torch.add: r.add, operator.iadd: r.add,
    operator.sub: r.subtract, torch.sub: r.subtract,
    operator.mul: r.multiply, torch.mul: r.multiply,
    operator.truediv: r.divide, torch.div: r.divide,
    operator.neg: r.negate, torch.neg: r.negate,
    operator.matmul: r.matmul, torch.matmul: r.matmul, operator.getitem: _moving(operator.getitem),
    torch.cat: r.concatenate, torch.mean: r.mean, torch.sum: r.total,
    torch.maximum: r.larger, torch.clamp: r.clamp, torch.abs: lambda v: r.larger(v, r.negate(v)),
    F.linear: r.linear, F.conv2d: r.conv2d, torch.conv2d: r.conv2d, F.conv1d: r.conv1d, torch.conv1d: r.conv1d,
    F.batch_norm: _batch_norm_function, F.dropout: _dropout_function, F.pad: r.pad,
    F.avg_pool2d: _average_function(F.avg_pool2d), F.adaptive_avg_pool2d: _average_function(F.adaptive_avg_pool2d),
    F.max_pool2d: r.max_pool, torch.max_pool2d: r.max_pool,
    F.relu: _relu, torch.relu: _relu, F.relu6: lambda v: r.clamp(v, 0.0, 6.0), F.leaky_relu: r.leaky,
    torch.sigmoid: _sigmoid, torch.tanh: _tanh, F.sigmoid: _sigmoid, F.tanh: _tanh,
} | {getattr(torch, name): _moving(getattr(torch, name)) for name in REARRANGING}  # fmt: skip

METHODS: dict[str, Callable[..., Any]] = {
    "add": r.add, "sub": r.subtract, "mul": r.multiply, "div": r.divide, "neg": r.negate, "matmul": r.matmul,
    "mean": r.mean, "sum": r.total, "relu": _relu, "sigmoid": _sigmoid, "tanh": _tanh, "clamp": r.clamp,
    "contiguous": lambda value: value, "view": _moving(torch.Tensor.reshape), "expand": _moving(torch.Tensor.expand),
} | {name: _moving(getattr(torch.Tensor, name)) for name in REARRANGING}  # fmt: skip

GRAPHS = Rules(
    Value, "linear bounds", MODULES, FUNCTIONS, METHODS, ("shape", "device", "dtype"),
    "about this network by them; use linear, convolution, batch norm, pooling, ReLU, leaky ReLU, sigmoid, tanh, sums"
    " and reshapes",
)  # fmt: skip
