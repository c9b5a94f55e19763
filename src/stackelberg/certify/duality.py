"""Is it true?  Signs of ReLUs split, each part bounded by a linear program whose multipliers are judged here.

The second opinion on `branch`: no lines carried backward and no searched slopes. Every open ReLU is relaxed to its
triangle (Ehlers 2017), over ends that are themselves minima of such programs (Tjeng, Xiao and Tedrake 2019, section
4.2), and HiGHS minimises over all triangles at once. The solver is not believed: for any multipliers p >= 0,

    min { c v : A v <= b, l <= v <= u }  >=  sum_i min over [l_i, u_i] of (c + A' p)_i v_i  -  p b,

so its multipliers are evidence and its status is none.
"""

import heapq
import itertools
import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.optimize import LinearConstraint, linprog
from scipy.sparse import csr_array, hstack, vstack
from torch import Tensor, nn

from stackelberg.certify.certificate import Certificate
from stackelberg.certify.enclosure import SLACK
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.linear import differences
from stackelberg.certify.milp import Builder, Program, Tighten, program
from stackelberg.certify.region import input_region
from stackelberg.threat import Ball

_EMPTY = 2  # scipy's status of a program without a solution


@dataclass(frozen=True, eq=False)
class Solution:
    """What is known of one linear program: `bound` <= its minimum; the solver's point and multipliers, if any."""

    bound: float
    point: Float64[np.ndarray, " V"] | None
    prices: Float64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Polytope:
    """matrix v <= limits, low <= v <= high; the first rows are those of the program it relaxes, in order."""

    matrix: csr_array
    limits: Float64[np.ndarray, " n"]
    low: Float64[np.ndarray, " V"]
    high: Float64[np.ndarray, " V"]

    @staticmethod
    def of(demands: LinearConstraint, low: np.ndarray, high: np.ndarray) -> "Polytope":
        """One inequality for each demand with one finite end, a second one at the end for each equation."""
        body, least, most = csr_array(demands.A), np.asarray(demands.lb), np.asarray(demands.ub)
        above = np.isfinite(most)
        sign = np.where(above, 1.0, -1.0)
        both = np.flatnonzero(above & np.isfinite(least))
        matrix = csr_array(vstack([body.multiply(sign[:, None]), -body[both]]))
        return Polytope(matrix, np.concatenate([np.where(above, most, -least), -least[both]]), low, high)

    def minimum(self, cost: Float64[np.ndarray, " V"], until: float) -> Solution:
        """min cost v, by the solver's multipliers; inf where these show that there is no such v."""
        found = self._solved(cost, until)
        if found.status != _EMPTY:
            return self._judged(cost, found)
        column = csr_array(-np.ones((len(self.limits), 1)))
        most = abs(self.matrix) @ np.maximum(np.abs(self.low), np.abs(self.high)) + np.abs(self.limits)
        loose = Polytope(  # by how much must the rows give way?
            csr_array(hstack([self.matrix, column])), self.limits,
            np.append(self.low, 0.0), np.append(self.high, most.max()),
        )  # fmt: skip
        strain = np.append(np.zeros(len(cost)), 1.0)
        needed = loose._judged(strain, loose._solved(strain, until))
        return replace(needed, bound=math.inf if needed.bound > 0 else -math.inf, point=None)

    def _solved(self, cost: np.ndarray, until: float):
        limit = {"time_limit": min(max(until - time.monotonic(), 0.01), 1e6)}
        ends = np.stack([self.low, self.high], 1)
        return linprog(cost, self.matrix, self.limits, bounds=ends, method="highs", options=limit)

    def _judged(self, cost: np.ndarray, found) -> Solution:
        """The bound by weak duality, with room for float64's rounding of every product in it."""
        told = getattr(found.ineqlin, "marginals", None)
        prices = np.zeros(len(self.limits)) if told is None or found.x is None else np.maximum(-np.asarray(told), 0.0)
        reduced = cost + self.matrix.T @ prices
        bound = np.minimum(reduced * self.low, reduced * self.high).sum() - prices @ self.limits
        reach = np.maximum(np.abs(self.low), np.abs(self.high))
        lost = (np.abs(cost) + abs(self.matrix).T @ prices) @ reach + prices @ np.abs(self.limits)
        return Solution(float(bound - SLACK * lost), found.x, prices)


def dual(
    model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"], ball: Ball, seconds: float = 60.0
) -> Certificate:
    """margin_i <= min over ball(x_i), k != y_i of z_y - z_k, split until it is positive, or `seconds` an example end.

    Over the linf ball cut to its box, for other norms over the box around the ball. What is bounded is the network in
    real arithmetic; the rounding of the running one is charged as in `enclosure`. The margin of what is proved is
    whatever the parts' bounds were when they turned positive, so it may be far below the minimum.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2), torch.nn.ReLU())
    >>> net.load_state_dict({"1.weight": torch.eye(2), "1.bias": torch.zeros(2)})
    <All keys matched successfully>
    >>> x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])
    >>> dual(net, x, y, Ball("linf", 0.1)).certified.tolist()
    [True]

    Raises:
        Unsupported: an activation that is not piecewise linear, or a network too large.
    """
    graph = graph_of(model, tuple(x.shape[1:]))
    margins = [_margin(graph, one, int(label), ball, seconds) for one, label in zip(x, y, strict=True)]
    return Certificate("dual", ball, torch.tensor(margins, dtype=torch.float64, device=x.device))


@torch.no_grad()
def _margin(graph: Graph, x: Tensor, label: int, ball: Ball, seconds: float) -> float:
    begun, region = time.monotonic(), input_region(x[None], ball)
    until = begun + seconds
    built = program(graph, region.low[0], region.high[0], _tightened(begun + seconds / 2))
    rows = differences(torch.tensor([label]), len(built.shift))[0].numpy()
    charged = np.abs(rows) @ built.error
    rough = built.rough(rows) - charged
    found = math.inf
    for place in rough.argsort()[::-1]:  # the hardest last
        value = rough[place]
        if value <= 0 and built.constraints is not None:
            whole = Polytope.of(built.constraints, built.low, built.high)
            value = max(value, _searched(graph, built, whole, rows[place], float(charged[place]), until))
        found = min(found, float(value))
    return found


def _tightened(until: float) -> Tighten:
    """Each end by a linear program of what is built so far, until the time is over."""

    def tighten(built: Builder, own: csr_array, held: np.ndarray, low: np.ndarray, high: np.ndarray):
        demands = built.demands()
        if demands is None or not built.splits:
            return low, high
        whole = Polytope.of(demands, np.concatenate(built.low), np.concatenate(built.high))
        low, high = low.copy(), high.copy()
        for number, cost in enumerate(own.toarray()):
            if time.monotonic() > until:
                break
            low[number] = max(low[number], whole.minimum(cost, until).bound + held[number])
            if low[number] < 0:
                high[number] = min(high[number], -whole.minimum(-cost, until).bound + held[number])
        return low, np.maximum(low, high)

    return tighten


def _searched(graph: Graph, built: Program, whole: Polytope, row: np.ndarray, charged: float, until: float) -> float:
    """A lower bound of row . outputs: positive once every part's is; else the worst part's when the search ended."""
    cost, shift = np.asarray(built.matrix.T @ row), float(row @ built.shift) - charged
    number, best = itertools.count(), math.inf
    root = whole.minimum(cost, until)
    waiting = [(root.bound, next(number), whole, root)]
    while waiting and waiting[0][0] + shift <= 0:
        bound, _, part, solution = waiting[0]
        place = None if _breaks(graph, built, solution, row) else _promising(built, part, solution)
        if place is None or time.monotonic() > until:
            return bound + shift
        heapq.heappop(waiting)
        for sign in (0.0, 1.0):
            low, high = part.low.copy(), part.high.copy()
            low[place] = high[place] = sign
            half = replace(part, low=low, high=high)
            found = half.minimum(cost, until)
            found = replace(found, bound=max(found.bound, bound))
            if found.bound + shift > 0:
                best = min(best, found.bound)
            else:
                heapq.heappush(waiting, (found.bound, next(number), half, found))
    return min(best, *(entry[0] for entry in waiting), math.inf) + shift


def _breaks(graph: Graph, built: Program, solution: Solution, row: np.ndarray) -> bool:
    """Whether the network is wrong at the solution's input: then no search will end well."""
    if solution.point is None:
        return False
    count = math.prod(built.shape)
    inside = np.clip(solution.point[:count], built.low[:count], built.high[:count])
    value = graph.forward(torch.from_numpy(inside).view(1, *built.shape))[0].numpy() @ row
    return bool(value <= 0)


def _promising(built: Program, part: Polytope, solution: Solution) -> int | None:
    """The binary whose triangle costs most: its height above the ReLU times the multipliers of its upper sides."""
    best, chosen = -1.0, None
    point = (part.low + part.high) / 2 if solution.point is None else solution.point
    spare = part.limits - part.matrix @ point
    priced = solution.prices if len(solution.prices) == len(spare) else np.zeros(len(spare))
    for split in built.splits:
        n, start = len(split.binaries), split.start
        blocks = [slice(start + i * n, start + (i + 1) * n) for i in range(4)]
        height = np.minimum(spare[blocks[0]], spare[blocks[1]]).clip(min=0)
        score = height * (priced[blocks[2]] + priced[blocks[3]]) + 1e-6 * height
        score[part.low[split.binaries] == part.high[split.binaries]] = -1.0
        if n and score.max() > best:
            best, chosen = float(score.max()), int(split.binaries[score.argmax()])
    return chosen
