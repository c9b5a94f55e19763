"""What is the exact minimum?  A mixed-integer linear program of the network, solved by HiGHS.

The independent second method: it shares no bound with linear relaxations propagated backward and no search with branch
and bound. A unit a = max(e, s e) whose sign is open over [l, u] is encoded with one binary variable d (Tjeng, Xiao and
Tedrake 2019, section 4.1; big M from intervals and zonotopes):

    a >= e,  a >= s e,  a <= e - (1 - s) l (1 - d),  a <= s e + (1 - s) u d.

The solver works to tolerances, so what it calls a bound is lowered by `TOLERANCE`; what it calls a minimiser is only a
point to try, and counts when the user's own module errs on it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, eye_array, hstack, vstack
from torch import Tensor, nn

from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.enclosure import enclosure, matrices, shift
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.linear import differences
from stackelberg.certify.nodes import Activation, Affine
from stackelberg.certify.region import input_region
from stackelberg.certify.zonotope import Form, box_form, forms
from stackelberg.threat import Ball

TOLERANCE = 1e-5
"""Relative to max(1, |bound|): how far HiGHS's dual bound may be too high (its feasibility tolerance is 1e-6)."""

_NONE = 2  # scipy's status of a program without a solution


@dataclass(frozen=True, eq=False)
class Optimum:
    """What is known of min over the box of weight . network + offset, in real arithmetic.

    Attributes:
        bound: not above the minimum; -inf if the solver found none in time.
        point: the best input found [*shape], float64, or None.
        status: "optimal", "time" where the bound may be far below, or "none" where no value is as small as asked for.
    """

    bound: float
    point: Tensor | None
    status: str


@dataclass(frozen=True, eq=False)
class Split:
    """Where n open units of one activation are in the program.

    Attributes:
        start: the first of 4 n rows: the four inequalities of the module's docstring, each for all units in turn.
        binaries: numbers of the variables d [n].
    """

    start: int
    binaries: Int[np.ndarray, " n"]


Tighten = Callable[["Builder", csr_array, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(what is built so far, rows of e over its variables [n, V], constants, least e, largest e) -> better ends of e."""


@dataclass(frozen=True, eq=False)
class Program:
    """The network over a box: variables v = (inputs, units, binaries), and the outputs as matrix . v + shift."""

    constraints: LinearConstraint | None
    splits: tuple[Split, ...]
    low: Float64[np.ndarray, " V"]
    high: Float64[np.ndarray, " V"]
    binary: Float64[np.ndarray, " V"]
    matrix: csr_array
    shift: Float64[np.ndarray, " K"]
    error: Float64[np.ndarray, " K"]
    shape: tuple[int, ...]
    form: Form

    def rough(self, rows: Float64[np.ndarray, "M K"]) -> Float64[np.ndarray, " M"]:
        """Lower bounds of rows . outputs, by the outputs' zonotope alone."""
        weight = torch.from_numpy(rows).to(self.form.centre).T
        part = Form(
            self.form.centre.flatten(1) @ weight,
            self.form.symbols.flatten(1) @ weight,
            self.form.inputs,
            self.form.dual,
        )
        return (part.centre - part.spread())[0].cpu().numpy()

    def minimum(
        self, weight: Float64[np.ndarray, " K"], offset: float, seconds: float, most: float = math.inf
    ) -> Optimum:
        """min of weight . outputs + offset, looked for among values up to `most`: quick where there is none."""
        cost = np.asarray(self.matrix.T @ weight)
        least = float(weight @ self.shift) + offset
        demands = [] if self.constraints is None else [self.constraints]
        if most < math.inf:
            demands.append(LinearConstraint(csr_array(cost[None]), -np.inf, most - least))  # pyright: ignore[reportArgumentType]  # sparse is taken
        found = milp(
            cost,
            integrality=self.binary,
            bounds=Bounds(self.low, self.high),  # pyright: ignore[reportArgumentType]  # arrays are taken
            constraints=demands,
            options={"time_limit": max(seconds, 0.01), "mip_rel_gap": 1e-6},
        )
        none = found.status == _NONE and most < math.inf
        dual = getattr(found, "mip_dual_bound", None)
        dual = found.fun if dual is None and found.status == 0 else dual
        bound = most if none else -math.inf if dual is None or not math.isfinite(dual) else min(least + dual, most)
        point = None if found.x is None else torch.from_numpy(found.x[: math.prod(self.shape)]).view(self.shape)
        status = "none" if none else "optimal" if found.status == 0 else "time"
        return Optimum(bound - TOLERANCE * max(1.0, abs(bound)), point, status)


def program(
    graph: Graph,
    low: Float[Tensor, " *shape"],
    high: Float[Tensor, " *shape"],
    tighten: Tighten | None = None,
) -> Program:
    """The program of a network with ReLUs and leaky ReLUs over the box [low, high] of inputs.

    Args:
        graph: the network.
        low: smallest input.
        high: largest input.
        tighten: asked for better ends of what enters each activation, where its sign is open.

    Raises:
        Unsupported: another activation, or a network too large for zonotopes.
    """
    builder = Builder(graph, low[None].double(), high[None].double(), tighten)
    for place in range(1, len(graph.nodes)):
        builder.add(place)
    return builder.program()


class Builder:
    """Every node's value as a sparse affine expression of the variables so far."""

    def __init__(self, graph: Graph, low: Tensor, high: Tensor, tighten: Tighten | None) -> None:
        self.graph, self.tighten = graph, tighten
        self.known = enclosure(graph, low, high)
        self.forms = forms(graph, box_form(low, high), self.known)
        ends = [end.flatten().cpu().numpy() for end in (low, high)]
        self.low, self.high = [ends[0]], [ends[1]]
        self.count = len(ends[0])
        self.binary = [np.zeros(self.count)]
        self.values: list[tuple[csr_array, np.ndarray]] = [(csr_array(eye_array(self.count)), np.zeros(self.count))]
        self.rows: list[tuple[csr_array, np.ndarray, np.ndarray]] = []
        self.splits: list[Split] = []

    def add(self, place: int) -> None:
        node = self.graph.nodes[place]
        if isinstance(node, Affine):
            self.values.append(self._affine(node))
        elif isinstance(node, Activation):
            if not node.piecewise:
                raise Unsupported(
                    f"a mixed-integer program knows ReLU and leaky ReLU only, this network has {node.kind}; use"
                    " alpha-crown"
                )
            self.values.append(self._activated(node))

    def _affine(self, node: Affine) -> tuple[csr_array, np.ndarray]:
        total, constant = csr_array((math.prod(node.shape), self.count)), shift(node).copy()
        for matrix, i in zip(matrices(self.graph, node), node.inputs, strict=True):
            before, held = self.values[i]
            total = total + matrix @ self._widened(before)
            constant = constant + matrix @ held
        return csr_array(total), constant

    def _activated(self, node: Activation) -> tuple[csr_array, np.ndarray]:
        """One new variable for each unit that may be active, equal to it where it surely is."""
        ends = self.forms[node.input].ends(self.known, node.input)
        lowest, highest = (end.flatten().cpu().numpy() for end in ends)
        before, constant = self.values[node.input]
        open_ = np.flatnonzero((lowest < 0) & (highest > 0))
        if self.tighten is not None and len(open_):
            own = self._widened(_rows(before, open_))
            lowest[open_], highest[open_] = self.tighten(self, own, constant[open_], lowest[open_], highest[open_])
        alive = np.flatnonzero((highest > 0) | (node.slope > 0))
        sure = (lowest[alive] >= 0) | (highest[alive] <= 0)
        units = self._variables(
            np.where(lowest[alive] < 0, node.slope, 1) * lowest[alive],
            np.where(highest[alive] < 0, node.slope, 1) * highest[alive],
            0,
        )
        held, slope = constant[alive], np.where(highest[alive] <= 0, node.slope, 1.0)
        self._tie(units[sure], _rows(before, alive[sure]), held[sure], slope[sure])
        open_ = alive[~sure]
        self._split(units[~sure], _rows(before, open_), held[~sure], node.slope, lowest[open_], highest[open_])
        chosen = csr_array((np.ones(len(alive)), (alive, units)), shape=(len(highest), self.count))
        return chosen, np.zeros(len(highest))

    def _variables(self, low: np.ndarray, high: np.ndarray, kind: int) -> np.ndarray:
        """New variables' numbers."""
        self.low.append(low)
        self.high.append(high)
        self.binary.append(np.full(len(low), float(kind)))
        numbers = np.arange(self.count, self.count + len(low))
        self.count += len(low)
        return numbers

    def _tie(self, units: np.ndarray, own: csr_array, held: np.ndarray, slope: np.ndarray) -> None:
        """a = slope e."""
        scaled = csr_array(own.multiply(slope[:, None]))
        self._demand(self._unit(units) - self._widened(scaled), slope * held, slope * held)

    def _split(
        self, units: np.ndarray, own: csr_array, held: np.ndarray, slope: float, low: np.ndarray, high: np.ndarray
    ) -> None:
        """The four inequalities of an open unit."""
        binary = self._variables(np.zeros(len(units)), np.ones(len(units)), 1)
        self.splits.append(Split(sum(_height(rows) for rows, _, _ in self.rows), binary))
        a, d, e = self._unit(units), self._unit(binary), self._widened(own)
        rest, free = 1 - slope, np.full(len(units), np.inf)
        self._demand(a - e, held, free)
        self._demand(a - slope * e, slope * held, free)
        self._demand(a - e - _scaled(d, rest * low), -free, held - rest * low)
        self._demand(a - slope * e - _scaled(d, rest * high), -free, slope * held)

    def _unit(self, numbers: np.ndarray) -> csr_array:
        """One row for each of these variables."""
        return csr_array((np.ones(len(numbers)), (np.arange(len(numbers)), numbers)), shape=(len(numbers), self.count))

    def _widened(self, matrix: csr_array) -> csr_array:
        """With columns for the variables that came later."""
        missing = self.count - matrix.shape[1]  # pyright: ignore[reportOptionalSubscript]  # of scipy's types
        return csr_array(hstack([matrix, csr_array((_height(matrix), missing))])) if missing else matrix

    def _demand(self, matrix: csr_array, low: np.ndarray, high: np.ndarray) -> None:
        if _height(matrix):
            self.rows.append((csr_array(matrix), low, high))

    def demands(self) -> LinearConstraint | None:
        """All constraints so far, over the variables so far."""
        if not self.rows:
            return None
        body = vstack([self._widened(rows) for rows, _, _ in self.rows])
        low, high = np.concatenate([low for _, low, _ in self.rows]), np.concatenate([h for _, _, h in self.rows])
        return LinearConstraint(body, low, high)  # pyright: ignore[reportArgumentType]  # sparse is taken

    def program(self) -> Program:
        matrix, constant = self.values[-1]
        return Program(
            self.demands(), tuple(self.splits), np.concatenate(self.low), np.concatenate(self.high),
            np.concatenate(self.binary), self._widened(matrix), constant,
            self.known.error[-1].flatten().cpu().numpy(), self.graph.shape, self.forms[-1],
        )  # fmt: skip


def _height(matrix: csr_array) -> int:
    return matrix.shape[0]  # pyright: ignore[reportOptionalSubscript]  # of scipy's types


def _rows(matrix: csr_array, places: np.ndarray) -> csr_array:
    """Some rows, in this order."""
    chosen = csr_array((np.ones(len(places)), (np.arange(len(places)), places)), shape=(len(places), _height(matrix)))
    return csr_array(chosen @ matrix)


def _scaled(matrix: csr_array, factors: np.ndarray) -> csr_array:
    return csr_array(matrix.multiply(factors[:, None]))


@torch.no_grad()
def exact(
    model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"], ball: Ball, seconds: float = 60.0
) -> tuple[Certificate, Float[Tensor, " B *shape"]]:
    """(certificate, the most adverse input found for each example), by one program per example and other class.

    margin_i is the minimum of z_y - z_k over the linf ball and box (a class k whose zonotope bound is above the least
    minimum found needs no program of its own), less the solver's tolerance and the rounding of the
    network as it runs; where `seconds` (per example) end first, the dual bound, valid too. The inputs lie in ball and
    box; whether they break the example is for the user's own module to say. Other norms: over the box around the ball.

    >>> import torch
    >>> net = torch.nn.Flatten()  # two pixels are the two logits
    >>> x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])
    >>> proof, worst = exact(net, x, y, Ball("linf", 0.1))
    >>> round(float(proof.margin[0]), 4), [round(pixel, 2) for pixel in worst.flatten().tolist()]
    (0.3, [0.65, 0.35])

    Raises:
        Unsupported: an activation that is not piecewise linear, or a network too large.
    """
    graph = graph_of(model, tuple(x.shape[1:]))
    margins, points = [], []
    for point, label in zip(x, y.tolist(), strict=True):
        margin, worst = _exact(graph, point, label, ball, seconds)
        margins.append(margin)
        points.append(worst)
    found = torch.stack(points).to(x) if points else x.clone()
    return Certificate("milp", ball, torch.tensor(margins, dtype=torch.float64, device=x.device)), found


def _exact(graph: Graph, x: Tensor, label: int, ball: Ball, seconds: float) -> tuple[float, Tensor]:
    """(lower bound of the margin, the input of the smallest margin that was met)."""
    begun, region = time.monotonic(), input_region(x[None], ball)
    built = program(graph, region.low[0], region.high[0])
    rows = differences(torch.tensor([label]), len(built.shift))[0].numpy()
    margin, worst, least = math.inf, x, math.inf
    rough = built.rough(rows) - np.abs(rows) @ built.error
    order = rough.argsort()
    for number, place in enumerate(order):
        if rough[place] >= margin:  # and so are all that follow: none of them is the least
            break
        row, open_ones = rows[place], int((rough[order[number:]] < margin).sum())
        left = seconds - (time.monotonic() - begun)
        optimum = built.minimum(row, 0.0, left / open_ones)
        margin = min(margin, max(optimum.bound - float(np.abs(row) @ built.error), float(rough[place])))
        if optimum.point is not None:
            inside = ball.project(optimum.point[None].to(x), x[None])
            value = float(graph.forward(inside)[0].cpu() @ torch.from_numpy(row))
            worst, least = (inside[0], value) if value < least else (worst, least)
    return margin, worst
