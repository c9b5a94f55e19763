"""How do errors of the same origin cancel?  Zonotopes: every activation as an affine form of common noise symbols.

A value is c + sum_e g_e eps_e, the eps of the inputs in the unit ball of the threat's dual pairing and all others in
[-1, 1]. Affine maps are exact; each uncertain activation becomes a sloped line and one new symbol (Singh, Gehr, Mirman,
Puschel and Vechev 2018, Fast and Effective Robustness Certification, theorem 3.1). Forward, where CROWN goes backward:
the two share no bound, so each can check the other.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.enclosure import SLACK, Enclosure, enclosure
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.linear import differences
from stackelberg.certify.nodes import Activation, Affine
from stackelberg.certify.region import input_region, reach
from stackelberg.threat import Ball

MOST_ENTRIES = 1 << 27
"""Numbers that one activation's symbols may take (1 GiB); a larger network is refused."""


@dataclass(frozen=True, eq=False)
class Form:
    """centre [1, *shape] + symbols [E, *shape]; the first `inputs` symbols lie in the ball, the others in [-1, 1]."""

    centre: Tensor
    symbols: Tensor
    inputs: int
    dual: float

    def spread(self) -> Tensor:
        """max |value - centre| over all symbols, [1, *shape], with room for float64's rounding."""
        first, rest = self.symbols[: self.inputs], self.symbols[self.inputs :]
        reached = first.abs().sum(0) if self.dual == 1 else torch.linalg.vector_norm(first, self.dual, dim=0)
        size = reached + rest.abs().sum(0)
        return (size + 16 * SLACK * (size + self.centre[0].abs()))[None]

    def ends(self, known: Enclosure, place: int) -> tuple[Tensor, Tensor]:
        """(least, largest) value of the node at `place`, by this form of it and by what is `known` already."""
        spread = self.spread()
        return (
            torch.maximum(known.low[place], self.centre - spread),
            torch.minimum(known.high[place], self.centre + spread),
        )


def zonotope(model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"], ball: Ball) -> Certificate:
    """margin_i <= min over ball(x_i), k != y_i of z_y - z_k, by zonotopes, for linf, l2 and l1.

    Example by example: the symbols of one fill the memory. The float32 network's rounding is charged as in `enclosure`.

    Raises:
        Unsupported: an operation without a rule, the l0 norm, or a network too large.
    """
    if ball.norm == "l0":
        raise Unsupported("zonotopes have no rule for the l0 ball; use ibp")
    graph = graph_of(model, tuple(x.shape[1:]))
    margins = [_margin(graph, point[None], int(label), ball) for point, label in zip(x, y, strict=True)]
    return Certificate("zonotope", ball, torch.tensor(margins, dtype=torch.float64, device=x.device))


@torch.no_grad()
def _margin(graph: Graph, x: Tensor, label: int, ball: Ball) -> float:
    region = input_region(x, ball)
    known = enclosure(graph, region.low, region.high)
    end = forms(graph, input_form(x, ball), known)[-1]
    if end.centre.dim() != 2:
        raise Unsupported(f"bounds need logits [B, K], this network returns shape {tuple(end.centre.shape)}")
    rows = differences(torch.tensor([label], device=x.device), end.centre.shape[1])[0]
    gap = Form(end.centre @ rows.T, end.symbols @ rows.T, end.inputs, end.dual)
    lost = known.error[-1] @ rows.abs().T
    return float((gap.centre - gap.spread() - lost).min())


def input_form(x: Float[Tensor, " one *shape"], ball: Ball) -> Form:
    """The ball around one example: for linf a box cut to valid inputs, else the ball itself."""
    if ball.norm == "linf":
        region = input_region(x, ball)
        return box_form(region.low, region.high)
    count = math.prod(x.shape[1:])
    symbols = torch.eye(count, dtype=torch.float64, device=x.device).view(count, *x.shape[1:]) * reach(ball)
    return Form(x.double(), symbols, count, 2.0 if ball.norm == "l2" else math.inf)


def box_form(low: Float[Tensor, " one *shape"], high: Float[Tensor, " one *shape"]) -> Form:
    """A box of inputs; a coordinate that is fixed has no symbol."""
    radius = ((high - low) / 2).flatten()
    moving = radius.nonzero()[:, 0]
    symbols = torch.zeros(len(moving), len(radius), dtype=torch.float64, device=low.device)
    symbols[torch.arange(len(moving)), moving] = radius[moving]
    return Form((low + high).double() / 2, symbols.view(-1, *low.shape[1:]), len(moving), 1.0)


def forms(graph: Graph, start: Form, known: Enclosure) -> list[Form]:
    """The affine form of every node; activations are cut to the intervals already `known`."""
    found = [start]
    for place, node in enumerate(graph.nodes[1:], 1):
        if isinstance(node, Affine):
            found.append(_affine(node, [found[i] for i in node.inputs]))
        elif isinstance(node, Activation):
            before = found[node.input]
            found.append(_activated(node, before, *before.ends(known, node.input)))
        if found[place].symbols.numel() > MOST_ENTRIES:
            raise Unsupported(
                f"zonotopes would hold {found[place].symbols.numel()} numbers for one activation of this network, at"
                f" most {MOST_ENTRIES} are allowed; use crown"
            )
    return found


def _affine(node: Affine, parts: list[Form]) -> Form:
    most = max(len(part.symbols) for part in parts)
    symbols = torch.zeros(most, *node.shape, dtype=torch.float64, device=parts[0].centre.device)
    for linear, part in zip(node.maps, parts, strict=True):
        symbols[: len(part.symbols)] += linear.apply(part.symbols)
    return Form(node.apply([part.centre for part in parts]), symbols, parts[0].inputs, parts[0].dual)


def _activated(node: Activation, before: Form, low: Tensor, high: Tensor) -> Form:
    """slope * value + middle + half * (new symbol), where the function less its line lies in middle +- half."""
    slope, least, most = _band(node, low, high)
    middle, half = (most + least) / 2, (most - least) / 2
    half = half + 4 * SLACK * (low.abs() + high.abs() + most.abs()) * (half > 0)
    fresh = half.flatten().nonzero()[:, 0]
    new = torch.zeros(len(fresh), half.numel(), dtype=torch.float64, device=low.device)
    new[torch.arange(len(fresh)), fresh] = half.flatten()[fresh]
    symbols = torch.cat([before.symbols * slope, new.view(-1, *node.shape)])
    return Form(before.centre * slope + middle, symbols, before.inputs, before.dual)


def _band(node: Activation, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(slope, least, most): least <= f(t) - slope t <= most on [low, high]."""
    width = (high - low).clamp(min=1e-300)
    bottom, top = node.apply(low), node.apply(high)
    if node.piecewise:  # convex: the chord's ends are highest, zero is lowest
        across = (low < 0) & (high > 0)
        slope = torch.where(across, (top - bottom) / width, torch.where(low >= 0, 1.0, node.slope))
        most = torch.where(across, torch.maximum(top - slope * high, bottom - slope * low), 0.0)
        return slope, torch.zeros_like(most), most
    slope = torch.minimum(_steepness(node.kind, bottom), _steepness(node.kind, top))  # the least on [low, high]
    return slope, bottom - slope * low, top - slope * high


def _steepness(kind: str, value: Tensor) -> Tensor:
    """The derivative of sigmoid or tanh from its value."""
    return value * (1 - value) if kind == "sigmoid" else 1 - value**2
