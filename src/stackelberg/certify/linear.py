"""What do linear bounds prove?  CROWN, and CROWN with optimised slopes, for every network that has a graph."""

import math
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, fx, nn

from stackelberg.certify.ascent import Search, climbed
from stackelberg.certify.backward import Boxes, least, rows_of, substituted
from stackelberg.certify.boxing import boxed
from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.graph import GRAPHS, Graph, graph_of, recorded
from stackelberg.certify.reading import traced
from stackelberg.certify.region import Region, input_region, without_rounding
from stackelberg.threat import Ball

DEEP = 1 << 31
"""The most coefficients substituted back per example and layer, by default: a layer that needs more keeps its boxes."""

_traces: WeakKeyDictionary[nn.Module, fx.GraphModule] = WeakKeyDictionary()
_HELD = 1 << 20  # entries of one node's coefficients for a batch of examples: small enough that memory is reused


def bounds(
    graph: Graph,
    low: Float[Tensor, " B *shape"],
    high: Float[Tensor, " B *shape"],
    objective: Float[Tensor, "B M K"],
    offset: Float[Tensor, "B M"],
    deep: int = DEEP,
    search: Search | None = None,
) -> Float[Tensor, "B M"]:
    """Lower bounds of objective z(x') + offset over low <= x' <= high, for the network z as it computes.

    Args:
        graph: of the network, with logits [B, K].
        low: smallest inputs.
        high: largest inputs.
        objective: a matrix C per example.
        offset: a vector c per example.
        deep: see `boxed`.
        search: how to optimise the slopes; None for CROWN's own.
    """
    region = Region(low.double(), high.double())
    boxes = boxed(graph, region, deep)
    return margins(graph, region, boxes, objective.double(), offset.double(), search)


def margins(
    graph: Graph, region: Region, boxes: Boxes, objective: Tensor, offset: Tensor, search: Search | None
) -> Tensor:
    """Lower bounds [B, M] of objective z + offset from boxes known already; float64, sound for the float network."""
    last = len(graph.nodes) - 1
    plain = least(substituted(graph, boxes, last, objective), region) + offset
    if search is None or not graph.activations:
        return plain
    open_rows = (plain <= 0).any(1).nonzero()[:, 0] if search.stop else torch.arange(len(plain), device=plain.device)
    if not len(open_rows):
        return plain
    some, where = boxes.rows(open_rows), rows_of(region, open_rows)
    found = climbed(graph, where, some, objective[open_rows], offset[open_rows], search)
    better = least(substituted(graph, some, last, objective[open_rows], found.alpha), where) + offset[open_rows]
    return plain.index_copy(0, open_rows, torch.maximum(plain[open_rows], better))


def crown(
    model: nn.Module,
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " B"],
    ball: Ball,
    deep: int = DEEP,
) -> Certificate:
    """margin_i <= min over x' in ball(x_i), k != y_i of z_y(x') - z_k(x'), by linear bounds substituted back.

    Every activation is put between two lines, and z_y - z_k is carried back through them to the input, where a linear
    function's minimum over box and ball is known (Zhang et al. 2018, CROWN). The interval of every neuron whose sign is
    open is bounded the same way, and never wider than by `interval` up to that point. For l2, l1 and l0 the last step
    takes the dual norm or the box, whichever is tighter.

    Sound for the network as it runs, under the assumptions of `interval`: each operation's rounding error enters as an
    unknown of known size, carried back like everything else. The bounds are float64; their own rounding is paid for.

    >>> import torch
    >>> net = torch.nn.Flatten()  # two pixels are the two logits
    >>> x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])
    >>> proof = crown(net, x, y, Ball("linf", 0.1))  # 0.5 less twice the radius, and the rounding
    >>> round(float(proof.margin[0]), 4), proof.certified.tolist()
    (0.3, [True])

    Args:
        model: traceable by torch.fx, of operations that `graph_of` knows; comes back as it was given.
        x: inputs in [ball.low, ball.high].
        y: labels.
        ball: the threat.
        deep: the most coefficients substituted back per example and layer; a wider layer keeps its interval bounds.

    Raises:
        Unsupported: the network cannot be traced, or holds an operation without a rule (named).
    """
    return _proved("crown", model, x, y, ball, deep, None)


def alpha_crown(
    model: nn.Module,
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " B"],
    ball: Ball,
    deep: int = DEEP,
    search: Search | None = None,
) -> Certificate:
    """As `crown`, with the lower line of every neuron optimised for every z_y - z_k apart (Xu et al. 2021).

    The slopes are searched by projected Adam in float32; any slope gives a sound bound, and the bound with the best
    ones is computed in float64 with the rounding paid for. Examples that CROWN proves are not searched, and a search
    ends when all is proved; pass Search(stop=False) for the tightest bound of every example.

    Args:
        model: as for `crown`.
        x: inputs in [ball.low, ball.high].
        y: labels.
        ball: the threat.
        deep: as for `crown`.
        search: steps and step size; `Search()` by default.

    Raises:
        Unsupported: as for `crown`.
    """
    return _proved("alpha-crown", model, x, y, ball, deep, search or Search())


def linear_gaps(
    model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"], ball: Ball
) -> Float[Tensor, "B K"]:
    """CROWN's bounds of z_y - z_k with interval bounds inside, differentiable in the parameters: to train by, no proof.

    The bounds of CROWN-IBP (Zhang et al. 2020, section 3), in the precision of x and without room for rounding. The
    network must keep its structure: it is traced once. Entry y is 0.
    """
    if model not in _traces:
        _traces[model] = traced(model, GRAPHS.name)
    with without_rounding(x.dtype):
        graph, region = recorded(_traces[model], tuple(x.shape[1:])), input_region(x, ball)
        objective = differences(y, graph.nodes[-1].shape[0]).to(x.dtype)
        boxes = boxed(graph, region, deep=0)
        gaps = least(substituted(graph, boxes, len(graph.nodes) - 1, objective, rounding=False), region)
    classes = gaps.shape[1] + 1
    return gaps.new_zeros(len(y), classes).scatter(1, _others(y, classes), gaps)


def _proved(
    method: str, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, deep: int, search: Search | None
) -> Certificate:
    graph = graph_of(model, tuple(x.shape[1:]))
    found = []
    for region, boxes, objective in over(graph, x, y, ball, deep):
        offset = objective.new_zeros(objective.shape[:2])
        found.append(searched(graph, region, boxes, objective, offset, search, deep)[0].amin(1))
    return Certificate(method, ball, torch.cat(found) if found else x.new_zeros(0, dtype=torch.float64))


@torch.no_grad()
def searched(
    graph: Graph,
    region: Region,
    boxes: Boxes,
    objective: Tensor,
    offset: Tensor,
    search: Search | None,
    deep: int,
) -> tuple[Tensor, Boxes]:
    """`margins`, again with the neurons' own intervals searched where some row stays open; and the boxes by then."""
    bound = margins(graph, region, boxes, objective, offset, search)
    if search is None or not search.inner:
        return bound, boxes
    rows = (bound <= 0).any(1).nonzero()[:, 0] if search.stop else torch.arange(len(bound), device=bound.device)
    if not len(rows):
        return bound, boxes
    inner = replace(search, stop=False, steps=max(1, search.steps // 2))
    where = rows_of(region, rows)
    better = boxed(graph, where, deep, boxes.rows(rows), inner)
    again = margins(graph, where, better, objective[rows], offset[rows], search)
    bound = bound.index_copy(0, rows, torch.maximum(bound[rows], again))
    tight = [
        [t.index_copy(0, rows, b) for t, b in zip(*pair, strict=True)]
        for pair in ((boxes.low, better.low), (boxes.high, better.high), (boxes.error, better.error))
    ]
    return bound, Boxes(*tight)


def over(graph: Graph, x: Tensor, y: Tensor, ball: Ball, deep: int):
    """Yields (region, boxes, differences z_y - z_k) for as many examples at a time as memory allows."""
    if len(graph.nodes[-1].shape) != 1:
        raise Unsupported(f"linear bounds need logits [B, K], this network returns {graph.nodes[-1].shape} per example")
    classes = graph.nodes[-1].shape[0]
    widest = max(math.prod(node.shape) for node in graph.nodes)
    size = max(1, _HELD // max(1, classes * widest))
    with torch.no_grad():
        for part, labels in zip(x.split(size), y.split(size), strict=True):
            region = input_region(part, ball)
            yield region, boxed(graph, region, deep), differences(labels, classes)


def differences(y: Int64[Tensor, " B"], classes: int) -> Float[Tensor, "B M K"]:
    """The matrix of z_y - z_k for the K - 1 classes k other than y, in their order.

    >>> differences(torch.tensor([1]), 3)[0].tolist()
    [[-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]
    """
    unit = torch.eye(classes, dtype=torch.float64, device=y.device)
    return unit[y][:, None] - unit[_others(y, classes)]


def _others(y: Tensor, classes: int) -> Tensor:
    """The classes other than y, in order, [B, K - 1]."""
    order = torch.arange(classes - 1, device=y.device)
    return order + (order >= y[:, None])
