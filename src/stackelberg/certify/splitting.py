"""How are the signs of ReLUs split?  Open parts of one region for one condition, the worst bounded first."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from stackelberg.certify import single
from stackelberg.certify.ascent import Search, climbed
from stackelberg.certify.backward import Boxes, Linear, least, rows_of, substituted
from stackelberg.certify.graph import Graph
from stackelberg.certify.nodes import Activation
from stackelberg.certify.region import Region
from stackelberg.certify.relaxation import adaptive, lines

_TOGETHER = 1 << 22  # coefficients of the widest node held at a time
_STORED = 1 << 28  # signs and slopes of all open parts
_CANDIDATES = 3
_FIRST = 16  # parts of the first batch
_PENALTY = 1e4


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
            before = _before(graph, place)
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


def paced(count: int, seconds: float, until: float) -> int:
    """So many parts took so long: how many next, at most twice as many, and in an eighth of the time that is left."""
    room = max(until - time.monotonic(), 0.0) / 8 / max(seconds, 1e-4)
    return max(1, int(count * room) if room < 1 else int(max(count, _FIRST) * min(room, 2.0)))


def _before(graph: Graph, place: int) -> int:
    node = graph.nodes[place]
    assert isinstance(node, Activation)
    return node.input


class Phases:
    """Open parts of a region: each assumes the sign of some ReLUs.

    Attributes:
        done: how many parts were bounded.
        least_proved: the least bound of the parts that are proved.
        given_up: whether a part is decided but not proved: closer to zero than the float network's rounding.
    """

    def __init__(
        self, graph: Graph, region: Region, boxes: Boxes, objective: Tensor, offset: Tensor, until: float
    ) -> None:
        self.graph, self.region, self.boxes, self.until = graph, region, boxes, until
        self.light = single.worth(graph) and torch.equal(objective, objective.float().double())
        self.small = graph.to(torch.float32) if self.light else graph
        self.together = _FIRST  # parts split at a time: as many as the time that is left allows
        self.objective, self.offset = objective, offset
        self.neurons = Neurons.of(graph, boxes)
        widest = max(math.prod(node.shape) for node in graph.nodes)
        self.most = max(1, _TOGETHER // (4 * widest))
        self.done, self.least_proved, self.given_up = 0, math.inf, False
        total, device = self.neurons.total, region.low.device
        self.sign = torch.zeros(0, total, dtype=torch.int8, device=device)
        self.alpha = torch.zeros(0, total, device=device)
        self.multiplier = torch.zeros(0, total, device=device)
        self.bound = torch.zeros(0, dtype=torch.float64, device=device)
        self.next = torch.zeros(0, _CANDIDATES, dtype=torch.long, device=device)
        root = torch.zeros(1, total, dtype=torch.int8, device=device)
        self.low, self.high = (
            self.neurons.gathered({p: ends[_before(graph, p)][:, None] for p in self.neurons.places}) if total else root
            for ends in (boxes.low, boxes.high)
        )
        first = adaptive(self.low, self.high).float()
        self._bounded(root, first, torch.zeros_like(first), Search(30, decay=0.97, until=until))

    @property
    def count(self) -> int:
        """Open parts."""
        return 0 if self.given_up else len(self.sign)

    def step(self) -> Tensor | None:
        """Splits the worst parts; points [n, *shape] where they are least, to be tried."""
        begun = time.monotonic()
        take = self.bound.argsort()[: min(self.most, self.together)]
        sign, alpha, following, multiplier = self.sign[take], self.alpha[take], self.next[take], self.multiplier[take]
        rest = torch.ones(len(self.sign), dtype=torch.bool, device=take.device).index_fill_(0, take, False)
        self.sign, self.alpha, self.bound, self.next, self.multiplier = (
            self.sign[rest], self.alpha[rest], self.bound[rest], self.next[rest], self.multiplier[rest]
        )  # fmt: skip
        chosen = self._filtered(sign, alpha, following)
        children = torch.cat([sign.scatter(1, chosen[:, None], s) for s in (1, -1)])
        search = Search(12, 0.1, 0.95, until=self.until)
        points = self._bounded(children, alpha.repeat(2, 1), multiplier.repeat(2, 1), search)
        self.together = paced(len(take), time.monotonic() - begun, self.until)
        return points

    def _filtered(self, sign: Tensor, alpha: Tensor, following: Tensor) -> Tensor:
        """Of the candidates of each part, the one whose worse half has the best quick bound."""
        worth = []
        for number in following.unbind(1):
            halves = [sign.scatter(1, number[:, None], s) for s in (1, -1)]
            both = torch.cat(halves)
            bound = self._least(both, self.neurons.spread(alpha.repeat(2, 1), self.graph), None, light=True)[0]
            worth.append(torch.minimum(*bound[:, 0].view(2, -1)))
        return following.gather(1, torch.stack(worth, 1).argmax(1)[:, None])[:, 0]

    def _least(
        self, sign: Tensor, alpha: dict[int, Tensor], split: dict[int, Tensor] | None, light: bool = False
    ) -> tuple[Tensor, Linear, Boxes]:
        """In float32 where that is sound (`single`); `light` to choose only: no proof."""
        boxes, region = self._boxes(sign), self._regions(sign)
        goal, last = self.objective.expand(len(sign), 1, -1), len(self.graph.nodes) - 1
        kind, held = torch.float64, boxes
        if self.light:
            kind = torch.float32
            held = boxes.to(kind) if light else single.lightened(self.graph, boxes)
            region = region if light else single.reached(region, boxes)
        alpha = {place: a.to(kind) for place, a in alpha.items()}
        split = None if split is None else {place: v.to(kind) for place, v in split.items()}
        function = substituted(self.small, held, last, goal.to(kind), alpha, split, rounding=not light, keep=not light)
        function = single.doubled(function) if self.light else function
        return least(function, region) + self.offset, function, boxes

    def _regions(self, sign: Tensor) -> Region:
        """The one region, once for each part."""
        return rows_of(self.region, torch.zeros(len(sign), dtype=torch.long, device=sign.device))

    def _boxes(self, sign: Tensor) -> Boxes:
        """The region's boxes, cut at zero where a sign is assumed."""
        parts = [
            [t.expand(len(sign), *t.shape[1:]) for t in p] for p in (self.boxes.low, self.boxes.high, self.boxes.error)
        ]
        for place, signs in self.neurons.spread(sign, self.graph).items():
            before = _before(self.graph, place)
            low, high = parts[0][before], parts[1][before]
            parts[0][before] = torch.where(signs[:, 0] > 0, low.clamp(min=0), low)
            parts[1][before] = torch.where(signs[:, 0] < 0, high.clamp(max=0), high)
        return Boxes(*parts)

    def _bounded(self, sign: Tensor, alpha: Tensor, multiplier: Tensor, search: Search) -> Tensor | None:
        """Bounds new parts and stores those that stay open; their minimisers."""
        self.done += len(sign)
        region = self._regions(sign)
        boxes = self._boxes(sign)
        goal, shift = self.objective.expand(len(sign), 1, -1), self.offset.expand(len(sign), 1)
        start = self.neurons.spread(alpha, self.graph)
        signs = {p: s.float() for p, s in self.neurons.spread(sign, self.graph).items()}
        begun = self.neurons.spread(multiplier, self.graph)
        found = climbed(self.graph, region, boxes, goal, shift, search, start, signs, multipliers=begun)
        bound, function, boxes = self._least(sign, found.alpha, found.split)
        bound = bound[:, 0]
        full = (sign != 0).all(1)
        for number in (full & (bound <= 0)).nonzero()[:, 0].tolist():
            bound[number], point = self._leaf(sign[number : number + 1])
            if bound[number] <= 0:
                self.given_up = True
                return point
        left = bound <= 0
        self.least_proved = min([self.least_proved, *bound[~left].tolist()])
        if not left.any():
            return None
        score = self._scores(function, boxes, found.alpha, sign)
        slopes, multiplier = (self.neurons.gathered(part)[left].float() for part in (found.alpha, found.split))
        self._store(sign[left], slopes, multiplier.abs(), bound[left], score[left])
        a = function.coefficients
        assert isinstance(a, Tensor)
        return torch.where(a[left, 0] > 0, self.region.low, self.region.high).float()

    def _store(self, sign: Tensor, alpha: Tensor, multiplier: Tensor, bound: Tensor, score: Tensor) -> None:
        best = score.topk(min(_CANDIDATES, score.shape[1]), dim=1)
        numbers = torch.where(best.values > 0, best.indices, best.indices[:, :1])
        numbers = torch.cat([numbers, numbers[:, :1].expand(-1, _CANDIDATES - numbers.shape[1])], 1)
        self.sign, self.alpha = torch.cat([self.sign, sign]), torch.cat([self.alpha, alpha])
        self.multiplier = torch.cat([self.multiplier, multiplier])
        self.bound, self.next = torch.cat([self.bound, bound]), torch.cat([self.next, numbers])
        if self.sign.numel() > _STORED:
            self.given_up = True

    def _scores(self, function: Linear, boxes: Boxes, alpha: dict[int, Tensor], sign: Tensor) -> Tensor:
        """How much of the bound is lost to each open ReLU's triangle (De Palma et al. 2021, section 4), [n, total]."""
        lost = {}
        for place in self.neurons.places:
            node, before = self.graph.nodes[place], _before(self.graph, place)
            assert isinstance(node, Activation)
            low, high = boxes.low[before][:, None], boxes.high[before][:, None]
            a = function.seen.get(place, torch.zeros_like(low))
            gap = torch.minimum(alpha[place] * -low, (1 - alpha[place]) * high).clamp(min=0) * (1 - node.slope)
            lost[place] = a.clamp(max=0).abs() * lines(node, low, high).roof + a.clamp(min=0) * gap
        return (self.neurons.gathered(lost) + 1e-12).masked_fill(sign != 0, -1.0)

    def _leaf(self, sign: Tensor) -> tuple[float, Tensor]:
        """All signs known: a linear program, whose multipliers give the bound; (bound, minimiser [1, *shape]).

        min c.x + penalty t over x in the box and t >= 0 with g_i(x) <= t for every ReLU, where g_i is nowhere above
        minus the assumed sign times the value before it. With any multipliers v >= 0, c + sum_i v_i g_i is a bound.
        """
        boxes = self._boxes(sign)
        functions = [substituted(self.graph, boxes, len(self.graph.nodes) - 1, self.objective.expand(1, 1, -1))]
        for place, signs in self.neurons.spread(sign.double(), self.graph).items():
            before = _before(self.graph, place)
            flat = signs.flatten()
            numbers = flat.nonzero()[:, 0]
            unit = flat.new_zeros(1, len(numbers), len(flat))
            unit[0, torch.arange(len(numbers)), numbers] = -flat[numbers]
            functions.append(substituted(self.graph, boxes, before, unit.unflatten(2, self.graph.nodes[before].shape)))
        coefficients = [f.coefficients.flatten(2)[0] for f in functions if isinstance(f.coefficients, Tensor)]
        objective, guards = coefficients[0][0], torch.cat(coefficients[1:])
        shifts = torch.cat([f.constant.reshape(-1) for f in functions[1:]])
        low, high = self.region.low.flatten(), self.region.high.flatten()
        solved = linprog(
            np.append(objective.cpu().numpy(), _PENALTY),
            A_ub=np.concatenate([guards.cpu().numpy(), -np.ones((len(guards), 1))], 1),
            b_ub=-shifts.cpu().numpy(),
            bounds=[*zip(low.tolist(), high.tolist(), strict=True), (0, None)],
            method="highs",
        )
        start = torch.where(objective > 0, low, high)
        if solved.x is None:
            return -math.inf, start.view(1, *self.graph.shape).float()
        weight = -torch.as_tensor(solved.ineqlin.marginals).to(guards).clamp(max=0)
        mixed = objective + weight @ guards
        value = (
            (mixed * torch.where(mixed > 0, low, high)).sum() + functions[0].constant.reshape(-1)[0] + weight @ shifts
        )
        size = (objective.abs() + weight @ guards.abs()) @ torch.maximum(low.abs(), high.abs()) + weight @ shifts.abs()
        bound = float(value + self.offset - 1e-12 * (1 + size))
        point = torch.as_tensor(solved.x[:-1]).to(low).view(1, *self.graph.shape).float()
        return bound, point
