"""Which stored point of each class is nearest?  Exactly, for any query, in linf, l2 or l1.

Stored points lie sorted by class. A few numbers of each, the head, give a lower bound of every distance; a point is
measured only where that bound lies below the best of its class so far. Heads, by norm:

    linf   some coordinates, chosen so that they tell random pairs apart: the largest difference among them
    l2     the leading principal directions, orthonormal: the length of the difference within them
    l1     sums over runs of neighbouring coordinates: the sum of their absolute differences

Bytes stand for level / 255 and are measured in grey levels; floats are measured in their own unit. Distances are
computed in float64 from the numbers as given, whatever the head, which is float32 or bytes, has said.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from stackelberg.errors import StackelbergError, unknown
from stackelberg.memorize.threads import in_groups

POWERS: dict[str, int] = {"linf": 0, "l1": 1, "l2": 2}
"""How distances are summed up: 0 stands for the largest."""

BLOCK = 4096  # stored points whose heads are compared at a time: they stay in the second cache
GROUP = 16  # queries that a thread takes at a time
STRIDE = 64  # points that are left out together where none of them is near
HEAD = 64  # numbers of a head
SAMPLE = 3000  # points by which heads are chosen
SHRINK = 1 + 1e-5  # relative error of a sum of some dozen float32 numbers, generously


def class_distances(
    stored: NDArray | Tensor,
    labels: NDArray | Tensor,
    classes: int,
    queries: NDArray | Tensor,
    norm: str = "linf",
) -> tuple[Float64[np.ndarray, "Q K"], Int64[np.ndarray, "Q K"]]:
    """(distance [Q, K], index [Q, K]): the least distance to a stored point of each class, and which one it is.

    Exact up to float64 rounding of the distance itself; of points at equal distance any one is named. A class without
    a stored point is at distance inf, index -1. For many calls on the same points make one `Neighbours`.

    Args:
        stored: points [N, ...], uint8 (level / 255) or floating point.
        labels: their classes 0..classes-1, [N].
        classes: K.
        queries: [Q, ...], uint8 (level / 255) or floats in input units.
        norm: "linf", "l2" or "l1".

    Raises:
        StackelbergError: unlike sizes, a label outside the classes, NaN or infinity, an unknown norm.
    """
    return Neighbours.of(stored, labels, classes, norm).distances(queries)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Stored points, ready to be asked.

    Attributes:
        norm: "linf", "l2" or "l1".
        classes: K.
        rows: the points sorted by class, coordinates in the order in which they are compared, [N, d], uint8 or float64.
        order: the coordinates' order, [d].
        place: each sorted point's place among those given, [N].
        start: where each class begins, [K + 1].
        head: lower-bounding numbers, [C, N], uint8 or float32.
        directions: what makes a head of a point: coordinates' places [C] (linf), or a matrix [C, d].
        largest: absolute number in the head, for the rounding.
    """

    norm: str
    classes: int
    rows: NDArray
    order: NDArray[np.int64]
    place: NDArray[np.int64]
    start: NDArray[np.int64]
    head: NDArray
    directions: NDArray
    largest: float

    @classmethod
    def of(cls, stored: NDArray | Tensor, labels: NDArray | Tensor, classes: int, norm: str = "linf") -> "Neighbours":
        """Sort the points by class and compute their heads."""
        if norm not in POWERS:
            raise unknown("norm", norm, POWERS)
        points, names = flat(stored, "stored points"), np.asarray(labels, dtype=np.int64)
        if len(points) != len(names) or not len(points):
            raise StackelbergError(
                f"every stored point needs one label, got {len(points)} points and {len(names)} labels"
            )
        if names.min() < 0 or names.max() >= classes:
            raise StackelbergError(
                f"labels must lie in 0..{classes - 1}, got {names.min()}..{names.max()}; pass the number of classes"
            )
        place = np.argsort(names, kind="stable")
        start = np.searchsorted(names[place], np.arange(classes + 1))
        points = points[place]
        order, directions = telling(points, norm)
        head = np.ascontiguousarray(head_of(points, directions).T)
        rows = np.ascontiguousarray(points[:, order])
        largest = float(np.abs(head.astype(np.float32)).max())
        return cls(norm, classes, rows, order, place, start, head, directions, largest)

    @property
    def unit(self) -> float:
        """How many of the inner units make one input unit: 255 for bytes."""
        return 255.0 if self.rows.dtype == np.uint8 else 1.0

    def distances(self, queries: NDArray | Tensor) -> tuple[Float64[np.ndarray, "Q K"], Int64[np.ndarray, "Q K"]]:
        """See `class_distances`."""
        points = self.asked(queries)
        if self.head.dtype == np.uint8:
            head, slack = rounded(points[:, self.directions]), 0.5 + 1e-9
        else:
            head = head_of(points, self.directions)
            slack = 1e-6 * len(self.head) * max(self.largest, float(np.abs(head).max(initial=0.0)))
        power, classes = POWERS[self.norm], len(self.start) - 1
        found = np.full((len(points), classes), np.inf)
        index = np.full((len(points), classes), -1, np.int64)
        points, head = np.ascontiguousarray(points[:, self.order]), np.ascontiguousarray(head)

        def search(first: int, last: int) -> None:
            part = slice(first, last)
            _nearest(points[part], head[part], self.rows, self.head, self.start, power, slack, found[part], index[part])

        in_groups(search, len(points), GROUP)
        if power == 2:
            np.sqrt(found, out=found)
        return found / self.unit, np.where(index < 0, -1, self.place[index])

    def asked(self, queries: NDArray | Tensor) -> Float64[np.ndarray, "Q d"]:
        """Queries in inner units, [Q, d]."""
        points = flat(queries, "queries")
        if points.shape[1] != self.rows.shape[1]:
            raise StackelbergError(
                f"queries must have {self.rows.shape[1]} coordinates as the stored points have, got {points.shape[1]}"
            )
        if points.dtype == np.uint8:
            return points * (self.unit / 255.0)
        return points * self.unit


def flat(points: NDArray | Tensor, what: str) -> NDArray:
    """Points as rows [N, d], uint8 or float64, contiguous.

    Raises:
        StackelbergError: NaN or infinity; the first point at fault is named.
    """
    array = points.detach().cpu().numpy() if isinstance(points, Tensor) else np.asarray(points)
    array = np.ascontiguousarray(array.reshape(len(array), math.prod(array.shape[1:])))
    if array.dtype == np.uint8:
        return array
    array = array.astype(np.float64)
    bad = ~np.isfinite(array).all(1)
    if bad.any():
        raise StackelbergError(f"{what}: number {int(bad.argmax())} holds NaN or infinity; remove or repair it")
    return array


def rounded(levels: Float64[np.ndarray, "Q C"]) -> NDArray[np.uint8]:
    """The nearest bytes: at most half a level nearer to any byte, or not at all, than the numbers themselves."""
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def telling(points: NDArray, norm: str, bound: float | None = None) -> tuple[NDArray[np.int64], NDArray]:
    """(the coordinates in the order in which to compare them [d], what makes a head: see `Neighbours`).

    For linf the order is greedy: each next coordinate is the one on which most of the random pairs that are not yet
    told apart differ by `bound` or more, or by the distance below which one in a hundred of the pairs lies.
    """
    rng = np.random.default_rng(0)
    count = min(HEAD, points.shape[1])
    sample = points[rng.integers(0, len(points), min(len(points), SAMPLE))].astype(np.float64)
    apart = np.abs(sample - points[rng.integers(0, len(points), len(sample))])
    if norm != "linf":
        return np.argsort(-apart.sum(0), kind="stable"), _runs(count, points) if norm == "l1" else _axes(count, sample)
    far = apart >= (np.quantile(apart.max(1), 0.01) if bound is None else bound)
    rest, left, chosen = far.sum(0), np.ones(len(far), bool), []
    for _ in range(count):
        gain = far[left].sum(0) if left.any() else rest
        gain = gain if gain.max() > 0 else rest
        chosen.append(int(gain.argmax()))
        left &= ~far[:, chosen[-1]]
        rest[chosen[-1]], far[:, chosen[-1]] = -1, False
    order = np.concatenate([chosen, np.setdiff1d(np.argsort(-rest, kind="stable"), chosen, assume_unique=True)])
    return order.astype(np.int64), order[:count].astype(np.int64)


def _runs(count: int, points: NDArray) -> Float64[np.ndarray, "C d"]:
    """Indicators of runs of coordinates, of about equal length."""
    width = points.shape[1]
    return (np.arange(width) * count // width == np.arange(count)[:, None]).astype(np.float64)


def _axes(count: int, sample: Float64[np.ndarray, "M d"]) -> Float64[np.ndarray, "C d"]:
    """Orthonormal rows near the leading principal directions, by subspace iteration; any would be valid."""
    centred = sample - sample.mean(0)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((sample.shape[1], count)))[0]
    for _ in range(3):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    return np.ascontiguousarray(basis.T)


def head_of(points: NDArray, directions: NDArray) -> NDArray:
    """The heads of points, [N, C]: bytes of bytes where they are coordinates, else float32."""
    if directions.ndim == 1:
        chosen = points[:, directions]
        return chosen if points.dtype == np.uint8 else chosen.astype(np.float32)
    head = np.empty((len(points), len(directions)), np.float32)
    for at in range(0, len(points), BLOCK):
        head[at : at + BLOCK] = points[at : at + BLOCK].astype(np.float64) @ directions.T
    return head


@numba.njit(cache=True, fastmath=True)
@no_type_check  # it is compiled
def _measure(a: NDArray, b: NDArray, power: int, best: float) -> float:
    """The distance (l2: squared), or anything >= best as soon as it is known to reach it."""
    total = 0.0
    for at in range(0, len(a), 64):
        part = 0.0
        for j in range(at, min(at + 64, len(a))):
            apart = abs(a[j] - np.float64(b[j]))
            if power == 0:
                part = max(part, apart)
            elif power == 1:
                part += apart
            else:
                part += apart * apart
        total = max(total, part) if power == 0 else total + part
        if total >= best:
            return total
    return total


@numba.njit(cache=True, fastmath=True)
@no_type_check  # it is compiled
def bounds(asked: NDArray, head: NDArray, first: int, last: int, power: int, bound: NDArray) -> None:
    """bound[k] = the distance between the heads of a query and of the stored point first + k (l2: squared)."""
    bound[: last - first] = 0
    for c in range(len(asked)):
        own, column = asked[c], head[c, first:last]
        for k in range(len(column)):
            apart = bound.dtype.type(max(own, column[k]) - min(own, column[k]))  # bytes stay bytes
            if power == 0:
                bound[k] = max(bound[k], apart)
            elif power == 1:
                bound[k] += apart
            else:
                bound[k] += apart * apart


@numba.njit(cache=True)
@no_type_check  # it is compiled
def least(values: NDArray) -> float:
    """The smallest of them, in their own type, so that many are compared at a time."""
    smallest = values[0]
    for k in range(1, len(values)):
        smallest = min(smallest, values[k])
    return smallest


@numba.njit(cache=True)
@no_type_check  # it is compiled
def _limit(best: float, slack: float, power: int) -> float:
    """A head at this distance or more rules a point out."""
    if power == 2:
        return (math.sqrt(best) + slack) ** 2 * SHRINK
    return (best + slack) * SHRINK


@numba.njit(nogil=True, cache=True)
@no_type_check  # it is compiled
def _nearest(
    queries: NDArray, heads: NDArray, rows: NDArray, head: NDArray, start: NDArray[np.int64], power: int, slack: float,
    found: NDArray[np.float64], index: NDArray[np.int64],
) -> None:  # fmt: skip
    """Per query and class: the least distance, for l2 its square, and the sorted point that attains it.

    The point of each class whose head is nearest is measured first, then those whose heads leave it open.
    """
    bound = np.empty(BLOCK, head.dtype)
    for c in range(len(start) - 1):
        likely, near = index[:, c], np.empty(len(queries), head.dtype)
        for first in range(start[c], start[c + 1], BLOCK):
            _guess(heads, head, first, min(first + BLOCK, start[c + 1]), power, bound, likely, near)
        if start[c] < start[c + 1]:
            for i in range(len(queries)):
                found[i, c] = _measure(queries[i], rows[likely[i]], power, np.inf)
        for first in range(start[c], start[c + 1], BLOCK):
            last = min(first + BLOCK, start[c + 1])
            for i in range(len(queries)):
                bounds(heads[i], head, first, last, power, bound)
                _search(queries[i], rows, bound, first, last, power, slack, found[i], index[i], c)


@numba.njit(cache=True)
@no_type_check  # it is compiled
def _guess(asked, head, first, last, power, bound, likely, near):
    """likely[i] = the stored point of first..last whose head is nearest, if it is nearer than near[i]."""
    for i in range(len(asked)):
        bounds(asked[i], head, first, last, power, bound)
        best = np.argmin(bound[: last - first])
        if likely[i] < 0 or bound[best] < near[i]:
            near[i], likely[i] = bound[best], first + best


@numba.njit(cache=True)
@no_type_check  # it is compiled
def _search(
    query: NDArray, rows: NDArray, bound: NDArray, first: int, last: int, power: int, slack: float, found: NDArray,
    index: NDArray, c: int,
) -> None:  # fmt: skip
    """Measure the points first..last that may be nearer than found[c]."""
    limit = _limit(found[c], slack, power)
    for at in range(first, last, STRIDE):
        end = min(at + STRIDE, last)
        if least(bound[at - first : end - first]) >= limit:
            continue
        for k in range(at, end):
            if bound[k - first] >= limit:
                continue
            distance = _measure(query, rows[k], power, found[c])
            if distance < found[c]:
                found[c], index[c] = distance, k
                limit = _limit(distance, slack, power)
