"""Between which numbers does every activation lie, and how far may the network's own arithmetic stray from it?

Intervals on a `Graph`, in real arithmetic, with the rounding of the running network kept apart: so that a solver may
find a minimum in real numbers, and what is claimed of the network as deployed is that minimum less the rounding.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from stackelberg.certify.graph import Graph
from stackelberg.certify.maps import Map
from stackelberg.certify.nodes import Activation, Affine

SLACK = 2.0**-40
"""Relative: what float64 may lose in one node's intervals."""

_ROWS = 512  # of an identity matrix sent through a map at a time


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Of every node, float64 [B, *shape].

    Attributes:
        low: exact value >= low.
        high: exact value <= high.
        error: |value as the network computes it - exact value| <= error.
    """

    low: tuple[Tensor, ...]
    high: tuple[Tensor, ...]
    error: tuple[Tensor, ...]

    def magnitude(self, place: int) -> Tensor:
        """max |exact value|."""
        return torch.maximum(self.low[place].abs(), self.high[place].abs())


def enclosure(graph: Graph, low: Float[Tensor, " B *shape"], high: Float[Tensor, " B *shape"]) -> Enclosure:
    """Interval bounds of all nodes over the boxes [low, high] of inputs (Gowal et al. 2018, section 3).

    The error obeys e_out <= |W| e_in + rate (|W| (|a| + e_in) + size) at an affine node; activations have slopes of at
    most one.
    """
    lows, highs, errors = [low.double()], [high.double()], [torch.zeros_like(low, dtype=torch.float64)]
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            middle = node.apply([(lows[i] + highs[i]) / 2 for i in node.inputs])
            spread = node.magnitude([(highs[i] - lows[i]) / 2 for i in node.inputs])
            size = [torch.maximum(lows[i].abs(), highs[i].abs()) for i in node.inputs]
            lost = SLACK * (node.magnitude(size) + node.size)
            lows.append(middle - spread - lost)
            highs.append(middle + spread + lost)
            stray = node.magnitude([errors[i] for i in node.inputs])
            errors.append(stray + node.rounding([s + errors[i] for s, i in zip(size, node.inputs, strict=True)]))
        elif isinstance(node, Activation):
            lows.append(node.apply(lows[node.input]))
            highs.append(node.apply(highs[node.input]))
            reach = torch.maximum(lows[-1].abs(), highs[-1].abs()) + errors[node.input]
            errors.append(errors[node.input] + node.rate * reach)
    return Enclosure(tuple(lows), tuple(highs), tuple(errors))


def sparse(linear: Map, before: tuple[int, ...]) -> csr_array:
    """The matrix [out, in] of a map of one example of shape `before`, coordinates flattened."""
    count = int(np.prod(before))
    parts, outputs = [], 0
    for rows in torch.arange(count).split(_ROWS):
        basis = torch.zeros(len(rows), count, dtype=torch.float64)
        basis[torch.arange(len(rows)), rows] = 1
        images = linear.apply(basis.view(-1, *before)).flatten(1)
        outputs = images.shape[1]
        column, row = images.nonzero(as_tuple=True)
        parts.append((images[column, row].numpy(), row.numpy(), (column + rows[0]).numpy()))
    values, row, column = (np.concatenate(part) for part in zip(*parts, strict=True))
    return csr_array(coo_array((values, (row, column)), shape=(outputs, count)))


def matrices(graph: Graph, node: Affine) -> list[csr_array]:
    """The matrices of an affine node, one for each of its inputs."""
    return [sparse(m, graph.nodes[i].shape) for m, i in zip(node.maps, node.inputs, strict=True)]


def shift(node: Affine) -> Float64[np.ndarray, " n"]:
    """The constant of an affine node, flattened."""
    return node.constant.double().cpu().expand(1, *node.shape).reshape(-1).numpy()
