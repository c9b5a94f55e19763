"""How is a network of a hundred thousand layers held?  As a recipe: each layer is made when it is needed."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.files import replacing

MOST_NUMBERS = 1 << 24
"""Weights with zeros that are written out at most: 134 MB in float64."""


@dataclass(frozen=True, eq=False)
class Layer:
    """a -> weight a + bias.

    Attributes:
        weight: sparse, float64 [out, in]; holds the entries that the layout has, be they zero or not.
        bias: float64 [out].
    """

    weight: Tensor
    bias: Float64[Tensor, " out"]


Part: TypeAlias = tuple[NDArray | int, NDArray | int, float]
"""(rows' numbers, columns' numbers, the value of all these entries)."""


def wired(parts: Sequence[Part], rows: int, columns: int) -> Tensor:
    """A sparse matrix [rows, columns] of its parts."""
    places = [np.broadcast_arrays(np.atleast_1d(out), np.atleast_1d(into)) for out, into, _ in parts]
    values = [np.full(len(place[0]), value) for place, (_, _, value) in zip(places, parts, strict=True)]
    index = np.concatenate([np.stack(place) for place in places], 1)
    return torch.sparse_coo_tensor(
        torch.from_numpy(index), torch.from_numpy(np.concatenate(values)), (rows, columns), check_invariants=True
    ).coalesce()


class Layered(nn.Module):
    """The network relu . layer . relu ... layer(0), without a relu at the end, in float64, of which one layer is held.

    It takes x as max(x, floor), coordinate by coordinate, since its layers carry x - floor through their relus. All
    that is promised of a memorizer lies above the floor.

    Attributes:
        count: of layers.
        layer: makes one by its number.
        floor: [d].
    """

    def __init__(self, count: int, layer: Callable[[int], Layer], floor: Float64[Tensor, " d"]) -> None:
        super().__init__()
        self.count, self.layer, self.floor = count, layer, floor

    def layers(self) -> Iterator[Layer]:
        """All layers, in order."""
        return (self.layer(number) for number in range(self.count))

    def forward(self, x: Float[Tensor, " B *shape"]) -> Float64[Tensor, "B out"]:
        state = torch.maximum(x.flatten(1).double(), self.floor).T
        for number in range(self.count):
            layer = self.layer(number)
            state = torch.sparse.mm(layer.weight, state) + layer.bias[:, None]
            state = state.relu() if number + 1 < self.count else state
        return state.T

    def numbers(self) -> int:
        """Weights and biases with all zeros."""
        return sum(len(layer.bias) * (layer.weight.shape[1] + 1) for layer in self.layers())

    def dense(self) -> nn.Sequential:
        """Flatten, Linear, ReLU, ..., Linear in float64, written out: for x >= floor the same function.

        Raises:
            StackelbergError: it would hold more than `MOST_NUMBERS` numbers.
        """
        size = 0
        parts: list[nn.Module] = [nn.Flatten()]
        for layer in self.layers():
            size += len(layer.bias) * (layer.weight.shape[1] + 1)
            if size > MOST_NUMBERS:
                raise StackelbergError(
                    f"written out with its zeros the network holds more than {MOST_NUMBERS} numbers (its {self.count}"
                    " layers), which is refused; memorize fewer points, or use .network(), which holds a layer at a"
                    " time"
                )
            linear = nn.Linear(layer.weight.shape[1], len(layer.bias), dtype=torch.float64)
            linear.weight.data, linear.bias.data = layer.weight.to_dense(), layer.bias.clone()
            parts += [linear, nn.ReLU()]
        return nn.Sequential(*parts[:-1]).requires_grad_(False)

    def to_onnx(self, path: str | os.PathLike[str], shape: Sequence[int]) -> None:
        """Write `dense` as an ONNX file that takes float64 [batch, *shape].

        Raises:
            StackelbergError: more than `MOST_NUMBERS` numbers, or the package onnx is missing.
        """
        from stackelberg.models.onnx_file import packages

        onnx, _ = packages()
        helper, kind = onnx.helper, onnx.TensorProto.DOUBLE
        nodes, weights, last = [helper.make_node("Flatten", ["x"], ["a0"])], [], "a0"
        linear = [part for part in self.dense() if isinstance(part, nn.Linear)]
        for number, part in enumerate(linear):
            names = [f"w{number}", f"b{number}"]
            for name, value in zip(names, (part.weight, part.bias), strict=True):
                weights.append(onnx.numpy_helper.from_array(value.detach().numpy(), name))
            end = number + 1 == len(linear)
            nodes.append(helper.make_node("Gemm", [last, *names], ["y" if end else f"z{number}"], transB=1))
            if not end:
                last = f"a{number + 1}"
                nodes.append(helper.make_node("Relu", [f"z{number}"], [last]))
        graph = helper.make_graph(
            nodes, "memorizer",
            [helper.make_tensor_value_info("x", kind, ["batch", *shape])],
            [helper.make_tensor_value_info("y", kind, ["batch", linear[-1].out_features])],
            weights,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        with replacing(path) as scratch:
            scratch.write_bytes(model.SerializeToString())
