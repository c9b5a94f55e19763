"""Between which values does every neuron lie?  Intervals first, then linear bounds where the sign is still open."""

import math
import time

import torch
from torch import Tensor

from stackelberg.certify import forward, single
from stackelberg.certify.ascent import Search, climbed
from stackelberg.certify.backward import Boxes, least, rows_of, substituted
from stackelberg.certify.forward import Sketch
from stackelberg.certify.graph import Graph
from stackelberg.certify.maps import Convolution, Matrix, Pooled
from stackelberg.certify.nodes import Activation, Affine, Input
from stackelberg.certify.region import TINY, Region
from stackelberg.certify.window import Window

_ENTRIES = 1 << 19  # of the coefficients held at a time, of one node: small enough that memory is reused
_SEARCHED = 1 << 19  # the same, in a search


def boxed(graph: Graph, region: Region, deep: int, start: Boxes | None = None, search: Search | None = None) -> Boxes:
    """Boxes of every node: interval bounds, before each activation tightened by linear bounds where they can matter.

    Where the network is wider than its input, affine functions of the input come first (`forward`) and leave fewer
    neurons to be bounded one by one.

    Args:
        graph: the network.
        region: of the inputs, [B, *shape].
        deep: the most entries (rows times coordinates of the earlier nodes) substituted back per example and layer;
            a layer that needs more keeps its interval bounds; 0 for interval bounds only.
        start: boxes known already, intersected with.
        search: to optimise the slopes of these inner bounds too, for every neuron apart; None for CROWN's own.
    """
    widest = max(math.prod(node.shape) for node in graph.nodes)
    sketching = deep > 0 and start is None
    group = forward.together(region, widest) if sketching else len(region.low)
    if len(region.low) > group:
        parts = torch.arange(len(region.low)).split(group)
        return joined([boxed(graph, rows_of(region, part), deep, search=search) for part in parts])
    boxes = Boxes([], [], [])
    sketches: list[Sketch | None] = []
    straight: list[int] = []  # mixing maps since the input, many once an activation has been met
    for place, node in enumerate(graph.nodes):
        sketch = None
        if isinstance(node, Input):
            ends = region.low, region.high, torch.zeros_like(region.low)
            straight.append(0 if region.origin is None else 2)
            sketch = forward.begun(region, widest) if sketching else None
        elif isinstance(node, Affine):
            ends = _affine(node, boxes)
            before = [s for s in (sketches[i] for i in node.inputs) if s is not None]
            if sketches[0] is not None:
                sketch = forward.through_affine(node, before, ends[2])
                ends = (*_narrowed(ends[0], ends[1], *sketch.ends()), ends[2])
            mixing = len(node.inputs) > 1 or isinstance(node.maps[0], Matrix | Convolution | Pooled)
            straight.append(max(straight[i] for i in node.inputs) + mixing)
        else:
            if straight[node.input] > 1:
                if start is not None:
                    _meet(boxes, node.input, start.low[node.input], start.high[node.input])
                _tighten(graph, region, boxes, node, deep, search)
                straight[node.input] = 0
            ends, known = _activated(node, boxes), sketches[node.input]
            if known is not None:
                sketch = forward.through_activation(node, known, boxes.low[node.input], boxes.high[node.input], ends[2])
            straight.append(9)
        boxes.low.append(ends[0])
        boxes.high.append(ends[1])
        boxes.error.append(ends[2])
        sketches.append(sketch)
        if start is not None:
            _meet(boxes, place, start.low[place], start.high[place])
    return boxes


def joined(parts: list[Boxes]) -> Boxes:
    """Of all examples, from those of groups of them."""
    both = [zip(*ends, strict=True) for ends in zip(*((p.low, p.high, p.error) for p in parts), strict=True)]
    return Boxes(*[[torch.cat(node) for node in nodes] for nodes in both])


def _narrowed(low: Tensor, high: Tensor, other_low: Tensor, other_high: Tensor) -> tuple[Tensor, Tensor]:
    """Both boxes hold the value; by rounding alone they might not meet."""
    low = torch.maximum(low, other_low)
    return low, torch.maximum(torch.minimum(high, other_high), low)


def _meet(boxes: Boxes, place: int, low: Tensor, high: Tensor) -> None:
    boxes.low[place], boxes.high[place] = _narrowed(boxes.low[place], boxes.high[place], low, high)


def _affine(node: Affine, boxes: Boxes) -> tuple[Tensor, Tensor, Tensor]:
    lows, highs = [boxes.low[i] for i in node.inputs], [boxes.high[i] for i in node.inputs]
    middle = node.apply([(a + b) / 2 for a, b in zip(lows, highs, strict=True)])
    spread = node.magnitude([(b - a) / 2 for a, b in zip(lows, highs, strict=True)])
    error = node.drift(lows, highs)
    return middle - spread - error, middle + spread + error, error


def _activated(node: Activation, boxes: Boxes) -> tuple[Tensor, Tensor, Tensor]:
    low, high = node.apply(boxes.low[node.input]), node.apply(boxes.high[node.input])
    size = torch.maximum(low.abs(), high.abs())
    error = node.rate * size + TINY
    exact = node.kind == "relu"  # the value itself is exact; the error pays for the lines' arithmetic
    return (low, high, error) if exact else (low - error, high + error, error)


def signed_units(numbers: Tensor, shape: tuple[int, ...]) -> Tensor | Window:
    """+e_k and then -e_k for the coordinates k [B, M] of a node, [B, 2 M, *shape]."""
    if len(shape) == 3 and shape[1] * shape[2] > 1:
        unit = Window.unit(numbers, shape)
        return Window(torch.cat([unit.values, -unit.values], 1), torch.cat([unit.corner] * 2, 1), unit.side)
    unit = torch.zeros(*numbers.shape, math.prod(shape), dtype=torch.float64, device=numbers.device)
    unit = unit.scatter_(2, numbers[..., None], 1.0).unflatten(2, shape)
    return torch.cat([unit, -unit], 1)


def _tighten(graph: Graph, region: Region, boxes: Boxes, node: Activation, deep: int, search: Search | None) -> None:
    """Linear bounds for the coordinates before `node` whose sign (or, for curves, value) is open."""
    place = node.input
    low, high = boxes.low[place].flatten(1).clone(), boxes.high[place].flatten(1).clone()
    wanted = (low < 0) & (high > 0) if node.piecewise else high > low
    count = int(wanted.sum(1).amax())
    depth = sum(math.prod(n.shape) for n in graph.nodes[:place])
    if count == 0 or 2 * count * depth > deep:
        return
    order = wanted.to(torch.uint8).argsort(1, descending=True)[:, :count]
    widest = max(math.prod(n.shape) for n in graph.nodes[: place + 1])
    rows = max(1, (_ENTRIES if search is None else _SEARCHED) // (2 * widest))
    step, group = min(rows, count), max(1, rows // count)
    light = search is None and single.worth(graph)
    held, about, network = boxes, region, graph
    if light:
        held, about, network = single.lightened(graph, boxes), single.reached(region, boxes), graph.to(torch.float32)
    for first in range(0, len(low), group):
        part = slice(first, first + group)
        some, where = held.rows(part), rows_of(about, part)
        for chunk in order[part].split(step, 1):
            if search is not None and time.monotonic() > search.until:
                break
            both = _bounded(network, some, where, place, chunk, search, light)
            lower, upper = both[:, : chunk.shape[1]], -both[:, chunk.shape[1] :]
            low[part] = torch.maximum(low[part], low[part].scatter(1, chunk, lower))
            high[part] = torch.minimum(high[part], high[part].scatter(1, chunk, upper))
    _meet(boxes, place, low.view_as(boxes.low[place]), high.view_as(boxes.high[place]))


def _bounded(
    graph: Graph, boxes: Boxes, region: Region, place: int, numbers: Tensor, search: Search | None, light: bool
) -> Tensor:
    """Lower bounds of +a_k and then of -a_k for the coordinates k [B, M] of a node, [B, 2 M]."""
    units = signed_units(numbers, graph.nodes[place].shape)
    if light:
        units = units.with_values(units.values.float()) if isinstance(units, Window) else units.float()
        found = substituted(graph, boxes, place, units)
        return least(single.doubled(found), region)
    if search is None:
        return least(substituted(graph, boxes, place, units), region)
    dense = units.dense() if isinstance(units, Window) else units
    found = climbed(graph, region, boxes, dense, dense.new_zeros(dense.shape[:2]), search, node=place)
    return least(substituted(graph, boxes, place, dense, found.alpha), region)
