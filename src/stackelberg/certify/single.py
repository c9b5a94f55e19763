"""How is a bound computed in float32 and still sound?  Its own rounding is charged where the network's is.

In `backward.substituted` the coefficients A of a node become fl(W^T A), off by at most gamma_k |W|^T |A| for k products
a sum (Higham 2002, lemma 3.1). Against |a'| <= m that moves the bound by at most gamma_k |A| . (|W| m): the form in
which the network's rounding |A| . r is paid already, so r grows by gamma_k |W| m and nothing else changes. Lines and
products at an activation, sums where branches meet, and weights rounded to float32 add a few roundings of the values'
size. Constants are added up in float64. Convolutions are some ten times as fast in float32.
"""

import math

import torch
from torch import Tensor

from stackelberg.certify.backward import Boxes, Linear
from stackelberg.certify.graph import Graph
from stackelberg.certify.maps import Convolution, Map, Matrix, Pick, Pooled
from stackelberg.certify.nodes import EXACT, Activation, Affine
from stackelberg.certify.region import Region
from stackelberg.certify.window import Window

_UNIT = 2.0**-24
_ROUNDINGS = 16 * _UNIT  # relative to a value's size: lines, products, meeting branches; at most ten of them
_UNDERFLOW = 2.0**-60  # 2^-126 in each of 2^26 products, times values up to 2^40


def worth(graph: Graph) -> bool:
    """Whether float32 costs little: the network computes in it itself, and its activations have exact lines."""
    nodes = graph.nodes
    return any(isinstance(n, Affine) and n.rate > 4 * EXACT for n in nodes) and all(
        n.piecewise for n in nodes if isinstance(n, Activation)
    )


def lightened(graph: Graph, boxes: Boxes) -> Boxes:
    """Float32 boxes that hold the given ones, with errors that pay for substitution in float32 too."""
    errors = []
    for place, (low, high, error) in enumerate(zip(boxes.low, boxes.high, boxes.error, strict=True)):
        node, own = graph.nodes[place], torch.maximum(low.abs(), high.abs())
        extra = _ROUNDINGS * own
        if isinstance(node, Affine):
            size = [torch.maximum(boxes.low[i].abs(), boxes.high[i].abs()) for i in node.inputs]
            products = max(_products(m, node.shape) for m in node.maps)
            extra = extra + _gamma(products + 4) * (node.magnitude(size) + node.size)
        elif isinstance(node, Activation):
            extra = extra + _ROUNDINGS * torch.maximum(boxes.low[node.input].abs(), boxes.high[node.input].abs())
        errors.append(((error + extra) * (1 + 1e-5)).float())
    return Boxes([down(low) for low in boxes.low], [-down(-high) for high in boxes.high], errors)


def reached(region: Region, boxes: Boxes) -> Region:
    """The region, wider by the roundings of coefficients that meet at the input."""
    more, origin = slack(region), region.origin
    if origin is not None:
        origin = type(origin)(origin.ball, origin.centre, origin.scale, origin.error + more)
    return Region(region.low - more, region.high + more, origin)


def slack(region: Region) -> Tensor:
    """By how much."""
    return _ROUNDINGS * region.magnitude + 2.0**-100


def doubled(function: Linear) -> Linear:
    """In float64 again, to be minimised; less all that coefficients below the smallest normal number may add up to."""
    a = function.coefficients
    exact = a.with_values(a.values.double()) if isinstance(a, Window) else a.double()
    return Linear(exact, function.constant - _UNDERFLOW, function.seen)


def down(values: Tensor) -> Tensor:
    """The nearest float32 numbers that are not above."""
    near = values.float()
    return torch.where(near.double() > values, near.nextafter(torch.full_like(near, -torch.inf)), near)


def _products(maps: Map, shape: tuple[int, ...]) -> int:
    """The most products in one sum of the transposed map."""
    if isinstance(maps, Matrix):
        return len(maps.weight)
    if isinstance(maps, Convolution):
        return len(maps.weight) * math.prod(maps.weight.shape[2:])
    if isinstance(maps, Pick):
        return int(maps.places[maps.places >= 0].bincount().max()) if bool((maps.places >= 0).any()) else 1
    return math.prod(shape) if isinstance(maps, Pooled) else 1


def _gamma(roundings: int) -> float:
    return roundings * _UNIT / (1 - roundings * _UNIT)
