"""Where could a counterexample still lie?  Half spaces that hold it, and what they leave of every neuron's interval.

A part of the search is bounded to show that f(x) <= t nowhere. So f(x) <= t may be assumed in it (Kotha et al. 2023,
INVPROP): every linear function below f, and below -s a for a split's sign s, is at most t or 0 at a counterexample. Of
each neuron a linear function B . x + d <= a over the whole region is kept, and is minimised over the box cut by those
half spaces A . x + c <= 0 (Zhou et al. 2025, Clip-and-Verify), by its dual in one multiplier after the other:

    max over v >= 0 of  min over the box of  (B + v A) . x + d + v c.

Every v >= 0 gives a bound. No substitution is made again, and a deep neuron profits from splits before and after it.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stackelberg.certify import single
from stackelberg.certify.backward import Boxes, Linear, substituted
from stackelberg.certify.boxing import signed_units
from stackelberg.certify.graph import Graph
from stackelberg.certify.region import Region
from stackelberg.certify.window import Window

MOST = 1 << 26
"""Coefficients of all functions that are worth their memory (256 MiB)."""

_ENTRIES = 1 << 22  # of one node's coefficients, while the functions are made
_LOOKS = 6  # at a function of one multiplier
_CUTS = 8  # half spaces at most, of which the charge for rounding knows
_SUMS = {"reassoc", "nsz", "contract"}


@dataclass(frozen=True, eq=False)
class Functions:
    """Linear functions F of the input x, in t = (x - centre) / radius, each in [-1, 1]: slopes . t + middle.

    Attributes:
        slopes: [F, n] float32.
        middle: [F] float64; what rounding may have cost is taken off.
    """

    slopes: Tensor
    middle: Tensor

    def __getitem__(self, index: Tensor) -> "Functions":
        return Functions(self.slopes[index], self.middle[index])

    @staticmethod
    def joined(parts: list["Functions"]) -> "Functions":
        """All of them."""
        return Functions(torch.cat([p.slopes for p in parts]), torch.cat([p.middle for p in parts]))


def functions(linear: Linear, region: Region, light: bool) -> Functions:
    """Those of one region [1, *shape] or of as many as rows: [B, M] functions become B M."""
    a = linear.coefficients
    a = (a.dense() if isinstance(a, Window) else a).double().flatten(2)
    centre, radius = (part.double().flatten(1)[:, None] for part in (region.centre, region.radius))
    slack = (single.slack(region) if light else torch.zeros_like(region.low)).flatten(1)[:, None]
    size = a.abs()
    middle = (a * centre).sum(2) + linear.constant - (size * slack).sum(2)
    middle = middle - 1e-12 * ((size * centre.abs()).sum(2) + linear.constant.abs() + 1)
    return Functions((a * radius).float().flatten(0, 1), middle.flatten())


def of_neurons(
    graph: Graph, region: Region, boxes: Boxes, places: tuple[int, ...], numbers: tuple[Tensor, ...]
) -> tuple[Functions, Functions]:
    """(below a_k, below -a_k) for the coordinates k of the nodes before these activations, over one region."""
    light = single.worth(graph)
    held, network, kind = boxes, graph, torch.float64
    if light:
        held, network, kind = single.lightened(graph, boxes), graph.to(torch.float32), torch.float32
    widest = max(math.prod(node.shape) for node in graph.nodes)
    both: tuple[list[Functions], list[Functions]] = ([], [])
    for place, all_numbers in zip(places, numbers, strict=True):
        before = graph.nodes[place].inputs[0]  # pyright: ignore[reportAttributeAccessIssue]
        for some in all_numbers.split(max(1, _ENTRIES // (2 * widest))):
            units = signed_units(some[None], graph.nodes[before].shape)
            units = units.with_values(units.values.to(kind)) if isinstance(units, Window) else units.to(kind)
            linear = substituted(network, held, before, units)
            found = functions(single.doubled(linear) if light else linear, region, light)
            rows = torch.arange(2 * len(some), device=some.device)
            both[0].append(found[rows[: len(some)]])
            both[1].append(found[rows[len(some) :]])
    return Functions.joined(both[0]), Functions.joined(both[1])


def clipped(
    below: Functions, above: Functions, low: Tensor, high: Tensor, cuts: list[Functions], wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """low <= a_k <= high [P, N], float32, of P parts, narrowed by half spaces: one of each of `cuts` for every part.

    Where a lower end comes out above the higher one, the part holds no counterexample. Intervals that are not `wanted`
    [P, N], or have no zero inside, stay as they are.
    """
    if not low.numel():
        return low, high
    slopes = torch.stack([cut.slopes for cut in cuts], 1).cpu().numpy()
    middle = torch.stack([cut.middle for cut in cuts], 1).cpu().numpy()
    ends = []
    open_ones = (wanted & (low < 0) & (high > 0)).cpu().numpy()
    for one, known in ((below, low), (above, -high)):
        found = known.double().cpu().numpy().copy()
        _raised(one.slopes.cpu().numpy(), one.middle.cpu().numpy(), slopes, middle, open_ones, found)
        ends.append(single.down(torch.from_numpy(found)).to(known))
    return ends[0], -ends[1]


def shrunk(low: Tensor, high: Tensor, slopes: Tensor, constant: Tensor, proved: Tensor) -> tuple[Tensor, Tensor]:
    """Of each box [P, *shape] the smallest one that holds all x with slopes x + constant <= 0 in some row not `proved`.

    One coordinate after the other (Zhou et al. 2025, relaxed clipping); some such x must be in each box.
    """
    a, lows, highs = slopes.flatten(2), low.flatten(1)[:, None], high.flatten(1)[:, None]
    size = a.abs()
    least = constant + (a * torch.where(a > 0, lows, highs)).sum(2)
    slack = 1e-9 * (1 + constant.abs() + (size * torch.maximum(lows.abs(), highs.abs())).sum(2))
    move = (slack - least).clamp(min=0)[:, :, None] / size  # how far a coordinate may be from where the row is least
    above = torch.where(a > 0, torch.minimum(lows + move, highs), highs).masked_fill(proved[:, :, None], -torch.inf)
    below = torch.where(a < 0, torch.maximum(highs - move, lows), lows).masked_fill(proved[:, :, None], torch.inf)
    return below.amin(1).view_as(low), above.amax(1).view_as(high)


@numba.njit(cache=True, nogil=True)
@no_type_check  # it is compiled
def _raised(slopes: NDArray, middle: NDArray, cuts: NDArray, offsets: NDArray, wanted: NDArray, best: NDArray) -> None:
    """best[p, k] = the largest bound of function k over part p that is met, where `wanted`."""
    n = slopes.shape[1]
    charge = 1.01 * (n + 4 * _CUTS) * 2.0**-24
    now = np.empty(n, np.float32)
    size = np.empty(len(slopes))
    for k in range(len(slopes)):
        size[k] = np.abs(slopes[k]).sum()
    for p in range(len(cuts)):
        for k in range(len(slopes)):
            if not wanted[p, k]:
                continue
            now[:] = slopes[k]
            constant, weight = middle[k], size[k]
            for j in range(cuts.shape[1]):
                reach = np.abs(cuts[p, j]).sum()
                v, norm = _ascended(now, cuts[p, j], offsets[p, j])
                if v > 0:
                    now += v * cuts[p, j]
                    constant += v * offsets[p, j] - 1e-12 * abs(v * offsets[p, j])
                    weight += v * reach
                best[p, k] = max(best[p, k], constant - norm - charge * weight)


@numba.njit(cache=True, nogil=True)
@no_type_check  # it is compiled
def _ascended(b: NDArray, a: NDArray, offset: float) -> tuple[float, float]:
    """(v, |b + v a|_1) about where v offset - |b + v a|_1, a concave function, is greatest over v >= 0.

    Its tangents at a point where it rises and at one where it falls meet at the next point to look at.
    """
    norm, slope = _looked(b, a, np.float32(0))
    left, top_left, rise = 0.0, -norm, offset - slope
    v, best = np.float32(0), top_left
    right, top_right, fall = np.inf, 0.0, 0.0
    if rise <= 0:
        return v, norm
    next_one = norm / max(np.abs(a).sum(), 1e-30)
    for _ in range(_LOOKS):
        new = np.float32(next_one)
        size, slope = _looked(b, a, new)
        top = new * offset - size
        if top > best:
            best, v, norm = top, new, size
        if offset > slope:
            left, top_left, rise = float(new), top, offset - slope
        else:
            right, top_right, fall = float(new), top, offset - slope
        if right == np.inf:
            next_one = 3 * left
            continue
        if rise - fall <= 0:
            break
        next_one = (top_right - top_left + rise * left - fall * right) / (rise - fall)
        if not left < next_one < right:
            break
    return v, norm


@numba.njit(cache=True, nogil=True, fastmath=_SUMS)
@no_type_check  # it is compiled
def _looked(b: NDArray, a: NDArray, v: float) -> tuple[float, float]:
    """(|b + v a|_1, its slope in v)."""
    size, slope = np.float32(0), np.float32(0)
    for i in range(len(b)):
        t = b[i] + v * a[i]
        size += abs(t)
        slope += a[i] if t > 0 else -a[i]
    return size, slope
