"""How are the signs of ReLUs split?  Open parts of one region for some conditions, the worst bounded first."""

import math
import time
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from stackelberg.certify import single
from stackelberg.certify.ascent import Search, climbed
from stackelberg.certify.backward import Boxes, Linear, least, rows_of, substituted
from stackelberg.certify.clipping import MOST, Functions, clipped, functions, of_neurons
from stackelberg.certify.graph import Graph
from stackelberg.certify.neurons import Neurons, before_of
from stackelberg.certify.nodes import Activation
from stackelberg.certify.region import Region
from stackelberg.certify.relaxation import adaptive, lines

ASSUMED = 2.0**-20
"""Relative to the first bound: a counterexample is looked for where the condition is below that."""

_TOGETHER = 1 << 22  # coefficients of the widest node held at a time
_STORED = 1 << 28  # numbers that describe all open parts
_CANDIDATES = 3
_CLIPPED = 1 << 19  # coefficients of the functions of those coordinates of a part whose intervals are clipped
_FIRST = 16  # parts of the first batch
_PENALTY = 1e4


def paced(count: int, seconds: float, until: float) -> int:
    """So many parts took so long: how many next, at most twice as many, and in an eighth of the time that is left."""
    room = max(until - time.monotonic(), 0.0) / 8 / max(seconds, 1e-4)
    return max(1, int(count * room) if room < 1 else int(max(count, _FIRST) * min(room, 2.0)))


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of the region, in which some signs are assumed and a counterexample: a point where the condition fails.

    Attributes:
        row: which condition [n].
        sign: of the open coordinates, 1, -1 or 0 [n, total].
        low: their smallest values, float32 [n, total].
        high: their largest.
        alpha: slopes of the lines below them, [n, total].
        multiplier: of the assumed signs, >= 0 [n, total].
        bound: [n] float64.
        following: coordinates that promise most when split, [n, candidates].
        weighty: whether a coordinate's interval is worth clipping, [n, total].
        slopes: of the linear function below the condition, as in `Functions`, [n, inputs].
        middle: of it, [n].
    """

    row: Tensor
    sign: Tensor
    low: Tensor
    high: Tensor
    alpha: Tensor
    multiplier: Tensor
    bound: Tensor
    following: Tensor
    weighty: Tensor
    slopes: Tensor
    middle: Tensor

    def __len__(self) -> int:
        return len(self.sign)

    def rows(self, index: Tensor) -> "Parts":
        """Some of them."""
        return Parts(*[getattr(self, field.name)[index] for field in fields(self)])

    def joined(self, others: "Parts") -> "Parts":
        """And others."""
        return Parts(*[torch.cat([getattr(p, field.name) for p in (self, others)]) for field in fields(self)])

    def halves(self, number: Tensor) -> "Parts":
        """Both signs of one coordinate [n] of each part: first all positive ones."""
        place, both = number[:, None], self.rows(torch.arange(len(self), device=number.device).repeat(2))
        sign = torch.cat([self.sign.scatter(1, place, s) for s in (1, -1)])
        low = torch.cat([self.low.scatter(1, place, self.low.gather(1, place).clamp(min=0)), self.low])
        high = torch.cat([self.high, self.high.scatter(1, place, self.high.gather(1, place).clamp(max=0))])
        return replace(both, sign=sign, low=low, high=high)


class Waiting:
    """Parts that wait to be split, the worst bounded first; in slots, so that none is moved when others come or go."""

    def __init__(self) -> None:
        self._slots: Parts | None = None
        self._free = torch.zeros(0, dtype=torch.long)

    def __len__(self) -> int:
        return 0 if self._slots is None else len(self._slots) - len(self._free)

    @property
    def all(self) -> Parts | None:
        """Every one, in no order."""
        return None if self._slots is None else self._slots.rows(self._slots.bound < math.inf)

    @property
    def worst(self) -> float:
        """The least bound; inf if none waits."""
        return math.inf if self._slots is None else float(self._slots.bound.amin())

    def push(self, parts: Parts) -> None:
        """Take these in."""
        held = 0 if self._slots is None else len(self._slots)
        if len(self._free) < len(parts):
            more = parts.rows(torch.zeros(max(held, len(parts)), dtype=torch.long, device=parts.bound.device))
            more.bound.fill_(math.inf)
            self._slots = more if self._slots is None else self._slots.joined(more)
            self._free = torch.cat(
                [self._free.to(more.bound.device), held + torch.arange(len(more)).to(more.following)]
            )
        assert self._slots is not None
        places, self._free = self._free[: len(parts)], self._free[len(parts) :]
        for field in fields(parts):
            getattr(self._slots, field.name)[places] = getattr(parts, field.name)

    def pop(self, count: int) -> Parts:
        """The worst, at most so many."""
        assert self._slots is not None
        places = self._slots.bound.argsort()[: min(count, len(self))]
        taken = self._slots.rows(places)
        self._slots.bound[places] = math.inf
        self._free = torch.cat([self._free, places])
        return taken


class Phases:
    """Open parts of a region: each assumes the sign of some ReLUs.

    Attributes:
        waiting: those that are open.
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
        self.held = single.lightened(graph, boxes) if self.light else boxes
        self.kind = torch.float32 if self.light else torch.float64
        self.together = _FIRST  # parts split at a time: as many as the time that is left allows
        self.objective, self.offset = objective, offset
        self.assumed = torch.zeros_like(offset)
        self.neurons = Neurons.of(graph, boxes)
        widest = max(math.prod(node.shape) for node in graph.nodes)
        self.most = max(1, _TOGETHER // (4 * widest))
        self.done, self.least_proved, self.given_up = 0, math.inf, False
        self.waiting, self.functions = Waiting(), None
        self._bounded(self._whole(), Search(30, decay=0.97, until=until))
        whole = self.waiting.all
        if whole is not None:
            self.assumed[whole.row] = ASSUMED * whole.bound.abs()
            if 2 * self.neurons.total * region.low[0].numel() <= MOST:
                self.functions = of_neurons(graph, region, boxes, self.neurons.places, self.neurons.numbers)

    def _whole(self) -> Parts:
        """The whole region, for each condition."""
        count, total, device = len(self.objective), self.neurons.total, self.region.low.device
        ends = [
            self.neurons.gathered({p: part[before_of(self.graph, p)][:, None] for p in self.neurons.places})
            if total
            else self.region.low.new_zeros(1, 0)
            for part in (self.boxes.low, self.boxes.high)
        ]
        low, high = single.down(ends[0]).expand(count, -1), -single.down(-ends[1]).expand(count, -1)
        return Parts(
            torch.arange(count, device=device), torch.zeros(count, total, dtype=torch.int8, device=device), low, high,
            adaptive(low, high), torch.zeros_like(low), self.offset.new_full((count,), -math.inf),
            torch.zeros(count, _CANDIDATES, dtype=torch.long, device=device), torch.ones_like(low, dtype=torch.bool),
            torch.zeros(count, self.region.low[0].numel(), device=device), torch.zeros_like(self.offset),
        )  # fmt: skip

    @property
    def count(self) -> int:
        """Open parts."""
        return 0 if self.given_up else len(self.waiting)

    def step(self) -> Tensor | None:
        """Splits the worst parts; points [n, *shape] where they are least, to be tried."""
        begun = time.monotonic()
        parts = self.waiting.pop(min(self.most, self.together))
        chosen = self._filtered(parts)
        halves = self._clipped(parts.halves(chosen), chosen)
        points = self._bounded(halves, Search(12, 0.1, 0.95, until=self.until))
        self.together = paced(len(parts), time.monotonic() - begun, self.until)
        return points

    def _clipped(self, halves: Parts, chosen: Tensor) -> Parts:
        """Without what no counterexample can be in, of their parents' functions and the sign that was split."""
        if self.functions is None:
            return halves
        below, above = self.functions
        own = Functions(halves.slopes, halves.middle - self.assumed[halves.row])
        split = Functions.joined([above[chosen], below[chosen]])
        low, high = clipped(below, above, halves.low, halves.high, [own, split], halves.weighty)
        empty = (low > high).any(1)
        self._proved(halves.row[empty], halves.bound.new_full((int(empty.sum()),), math.inf))
        known = (low >= 0).to(torch.int8) - (high <= 0).to(torch.int8)
        sign = torch.where(halves.sign == 0, known, halves.sign)
        return replace(halves, low=low, high=high, sign=sign).rows(~empty)

    def _proved(self, row: Tensor, bound: Tensor) -> None:
        """Parts that hold no counterexample: the condition is above what was assumed, or above their bound."""
        self.done += len(row)
        sure = torch.where(self.assumed > 0, self.assumed, torch.inf)[row]
        self.least_proved = min([self.least_proved, *torch.minimum(bound, sure).tolist()])

    def _filtered(self, parts: Parts) -> Tensor:
        """Of the candidates of each part, the one whose worse half has the best quick bound."""
        worth = []
        for number in parts.following.unbind(1):
            halves = parts.halves(number)
            alpha = self.neurons.spread(halves.alpha, self.graph)
            bound = self._least(halves.row, self._boxes(halves), alpha, None, sketch=True)[0]
            worth.append(torch.minimum(*bound[:, 0].view(2, -1)))
        return parts.following.gather(1, torch.stack(worth, 1).argmax(1)[:, None])[:, 0]

    def _least(
        self,
        row: Tensor,
        boxes: Boxes,
        alpha: dict[int, Tensor],
        split: dict[int, Tensor] | None,
        sketch: bool = False,
    ) -> tuple[Tensor, Linear]:
        """In float32 where that is sound (`single`); a `sketch` is to choose only: no proof."""
        last, region = len(self.graph.nodes) - 1, self._regions(len(row))
        goal = self.objective[row][:, None].to(self.kind)
        region = single.reached(region, boxes) if self.light and not sketch else region
        alpha = {place: a.to(self.kind) for place, a in alpha.items()}
        split = None if split is None else {place: v.to(self.kind) for place, v in split.items()}
        function = substituted(self.small, boxes, last, goal, alpha, split, rounding=not sketch, keep=not sketch)
        function = single.doubled(function) if self.light else function
        return least(function, region) + self.offset[row][:, None], function

    def _regions(self, count: int) -> Region:
        """The one region, once for each part."""
        return rows_of(self.region, torch.zeros(count, dtype=torch.long, device=self.region.low.device))

    def _boxes(self, parts: Parts, held: Boxes | None = None) -> Boxes:
        """The region's boxes, cut to those of the parts; errors of the whole region, which hold for its parts."""
        held = held or self.held
        low, high = (
            self.neurons.written(ends, values, self.graph)
            for ends, values in ((held.low, parts.low), (held.high, parts.high))
        )
        return Boxes(low, high, [error.expand(len(parts), *error.shape[1:]) for error in held.error])

    def _bounded(self, parts: Parts, search: Search) -> Tensor | None:
        """Bounds new parts and stores those that stay open; their minimisers."""
        if not len(parts):
            return None
        boxes, region = self._boxes(parts), self._regions(len(parts))
        goal, shift = self.objective[parts.row][:, None], self.offset[parts.row][:, None]
        start, begun = (self.neurons.spread(part, self.graph) for part in (parts.alpha, parts.multiplier))
        signs = {p: s.float() for p, s in self.neurons.spread(parts.sign, self.graph).items()}
        found = climbed(self.graph, region, boxes, goal, shift, search, start, signs, multipliers=begun)
        bound, function = self._least(parts.row, boxes, found.alpha, found.split)
        bound = bound[:, 0]
        full = (parts.sign != 0).all(1)
        for number in (full & (bound <= 0)).nonzero()[:, 0].tolist():
            bound[number], point = self._leaf(parts.rows(torch.tensor([number], device=bound.device)))
            if bound[number] <= 0:
                self.given_up = True
                return point
        left = bound <= 0
        self.done += int(left.sum())
        self._proved(parts.row[~left], bound[~left])
        if not left.any():
            return None
        score = self._scores(function, boxes, found.alpha, parts.sign)
        slopes, multiplier = (self.neurons.gathered(part).float() for part in (found.alpha, found.split))
        shifted = replace(function, constant=function.constant + shift)
        under = functions(shifted, self.region, self.light)
        made = replace(
            parts, alpha=slopes, multiplier=multiplier.abs(), bound=bound, following=_best(score),
            weighty=_weighty(score, self.region.low[0].numel()), slopes=under.slopes, middle=under.middle,
        )  # fmt: skip
        self.waiting.push(made.rows(left))
        self.given_up = len(self.waiting) * (4 * self.neurons.total + self.region.low[0].numel()) > _STORED
        a = function.coefficients
        assert isinstance(a, Tensor)
        return torch.where(a[left, 0] > 0, self.region.low, self.region.high).float()

    def _scores(self, function: Linear, boxes: Boxes, alpha: dict[int, Tensor], sign: Tensor) -> Tensor:
        """How much of the bound is lost to each open ReLU's triangle (De Palma et al. 2021, section 4), [n, total]."""
        lost = {}
        for place in self.neurons.places:
            node, before = self.graph.nodes[place], before_of(self.graph, place)
            assert isinstance(node, Activation)
            low, high = boxes.low[before][:, None], boxes.high[before][:, None]
            a = function.seen.get(place, torch.zeros_like(low))
            gap = torch.minimum(alpha[place] * -low, (1 - alpha[place]) * high).clamp(min=0) * (1 - node.slope)
            lost[place] = a.clamp(max=0).abs() * lines(node, low, high).roof + a.clamp(min=0) * gap
        return (self.neurons.gathered(lost) + 1e-12).masked_fill(sign != 0, -1.0)

    def _leaf(self, part: Parts) -> tuple[float, Tensor]:
        """All signs known: a linear program, whose multipliers give the bound; (bound, minimiser [1, *shape]).

        min c.x + penalty t over x in the box and t >= 0 with g_i(x) <= t for every ReLU, where g_i is nowhere above
        minus the assumed sign times the value before it. With any multipliers v >= 0, c + sum_i v_i g_i is a bound.
        """
        boxes = self._boxes(part, self.boxes)
        found = [substituted(self.graph, boxes, len(self.graph.nodes) - 1, self.objective[part.row][:, None])]
        for place, signs in self.neurons.spread(part.sign.double(), self.graph).items():
            before = before_of(self.graph, place)
            flat = signs.flatten()
            numbers = flat.nonzero()[:, 0]
            unit = flat.new_zeros(1, len(numbers), len(flat))
            unit[0, torch.arange(len(numbers)), numbers] = -flat[numbers]
            found.append(substituted(self.graph, boxes, before, unit.unflatten(2, self.graph.nodes[before].shape)))
        coefficients = [f.coefficients.flatten(2)[0] for f in found if isinstance(f.coefficients, Tensor)]
        objective, guards = coefficients[0][0], torch.cat(coefficients[1:])
        shifts = torch.cat([f.constant.reshape(-1) for f in found[1:]])
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
        value = (mixed * torch.where(mixed > 0, low, high)).sum() + found[0].constant.reshape(-1)[0] + weight @ shifts
        size = (objective.abs() + weight @ guards.abs()) @ torch.maximum(low.abs(), high.abs()) + weight @ shifts.abs()
        bound = float(value + self.offset[part.row[0]] - 1e-12 * (1 + size))
        point = torch.as_tensor(solved.x[:-1]).to(low).view(1, *self.graph.shape).float()
        return bound, point


def _best(score: Tensor) -> Tensor:
    """The numbers of the coordinates with the largest scores [n, candidates], those without any left out."""
    best = score.topk(min(_CANDIDATES, score.shape[1]), dim=1)
    numbers = torch.where(best.values > 0, best.indices, best.indices[:, :1])
    return torch.cat([numbers, numbers[:, :1].expand(-1, _CANDIDATES - numbers.shape[1])], 1)


def _weighty(score: Tensor, inputs: int) -> Tensor:
    """Where the largest scores are: as many as are worth clipping [n, total]."""
    count = min(max(1, _CLIPPED // inputs), score.shape[1])
    return score >= score.topk(count, dim=1).values[:, -1:]
