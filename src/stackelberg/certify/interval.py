"""Interval bound propagation: the cheapest proof, a lower end for every traceable network."""

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from stackelberg.attacks import untouched
from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.region import TINY, Region, gamma, input_region, rounding_of, without_rounding, working
from stackelberg.certify.rules import affine
from stackelberg.certify.table import FUNCTIONS, METHODS, MODULES, VIEWS
from stackelberg.threat import Ball

_ENTRIES = 1 << 25  # of the margins' weights [B, K, n] held at a time
_bounds: "WeakKeyDictionary[nn.Module, tuple[_Bounds, nn.Linear | None]]" = WeakKeyDictionary()


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
        graph, head = _split(_traced(model))
        bounds = _Bounds(graph)
        margins = [
            _gaps(bounds.region(input_region(part, ball)), head, labels).scatter(1, labels[:, None], torch.inf).amin(1)
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
    if model not in _bounds:
        graph, head = _split(_traced(model))
        _bounds[model] = _Bounds(graph), head
    bounds, head = _bounds[model]
    with without_rounding(x.dtype):
        gaps = _gaps(bounds.region(input_region(x, ball)), head, y)
    return gaps.scatter(1, y[:, None], 0.0)


def _traced(model: nn.Module) -> fx.GraphModule:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fx.symbolic_trace(model)
    except Exception as error:  # the user's code runs in a trace, so any error may come out
        reason = str(error).strip().split("\n")[0]
        raise Unsupported(
            f"interval bounds need a network that torch.fx can trace, {type(model).__name__} cannot be ({reason});"
            " take control flow that depends on activations out of its forward"
        ) from error


def _split(graph: fx.GraphModule) -> tuple[fx.GraphModule, nn.Linear | None]:
    """(the network up to its last linear layer, that layer), or (the network, None) if it ends otherwise."""
    output = next(node for node in graph.graph.nodes if node.op == "output")
    last = output.args[0]
    if not isinstance(last, fx.Node) or last.op != "call_module":
        return graph, None
    layer = graph.get_submodule(str(last.target))
    if type(layer) is not nn.Linear:
        return graph, None
    output.args = (last.args[0],)
    return graph, layer


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


class _Bounds(fx.Interpreter):
    """Runs a traced network on regions instead of tensors."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # an error stays one sentence

    def region(self, start: Region) -> Region:
        """The region of the output from the region of the input."""
        out = self.run(start, enable_io_processing=False)
        if not isinstance(out, Region):
            raise Unsupported(
                f"interval bounds need logits that depend on the input, this network returns {type(out).__name__}"
            )
        return out

    def run_node(self, n: fx.Node) -> Any:
        self._refuse_overwriting(n)
        return super().run_node(n)

    def _refuse_overwriting(self, node: fx.Node) -> None:
        """An in-place operation also changes what other users of its input see; an interval would not follow."""
        module = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        inplace = getattr(module, "inplace", False) or node.kwargs.get("inplace", False) or node.target is torch.relu_
        inplace = inplace or (node.op == "call_method" and str(node.target).endswith("_"))
        before = node.args[0] if inplace and node.args else None
        while isinstance(before, fx.Node):
            if len(before.users) > 1:
                raise Unsupported(
                    f"interval bounds cannot follow {node.name}, which works in place on a value that is used again;"
                    " pass inplace=False"
                )
            before = before.args[0] if before.target in VIEWS and before.args else None

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _holds_region(args, kwargs):
            return super().call_module(target, args, kwargs)
        module = self.fetch_attr(target)
        rule = MODULES.get(type(module))
        if rule is None or len(args) != 1 or kwargs:
            raise _unsupported(type(module).__name__, str(target))
        return rule(module, args[0])

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _holds_region(args, kwargs) or (target is getattr and args[1] == "shape"):
            return super().call_function(target, args, kwargs)
        name = getattr(target, "__name__", str(target))
        if target not in FUNCTIONS:
            raise _unsupported(name)
        return _applied(FUNCTIONS[target], name, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _holds_region(args, kwargs):
            return super().call_method(target, args, kwargs)
        if target in ("size", "dim"):
            return getattr(args[0].low, target)(*args[1:], **kwargs)
        if target not in METHODS:
            raise _unsupported(str(target))
        return _applied(METHODS[target], str(target), args, kwargs)


def _applied(rule: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Region:
    try:
        return rule(*args, **kwargs)
    except TypeError as error:  # options the rule does not know: nothing is claimed about them
        raise _unsupported(f"{name} with options {sorted(kwargs)}") from error


def _holds_region(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    flat: list[Any] = []
    map_aggregate([args, kwargs], flat.append)
    return any(isinstance(a, Region) for a in flat)


def _unsupported(operation: str, where: str | None = None) -> Unsupported:
    at = f" (at {where})" if where else ""
    return Unsupported(
        f"interval bounds have no rule for {operation}{at}, so nothing is proved about this network; use linear,"
        " convolution, batch norm, pooling, ReLU-like activations, sums and reshapes"
    )
