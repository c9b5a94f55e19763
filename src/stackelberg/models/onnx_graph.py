"""How is an ONNX graph rebuilt from torch's modules?  Operator by operator, into a graph that torch.fx can trace.

The file says how one example is computed (its tensors have shapes with the number of examples fixed to one); the
rebuilt network computes any number of them: every tensor gets a batch dimension in front, which takes the place of a
first dimension of size one. Reshapes only change what a shape is called, until an operator needs it.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn

from stackelberg.models.onnx_file import Node, Trace, Unbuildable

Array: TypeAlias = np.ndarray
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the input.

    Attributes:
        node: its place in the rebuilt graph, a tensor [B, *real].
        shape: in the file, for one example.
        real: as it lies in the rebuilt graph, the same numbers in the same order.
    """

    node: fx.Node
    shape: Shape
    real: Shape

    @property
    def headed(self) -> bool:
        """Whether the batch dimension can take the place of the first one."""
        return bool(self.shape) and self.shape[0] == 1

    @property
    def inner(self) -> Shape:
        """The shape without that first one."""
        return self.shape[1:] if self.headed else self.shape


class Builder:
    """The growing graph; rules read tensors with `get` and write them with `put` or `alias`."""

    def __init__(self, trace: Trace, entry: str, inner: Shape) -> None:
        self.trace = trace
        self.constants = trace.constants
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.uses = Counter(name for node in trace.nodes for name in node.inputs)
        self.values: dict[str, Value] = {}
        start = self.graph.placeholder("x")
        flat = len(inner) < 3  # numbers in a row, however the caller arranges them
        real = (math.prod(inner),) if flat else inner
        self.values[entry] = Value(self.module(nn.Flatten(), start) if flat else start, self.trace.shapes[entry], real)

    def get(self, name: str) -> Value | Array:
        """The tensor of this name; an array where it does not depend on the input."""
        return self.values[name] if name in self.values else self.constants[name]

    def value(self, name: str, what: str) -> Value:
        """The tensor of this name, which must depend on the input."""
        found = self.get(name)
        if not isinstance(found, Value):
            raise Unbuildable(f"{what} of a constant")
        return found

    def constant(self, node: Node, place: int, what: str) -> Array | None:
        """The value of an input that must not depend on the network's input; None where it is left out."""
        if place >= len(node.inputs) or not node.inputs[place]:
            return None
        if node.inputs[place] not in self.constants:
            raise Unbuildable(f"{node.op} with a {what} that depends on the input")
        return self.constants[node.inputs[place]]

    def put(self, node: Node, result: fx.Node, real: Shape, place: int = 0) -> None:
        """Write an output of an operator, as it lies in the rebuilt graph."""
        name = node.outputs[place]
        self.values[name] = Value(result, self.trace.shapes[name], real)

    def alias(self, node: Node, value: Value) -> None:
        """An output with the same numbers in the same order."""
        self.put(node, value.node, value.real)

    def view(self, value: Value, inner: Shape) -> fx.Node:
        """The tensor as [B, *inner], the same numbers in the same order."""
        if value.real == inner:
            return value.node
        if not inner:
            raise Unbuildable("a single number for an example")
        node = value.node if len(value.real) == 1 else self.module(nn.Flatten(), value.node)
        return node if len(inner) == 1 else self.module(nn.Unflatten(1, inner), node)

    def module(self, module: nn.Module, *arguments: fx.Node) -> fx.Node:
        """A call of a module, which becomes part of the network."""
        name = f"{type(module).__name__.lower()}_{len(list(self.root.children()))}"
        self.root.add_module(name, module.eval())
        return self.graph.call_module(name, arguments)

    def call(self, function: Any, *arguments: Any, **options: Any) -> fx.Node:
        """A call of a function of tensors."""
        return self.graph.call_function(function, arguments, options)

    def tensor(self, array: Array) -> fx.Node:
        """A constant as a buffer of the network."""
        name = f"constant_{len(list(self.root.buffers()))}"
        self.root.register_buffer(name, floats(array))
        return self.graph.get_attr(name)

    def finished(self, output: str) -> fx.GraphModule:
        """The network, with its answer as [B, K]."""
        if output not in self.values:
            raise Unbuildable("an answer that does not depend on the input")
        value = self.values[output]
        self.graph.output(self.view(value, (math.prod(value.shape),)))
        network = fx.GraphModule(self.root, self.graph, "Rebuilt").eval()
        network.graph.eliminate_dead_code()
        network.graph.lint()
        network.recompile()
        return network


def floats(array: Array) -> Tensor:
    """An array as a tensor of its own, float32 where it holds floats of any length."""
    tensor = torch.from_numpy(np.array(array))
    return tensor.float() if tensor.is_floating_point() else tensor


def rebuilt(trace: Trace, entry: str, output: str, inner: Shape) -> fx.GraphModule:
    """The network of a trace, from tensors [B, *inner] to [B, K].

    Raises:
        Unbuildable: an operator, or a use of it, has no rule; the first one is named.
    """
    from stackelberg.models.onnx_rules import RULES

    builder = Builder(trace, entry, inner)
    for node in trace.nodes:
        if all(name in trace.constants for name in node.outputs if name in trace.shapes):
            continue
        if node.op not in RULES:
            raise Unbuildable(f"the operator {node.op}")
        RULES[node.op](builder, node)
    return builder.finished(output)
