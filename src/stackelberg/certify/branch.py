"""Is it true everywhere in the box?  Decided by splitting the box or the ReLUs until linear bounds prove each part."""

import math
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.certify.ascent import Search
from stackelberg.certify.backward import Boxes, least, substituted
from stackelberg.certify.boxing import boxed
from stackelberg.certify.certificate import Certificate
from stackelberg.certify.clipping import shrunk
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.linear import DEEP, differences, margins, searched
from stackelberg.certify.region import Region, input_region
from stackelberg.certify.splitting import ASSUMED, Phases, paced
from stackelberg.threat import Ball

_FEW = 12  # inputs: with so few, boxes are split, not ReLUs
_TOGETHER = 1 << 22  # entries of one node's coefficients over a batch of parts


@dataclass(frozen=True, eq=False)
class Decision:
    """Whether objective z(x) + offset > 0 in every row for every x of the region.

    Attributes:
        verdict: "proved", "broken" (a point with a row <= 0, in float64, is known) or "open".
        point: [*shape] where broken, else None.
        bound: a proved lower bound of the least row over the region; of what is still open, if open.
        parts: how many parts of the region were bounded.
    """

    verdict: str
    point: Tensor | None
    bound: float
    parts: int


def decide(
    graph: Graph,
    low: Float[Tensor, " *shape"],
    high: Float[Tensor, " *shape"],
    objective: Float[Tensor, "M K"],
    offset: Float[Tensor, " M"],
    seconds: float | int = 60.0,
    deep: int = DEEP,
) -> Decision:
    """Are all rows of objective z(x) + offset > 0 for low <= x <= high?

    Linear bounds first, then a search for a point that says no, then optimised linear bounds, then branch and bound:
    over boxes where there are few inputs, else over the signs of ReLUs, with the split's multipliers optimised
    together with the slopes (beta-CROWN, Wang et al. 2021) and the ReLU to split chosen by filtered smart branching
    (De Palma et al. 2021). A part in which every sign is known is decided by a linear program. Complete for networks
    of ReLUs up to the float network's rounding, which every bound pays for; with sigmoid or tanh it may end "open".

    Args:
        graph: of the network, with logits [K].
        low: smallest input.
        high: largest input.
        objective: one row per condition.
        offset: one number per condition.
        seconds: after which it gives up and says "open".
        deep: see `backward.boxed`.
    """
    region = Region(low.double()[None], high.double()[None])
    return _decided(graph, region, objective.double(), offset.double(), seconds, deep)


def complete(
    model: nn.Module,
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " B"],
    ball: Ball,
    seconds: float | int = 10.0,
    deep: int = DEEP,
) -> Certificate:
    """As `alpha_crown`, and what it leaves open is decided by branch and bound, for at most `seconds` an example.

    The margin is a proved lower bound, positive where proved; where it is not, the best bound of the whole ball.

    Args:
        model: as for `crown`.
        x: inputs in [ball.low, ball.high].
        y: labels.
        ball: the threat.
        seconds: per example.
        deep: see `backward.boxed`.

    Raises:
        Unsupported: as for `crown`.
    """
    graph = graph_of(model, tuple(x.shape[1:]))
    goals = differences(y, graph.nodes[-1].shape[0])
    found = [
        _decided(graph, input_region(one[None], ball), goal, goal.new_zeros(len(goal)), seconds, deep).bound
        for one, goal in zip(x, goals, strict=True)
    ]
    return Certificate("branch and bound", ball, torch.tensor(found, dtype=torch.float64, device=x.device))


@torch.no_grad()
def _decided(
    graph: Graph, region: Region, objective: Tensor, offset: Tensor, seconds: float | int, deep: int
) -> Decision:
    deadline = time.monotonic() + seconds
    boxes = boxed(graph, region, deep)
    bound = margins(graph, region, boxes, objective[None], offset[None], None)[0]
    if bool((bound > 0).all()):
        return Decision("proved", None, float(bound.amin()), 1)
    left = (bound <= 0).nonzero()[:, 0]
    point = broken_at(graph, region, objective[left], offset[left])
    if point is not None:
        return Decision("broken", point, float(bound.amin()), 1)
    few = math.prod(graph.shape) <= _FEW
    if not few:
        rest = max(0.0, deadline - time.monotonic())
        goal = objective[None, left], offset[None, left]
        search = Search(inner=rest > 0.1, until=deadline - rest / 2)
        better, boxes = searched(graph, region, boxes, *goal, search, deep)
        bound[left] = better[0]
        left = (bound <= 0).nonzero()[:, 0]
    sure = float(bound.masked_fill(bound <= 0, torch.inf).amin())
    if not len(left):
        return Decision("proved", None, sure, 1)
    if few:
        rest = _by_boxes(graph, region, objective[left], offset[left], deadline, deep)
    elif all(graph.nodes[i].piecewise for i in graph.activations):  # pyright: ignore[reportAttributeAccessIssue]
        rest = _by_phases(graph, region, boxes, objective[left], offset[left], deadline)
    else:
        return Decision("open", None, float(bound.amin()), 1)
    worst = min(sure, rest.bound) if rest.verdict == "proved" else float(bound.amin())
    return Decision(rest.verdict, rest.point, worst, rest.parts + 1)


def broken_at(
    graph: Graph, region: Region, objective: Tensor, offset: Tensor, steps: int = 30, starts: int = 8
) -> Tensor | None:
    """A point of the region where a row is not above zero, by signed steps from random starts; None if none is found.

    For norms other than linf only the centre and projections are tried. The point is one of float32, judged in float64.
    """
    low, high = region.low.float(), region.high.float()
    low, high = torch.maximum(low, low.nextafter(high)), torch.minimum(high, high.nextafter(low))  # inside for certain
    rows = len(objective)
    light = graph.to(torch.float32)
    noise = torch.rand(starts, *low.shape[1:], generator=torch.Generator().manual_seed(0)).to(low.device)
    place = (low + (high - low) * noise).repeat_interleave(rows, 0)
    goal = objective.float().repeat(starts, 1)
    for step in range(steps):
        with torch.enable_grad():
            place.requires_grad_()
            value = (light.values(place)[-1] * goal).sum()
            slope = torch.autograd.grad(value, place)[0]
        size = 0.5 * (1 - step / steps) ** 2 + 0.005
        place = (place.detach() - size * (high - low) * slope.sign()).clamp(low, high)
        place = _back_in(place, region)
        bad = _bad(graph, place, objective, offset)
        if bad is not None:
            return bad
    return None


def _back_in(place: Tensor, region: Region) -> Tensor:
    if region.origin is None:
        return place
    centre = region.origin.centre.float()
    return region.origin.ball.project(place, centre.expand_as(place))


def _bad(graph: Graph, place: Tensor, objective: Tensor, offset: Tensor) -> Tensor | None:
    worst = (graph.forward(place) @ objective.T + offset).amin(1)
    number = int(worst.argmin())
    return place[number] if float(worst[number]) <= 0 else None


def _by_boxes(graph: Graph, region: Region, objective: Tensor, offset: Tensor, deadline: float, deep: int) -> Decision:
    """Splits the box across the side that moves the bound most, many open parts at once, each clipped before."""
    wide = max(math.prod(node.shape) for node in graph.nodes)
    most, now = max(1, _TOGETHER // (wide * wide)), 64
    low, high = region.low, region.high
    worst = low.new_full((1,), -torch.inf)
    least_proved, parts, last, assumed = torch.inf, 0, len(graph.nodes) - 1, 0.0
    while len(low):
        if time.monotonic() > deadline:
            return Decision("open", None, float(worst.amin()), parts)
        begun = time.monotonic()
        take = worst.argsort()[: min(most, now)]
        rest = torch.ones(len(low), dtype=torch.bool, device=low.device).index_fill_(0, take, False)
        part = Region(low[take], high[take], None if region.origin is None else region.origin)
        boxes = boxed(graph, part, deep)
        goal = objective.expand(len(take), -1, -1)
        function = substituted(graph, boxes, last, goal)
        bound = least(function, part) + offset
        parts += len(take)
        assumed = assumed or ASSUMED * abs(float(bound.amin()))
        least_proved = min([least_proved, *bound.amin(1)[bound.amin(1) > 0].tolist()])
        a = function.coefficients
        assert isinstance(a, Tensor)
        corner = torch.where(
            (a * (bound <= 0).view(*bound.shape, *[1] * (a.dim() - 2))).sum(1) > 0, part.low, part.high
        )
        tried = torch.cat([corner, part.centre]).float().clamp(region.low.float(), region.high.float())
        bad = _bad(graph, _back_in(_inside(tried, region), region), objective, offset)
        if bad is not None:
            return Decision("broken", bad, float(worst.amin()), parts)
        left = (bound <= 0).any(1)
        ends = shrunk(
            part.low[left], part.high[left], a[left], (function.constant + offset)[left] - assumed, bound[left] > 0
        )
        share = (a[left].abs().sum(1) * (ends[1] - ends[0])).flatten(1)
        halves = _halved(*ends, share.argmax(1))
        low, high = torch.cat([low[rest], halves[0]]), torch.cat([high[rest], halves[1]])
        worst = torch.cat([worst[rest], bound.amin(1)[left].repeat(2)])
        now = paced(len(take), time.monotonic() - begun, deadline)
    return Decision("proved", None, min(least_proved, assumed), parts)


def _inside(points: Tensor, region: Region) -> Tensor:
    """Float32 points that lie between float64 ends for certain."""
    low, high = region.low.float(), region.high.float()
    low = torch.where(low.double() < region.low, low.nextafter(torch.full_like(low, torch.inf)), low)
    high = torch.where(high.double() > region.high, high.nextafter(torch.full_like(high, -torch.inf)), high)
    return points.clamp(low, torch.maximum(low, high))


def _halved(low: Tensor, high: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of each box across one side: first all lower ones, then all upper ones."""
    flat_low, flat_high = low.flatten(1), high.flatten(1)
    middle = (flat_low.gather(1, side[:, None]) + flat_high.gather(1, side[:, None])) / 2
    lows = torch.cat([flat_low, flat_low.scatter(1, side[:, None], middle)])
    highs = torch.cat([flat_high.scatter(1, side[:, None], middle), flat_high])
    return lows.view(-1, *low.shape[1:]), highs.view(-1, *low.shape[1:])


def _by_phases(
    graph: Graph, region: Region, boxes: Boxes, objective: Tensor, offset: Tensor, deadline: float
) -> Decision:
    """Splits the ReLU that promises most, the worst open parts of all rows at once."""
    phases = Phases(graph, region, boxes, objective, offset, deadline)
    while phases.count:
        if time.monotonic() > deadline:
            return Decision("open", None, -math.inf, phases.done)
        point = phases.step()
        if point is not None:
            bad = _bad(graph, _back_in(_inside(point, region), region), objective, offset)
            if bad is not None:
                return Decision("broken", bad, -math.inf, phases.done)
    if phases.given_up:
        return Decision("open", None, -math.inf, phases.done)
    return Decision("proved", None, phases.least_proved, phases.done)
