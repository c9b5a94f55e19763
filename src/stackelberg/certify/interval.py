"""Interval bound propagation: the cheapest proof, a lower end for every traceable network."""

from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, fx, nn

from stackelberg.attacks import untouched
from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.reading import Reader, traced
from stackelberg.certify.region import TINY, Region, gamma, input_region, rounding_of, without_rounding, working
from stackelberg.certify.rules import affine
from stackelberg.certify.table import INTERVALS
from stackelberg.threat import Ball

_ENTRIES = 1 << 25  # of the margins' weights [B, K, n] held at a time
_readers: WeakKeyDictionary[nn.Module, tuple[Reader, nn.Linear | None]] = WeakKeyDictionary()


def interval(
    model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"], ball: Ball, batch_size: int = 128
) -> Certificate:
    """margin_i <= min over x' in ball(x_i), k != y_i of z_y(x') - z_k(x'), by interval bound propagation.

    Every activation is enclosed in a box, layer by layer (Gowal et al. 2018, section 3); the last linear layer is
    merged with the differences z_y - z_k (their section 3, "elision of the last layer"). For l2, l1 and l0 the first
    affine layer (a normalisation before it included) is bounded by the dual norm, radius * ||row||_q, as well as by the
    box, whichever is tighter; after it everything is intervals.

    Sound for the network as it runs: each rule adds the rounding error of the network's own precision (see `region`),
    for every x' that `Ball.contains` accepts. Assumed: sums of products in any order and fused or not, TF32 on a GPU,
    elementwise functions within 8 units in the last place. Not covered: Winograd or FFT convolutions, reduced
    matmul precision on a CPU (torch.set_float32_matmul_precision other than "highest"), autocast.

    >>> import torch
    >>> net = torch.nn.Flatten()  # two pixels are the two logits
    >>> x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])
    >>> round(float(interval(net, x, y, Ball("linf", 0.1)).margin[0]), 4)
    0.3

    Args:
        model: traceable by torch.fx, built from the operations in `table`; comes back as it was given.
        x: inputs in [ball.low, ball.high].
        y: labels.
        ball: the threat.
        batch_size: examples bounded at a time; float64 activations of this many are held.

    Raises:
        Unsupported: the network cannot be traced, or holds an operation without a rule (named).
    """
    with untouched(model), rounding_of(model), torch.no_grad():
        reader, head = _read(model)
        margins = [
            _gaps(reader.answer(input_region(part, ball)), head, labels).scatter(1, labels[:, None], torch.inf).amin(1)
            for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True)
        ]
    return Certificate("ibp", ball, torch.cat(margins) if margins else x.new_zeros(0, dtype=torch.float64))


def interval_gaps(
    model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"], ball: Ball
) -> Float[Tensor, "B K"]:
    """The bounds of `interval` on z_y - z_k for each k, differentiable in the parameters: to train by, no proof.

    In the precision of x and without room for rounding. Batch normalisation counts with its running statistics. The
    network is traced once and must keep its structure; entry y is 0.
    """
    if model not in _readers:
        _readers[model] = _read(model)
    reader, head = _readers[model]
    with without_rounding(x.dtype):
        gaps = _gaps(reader.answer(input_region(x, ball)), head, y)
    return gaps.scatter(1, y[:, None], 0.0)


def _read(model: nn.Module) -> tuple[Reader, nn.Linear | None]:
    """(the network up to its last linear layer, that layer), or (the network, None) if it ends otherwise."""
    graph = traced(model, INTERVALS.name)
    head = _split(graph)
    return Reader(graph, INTERVALS), head


def _split(graph: fx.GraphModule) -> nn.Linear | None:
    """Take the last linear layer off, if the network ends with one, and return it."""
    output = next(node for node in graph.graph.nodes if node.op == "output")
    last = output.args[0]
    if not isinstance(last, fx.Node) or last.op != "call_module":
        return None
    layer = graph.get_submodule(str(last.target))
    if type(layer) is not nn.Linear:
        return None
    output.args = (last.args[0],)
    return layer


def _gaps(region: Region, head: nn.Linear | None, y: Tensor) -> Tensor:
    """Lower bounds of z_y - z_k, [B, K], from the activations before `head` (or from logits); entry y says nothing."""
    if head is None:
        if region.low.dim() != 2:
            raise Unsupported(f"interval bounds need logits [B, K], this network returns shape {tuple(region.shape)}")
        return region.low.gather(1, y[:, None]) - region.high
    return _last_layer(region, head, y) if region.origin is None else _single_layer(region, head, y)


def _last_layer(region: Region, head: nn.Linear, y: Tensor) -> Tensor:
    """Lower bounds [B, K] of z_y - z_k = (w_y - w_k) a + b_y - b_k, less the rounding of both logits."""
    weight = working(head.weight)
    bias = weight.new_zeros(len(weight)) if head.bias is None else working(head.bias)
    rate = gamma(head.in_features + 1, products=True)
    logits = region.centre @ weight.T + bias
    slack = rate * (region.magnitude @ weight.abs().T + bias.abs()) + TINY
    gaps = logits.gather(1, y[:, None]) - logits - slack.gather(1, y[:, None]) - slack
    chunk, radius = max(1, _ENTRIES // weight.numel()), region.radius
    apart = [
        torch.bmm((weight[labels, None] - weight).abs(), spread[:, :, None])[..., 0]  # |w_y - w_k| [., K, n]
        for labels, spread in zip(y.split(chunk), radius.split(chunk), strict=True)
    ]
    return gaps - torch.cat(apart)


def _single_layer(region: Region, head: nn.Linear, y: Tensor) -> Tensor:
    """As `_last_layer` where the whole network is one affine map: all pairs (w_j - w_k) at once, with dual norms."""
    weight = working(head.weight)
    bias = weight.new_zeros(len(weight)) if head.bias is None else working(head.bias)
    pairs = (weight[:, None] - weight).flatten(0, 1)
    both = affine(region, nn.functional.linear, pairs, (bias[:, None] - bias).flatten(), head.in_features)
    low = both.low.view(len(y), len(weight), len(weight))
    rate = gamma(head.in_features + 1, products=True)
    slack = rate * (region.magnitude @ weight.abs().T + bias.abs()) + TINY
    gaps = low[torch.arange(len(y), device=y.device), y]
    return gaps - slack.gather(1, y[:, None]) - slack
