"""Which ReLUs are open over a region, and where do their values lie in one vector?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stackelberg.certify.backward import Boxes
from stackelberg.certify.graph import Graph
from stackelberg.certify.nodes import Activation


@dataclass(frozen=True, eq=False)
class Neurons:
    """The open coordinates of every activation: where they are among all, flattened.

    Attributes:
        places: activation numbers.
        numbers: per activation, flat coordinates that are open over the whole region.
        total: of all of them.
    """

    places: tuple[int, ...]
    numbers: tuple[Tensor, ...]
    total: int

    @staticmethod
    def of(graph: Graph, boxes: Boxes) -> "Neurons":
        """Those of boxes for one region."""
        found = {}
        for place in graph.activations:
            before = before_of(graph, place)
            open_ones = ((boxes.low[before] < 0) & (boxes.high[before] > 0)).flatten().nonzero()[:, 0]
            if len(open_ones):
                found[place] = open_ones
        return Neurons(tuple(found), tuple(found.values()), sum(len(v) for v in found.values()))

    def spread(self, values: Tensor, graph: Graph) -> dict[int, Tensor]:
        """[n, total] as one tensor [n, 1, *shape] per activation, zero elsewhere."""
        out, start = {}, 0
        for place, numbers in zip(self.places, self.numbers, strict=True):
            shape = graph.nodes[place].shape
            full = values.new_zeros(len(values), math.prod(shape))
            full[:, numbers] = values[:, start : start + len(numbers)]
            out[place] = full.view(-1, 1, *shape)
            start += len(numbers)
        return out

    def gathered(self, parts: dict[int, Tensor]) -> Tensor:
        """The inverse: [n, total] from tensors [n, 1, *shape]."""
        return torch.cat(
            [parts[p].flatten(1)[:, numbers] for p, numbers in zip(self.places, self.numbers, strict=True)], 1
        )

    def written(self, ends: list[Tensor], values: Tensor, graph: Graph) -> list[Tensor]:
        """The nodes' ends [1, *shape] for n parts, with values [n, total] at the open coordinates."""
        out, start = [end.expand(len(values), *end.shape[1:]) for end in ends], 0
        for place, numbers in zip(self.places, self.numbers, strict=True):
            before = before_of(graph, place)
            full = out[before].flatten(1).clone()
            full[:, numbers] = values[:, start : start + len(numbers)].to(full)
            out[before] = full.view_as(out[before])
            start += len(numbers)
        return out


def before_of(graph: Graph, place: int) -> int:
    """The node whose values an activation takes."""
    node = graph.nodes[place]
    assert isinstance(node, Activation)
    return node.input
