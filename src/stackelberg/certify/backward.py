"""What is the least value of a linear function of one node over the whole region?  Substituted back to the input.

CROWN (Zhang et al. 2018; for general graphs Xu et al. 2020): A . a >= A' . a' + c is carried from each node to those
it was computed from, by the transpose of an affine map and by the lines of `relaxation` for an activation, until A is a
linear function of the input, whose minimum over a box or norm ball is known.

The a here are what the network itself computes. It computes an affine node up to a known error r (Higham's gamma
times |W| |a| + |b|), so A . (W a + b) - |A| . r bounds what it does compute; the float64 arithmetic of the bound loses
far less than the part of r kept for it (`EXACT` at least), since its own errors are of the form n 2^-53 |A| |W| |a|.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stackelberg.certify.graph import Graph
from stackelberg.certify.maps import Convolution, Map, Same, Scale
from stackelberg.certify.nodes import Activation, Affine
from stackelberg.certify.region import Region
from stackelberg.certify.relaxation import Lines, lines
from stackelberg.certify.window import Window


@dataclass(frozen=True, eq=False)
class Boxes:
    """What every node's computed value lies in, for a batch of regions.

    Attributes:
        low: per node, [B, *shape].
        high: per node, [B, *shape].
        error: per node, how far the network's value may be off the exact one of its inputs, [B, *shape].
    """

    low: list[Tensor]
    high: list[Tensor]
    error: list[Tensor]

    def rows(self, index: slice | Tensor) -> "Boxes":
        """Those of some examples."""
        return Boxes(*[[t[index] for t in part] for part in (self.low, self.high, self.error)])

    def to(self, dtype: torch.dtype) -> "Boxes":
        """In another precision, to search in."""
        return Boxes(*[[t.to(dtype) for t in part] for part in (self.low, self.high, self.error)])


@dataclass(frozen=True, eq=False)
class Linear:
    """coefficients . x' + constant <= the function, for every x' of the region: [B, M, *input] and [B, M].

    `seen` holds the coefficients with which each activation's value was met, where it was asked for.
    """

    coefficients: Tensor | Window
    constant: Tensor
    seen: dict[int, Tensor]


def substituted(
    graph: Graph,
    boxes: Boxes,
    start: int,
    function: Tensor | Window,
    alpha: Mapping[int, Tensor] | None = None,
    split: Mapping[int, Tensor] | None = None,
    rounding: bool = True,
    keep: bool = False,
) -> Linear:
    """`function` [B, M, *shape of node start] as a linear function of the input that is nowhere above it.

    Args:
        graph: the network.
        boxes: of the nodes before `start`; [B, *shape] each.
        start: number of the node.
        function: coefficients A of A . a.
        alpha: per activation, the free parameter of its lines, [B, 1 or M, *shape].
        split: per activation, multipliers v of terms - v . a added for the value a before it, [B, 1 or M, *shape]: for
            v >= 0 where a >= 0 is assumed, v <= 0 where a <= 0 is, the bound holds under these assumptions (beta-CROWN,
            Wang et al. 2021).
        rounding: whether to pay for the network's rounding errors; False only to search.
        keep: whether to hold `seen`.
    """
    waiting: dict[int, Tensor | Window] = {start: function}
    total = torch.float64 if rounding else boxes.low[0].dtype  # of the constants
    constant = torch.zeros((), dtype=total, device=boxes.low[0].device)
    seen: dict[int, Tensor] = {}
    for place in range(start, 0, -1):
        if place not in waiting:
            continue
        a, node = _handy(waiting.pop(place)), graph.nodes[place]
        if rounding:
            constant = constant - _dot(_numbers(a).abs(), _view(a, boxes.error[place]), total)
        if isinstance(node, Affine):
            if node.constant.dim() or node.constant != 0:
                constant = constant + _dot(_numbers(a), _view(a, node.constant.expand(1, *node.shape)), total)
            for before, maps in zip(node.inputs, node.maps, strict=True):
                waiting[before] = _sum(waiting.get(before), _back(a, maps))
        elif isinstance(node, Activation):
            if keep:
                seen[place] = _numbers(a)
            a, part = _through(a, node, boxes, None if alpha is None else alpha.get(place), total)
            constant = constant + part
            if split is not None and place in split:
                a = a - split[place]  # pyright: ignore[reportOperatorIssue]
            waiting[node.input] = _sum(waiting.get(node.input), a)
    return Linear(waiting[0], constant, seen)


def _handy(a: Tensor | Window) -> Tensor | Window:
    """A window without what sticks out, or everything once a window saves nothing."""
    if isinstance(a, Window):
        return a.dense() if a.whole else a.inside()
    return a


def _numbers(a: Tensor | Window) -> Tensor:
    return a.values if isinstance(a, Window) else a


def _view(a: Tensor | Window, maps: Tensor) -> Tensor:
    """Numbers of a node, [B or 1, *shape], as the coefficients see them."""
    return a.seen(maps) if isinstance(a, Window) else maps[:, None]


def _sum(a: Tensor | Window | None, b: Tensor | Window) -> Tensor | Window:
    if a is None:
        return b
    if isinstance(a, Window) and isinstance(b, Window):
        return a.plus(b)
    return (a.dense() if isinstance(a, Window) else a) + (b.dense() if isinstance(b, Window) else b)


def _back(a: Tensor | Window, maps: Map) -> Tensor | Window:
    """W^T a."""
    if isinstance(a, Window):
        if isinstance(maps, Same):
            return a.with_values(maps.transpose(a.values))
        if isinstance(maps, Scale):
            return a.with_values(a.values * a.seen(maps.factor.expand(1, a.values.shape[-1], *a.side)))
        if isinstance(maps, Convolution) and maps.groups == 1:
            return a.before(maps)
        a = a.dense()
    return maps.transpose(a.flatten(0, 1)).unflatten(0, a.shape[:2])


def _through(
    a: Tensor | Window, node: Activation, boxes: Boxes, alpha: Tensor | None, total: torch.dtype
) -> tuple[Tensor | Window, Tensor]:
    """A . f(a) >= A+ . (line below) + A- . (line above)."""
    low, high = boxes.low[node.input], boxes.high[node.input]
    if isinstance(a, Window):
        found = lines(node, low, high)
        pair = Lines(*[a.seen(line) for line in (found.below, found.floor, found.above, found.roof)])
    else:
        pair = lines(node, low[:, None], high[:, None], alpha)
    values = _numbers(a)
    up, down = values.clamp(min=0), values.clamp(max=0)
    carried, constant = up * pair.below + down * pair.above, _dot(down, pair.roof, total)
    if not node.piecewise:
        constant = constant + _dot(up, pair.floor, total)
    return (a.with_values(carried) if isinstance(a, Window) else carried), constant


def _dot(a: Tensor, b: Tensor, total: torch.dtype) -> Tensor:
    """The sum of products over all but the first two coordinates, added up in `total`, [B, M]."""
    return (a * b).flatten(2).sum(2, dtype=total)


def least(function: Linear, region: Region) -> Tensor:
    """min over the region of a linear function, [B, M]: the larger of its minima over the box and over the ball."""
    a = _handy(function.coefficients)
    values = _numbers(a)
    bound = _dot(values, _view(a, region.centre), values.dtype)
    bound = bound - _dot(values.abs(), _view(a, region.radius), values.dtype)
    if region.origin is not None:
        middle = _dot(values, _view(a, region.origin.centre), values.dtype)
        bound = torch.maximum(bound, middle - region.origin.dual(values.flatten(2)))
    return bound + function.constant


def rows_of(region: Region, index: slice | Tensor) -> Region:
    """The regions of some examples."""
    origin = region.origin
    if origin is not None:
        origin = replace(origin, centre=origin.centre[index], scale=origin.scale[index], error=origin.error[index])
    return Region(region.low[index], region.high[index], origin)
