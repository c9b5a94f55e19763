"""What is proved about one batch, and at what cost?  Cheap proofs of every example, dear ones of what is in doubt."""

import math
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from stackelberg.certify import Certificate, Unsupported, alpha_crown, crown, graph_of, interval, steepness
from stackelberg.certify.steepness import Steep
from stackelberg.threat import Ball

Proof = Callable[[nn.Module, Tensor, Tensor, Ball], Certificate]
PROOFS: dict[str, Proof] = {"ibp": interval}
"""The methods asked about every right example, cheapest first; the lower end is the union of what is certified."""

_WIDE = 50_000  # activations: linear bounds of a wider network take minutes an example and prove little
_TRIES = {"fast": 1, "standard": 1, "max": 4}  # radii at which one example is asked
_GROUP = 8  # examples asked together at a radius, the likeliest first; after a group without a proof no other is asked


def cheap(model: nn.Module) -> dict[str, Proof]:
    """`PROOFS`; of a network that declares how fast it can move, its margins, which are all there is to prove by."""
    return {"steepness": steepness} if isinstance(model, Steep) else PROOFS


def dear(model: nn.Module, shape: tuple[int, ...], effort: str) -> dict[str, Proof]:
    """The methods asked only where the cheap ones have no proof and the attacks no counterexample.

    CROWN with as many coefficients per layer as the effort allows; with effort "max" optimised slopes too. None for a
    network that has no graph, or more than fifty thousand activations: `certify` proves single examples of those.
    """
    try:
        graph = graph_of(model, shape)
    except Unsupported:
        return {}
    if len(graph.nodes[-1].shape) != 1 or sum(math.prod(graph.nodes[i].shape) for i in graph.activations) > _WIDE:
        return {}
    if effort == "max":
        return {"crown": crown, "alpha-crown": alpha_crown}
    return {"crown": partial(crown, deep=1 << (22 if effort == "fast" else 27))}


def proved(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    right: Tensor,
    broken_from: Tensor,
    ball: Ball,
    radii: tuple[float, ...],
    effort: str,
) -> tuple[dict[str, tuple[int, ...]], dict[str, str], dict[str, float]]:
    """Per method: how many leading radii are proved per example; why not, if not; seconds.

    Radius 0 needs no proof where the label is right. The cheap methods climb: at each radius the examples proved at the
    one before are asked. A dear method starts from what is proved already; it is asked at the ball's own radius, and
    with effort "max" halves the radii that are left below the first at which the example was broken, since a proof
    holds for every smaller ball. At each radius the likeliest examples come first, and after a few in a row without a
    proof it is not asked about the others.
    """
    depths, reasons, seconds = {}, {}, {}
    known = right.long()
    for method, prove in cheap(model).items():
        begun = time.perf_counter()
        depth = right.long()
        try:
            for place in range(1, len(radii)):
                _ask(prove, model, x, y, ball.with_radius(radii[place]), (depth == place).nonzero()[:, 0], depth, place)
        except Unsupported as error:
            reasons[method] = str(error)
        depths[method] = tuple(depth.tolist())
        seconds[method] = time.perf_counter() - begun
        known = torch.maximum(known, depth)
    for method, prove in dear(model, tuple(x.shape[1:]), effort).items():
        begun = time.perf_counter()
        known = _halving(prove, model, x, y, known, torch.where(right, broken_from, 0), ball, radii, _TRIES[effort])
        depths[method] = tuple(known.tolist())
        seconds[method] = time.perf_counter() - begun
    return depths, reasons, seconds


def _ask(
    prove: Proof, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, asked: Tensor, depth: Tensor, place: int
) -> Tensor:
    """Which of the examples asked are certified in the ball; their depth becomes place + 1."""
    if not len(asked):
        return torch.zeros(0, dtype=torch.bool, device=x.device)
    sure = prove(model, x[asked], y[asked], ball).certified
    depth[asked[sure]] = place + 1
    return sure


def _halving(
    prove: Proof,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    known: Tensor,
    broken: Tensor,
    ball: Ball,
    radii: tuple[float, ...],
    tries: int,
) -> Tensor:
    """How many leading radii are proved, from `known`, by trying first the ball's own radius, then the middle."""
    depth, limit, own = known.clone(), broken.clone(), radii.index(ball.radius)
    for number in range(tries):
        middle = (depth + limit) // 2
        trial = torch.where((depth <= own) & (own < limit), own, middle) if number == 0 else middle
        trial = torch.where(depth < limit, trial, -1)
        for place in trial[trial >= 0].unique().tolist():
            smaller = ball.with_radius(radii[place])
            groups = _likeliest(model, x, y, smaller, (trial == place).nonzero()[:, 0]).split(_GROUP)
            for first, group in enumerate(groups):
                sure = _ask(prove, model, x, y, smaller, group, depth, place)
                limit[group[~sure]] = place
                if not sure.any():
                    left = torch.cat(groups[first:])
                    limit[left] = torch.minimum(limit[left], torch.full_like(limit[left], place))
                    break
    return depth


def _likeliest(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, asked: Tensor) -> Tensor:
    """The examples asked, by falling margin of linear bounds over intervals: quick, and ordered much as better ones."""
    if len(asked) <= _GROUP:
        return asked
    return asked[crown(model, x[asked], y[asked], ball, deep=0).margin.argsort(descending=True, stable=True)]
