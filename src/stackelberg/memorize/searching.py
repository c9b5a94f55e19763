"""The nearest pair of every two classes: first guesses by hopping, then every pair by a filter, in parts."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, no_type_check

import numba
import numpy as np
from numpy.typing import NDArray

from stackelberg.memorize import sieve, sketch
from stackelberg.memorize.measuring import Best, Points, Rules, distance
from stackelberg.memorize.threads import in_threads

PART = 4096  # queries that a thread takes at a time, about
PAIRS = 20_000  # random ones, by which coordinates are chosen for a part
STARTS, HOPS = 2, 6  # for the first guess at the nearest pair of two classes


Labelled = tuple[NDArray, NDArray[np.int64]]
Look = Callable[[int, int, Best, np.random.Generator], None]


class Sides(NamedTuple):
    """The points asked about and those stored, each sorted by class; one object twice where a set is searched itself.

    Attributes:
        asked: points that look for a neighbour.
        stored: among which they look.
        rules: how distances are counted.
        within: whether both are the same set: then pairs are looked at once, by the point of the lower class.
    """

    asked: Points
    stored: Points
    rules: Rules
    within: bool

    def own(self, first: int, last: int) -> NDArray[np.int64]:
        """[2, n]: stored points own[0]..own[1]-1 are not for a query: its class, and all below it within one set."""
        labels = self.asked.labels[first:last]
        ends = [np.searchsorted(self.stored.labels, labels, side) for side in ("left", "right")]
        return np.stack([np.zeros_like(ends[0]) if self.within else ends[0], ends[1]])


def nearest_pairs(asked: Labelled, stored: Labelled | None, power: int, rows: int, rng: np.random.Generator) -> Best:
    """The nearest pair of different classes for every two rows: `rows` of them, one a class, or 1 for all together.

    Points are (x [N, d], labels [N]), sorted by label. Without `stored` the asked ones are compared with one another,
    and entry (a, b) is filled for a < b alone.
    """
    sides, look = _filtered(asked, asked if stored is None else stored, power, rows, rng)
    best = Best(np.full((rows, rows), np.inf), np.full((rows, rows, 2), -1))
    if rows > 1:
        np.fill_diagonal(best.power, -1.0)  # nothing is nearer than that: a class is not compared with itself
    parts = list(_parts(sides.asked.labels))
    seeds = rng.integers(0, 2**32, rows + len(parts))
    for _ in in_threads(lambda row: _guess(sides, row, best, np.random.default_rng(seeds[row])), rows):
        pass

    def searched(part: int) -> Best:
        found = Best(best.power.copy(), best.pair.copy())
        look(*parts[part], found, np.random.default_rng(seeds[rows + part]))
        return found

    merged = Best(best.power.copy(), best.pair.copy())
    for found in in_threads(searched, len(parts)):
        better = found.power < merged.power
        merged.power[better], merged.pair[better] = found.power[better], found.pair[better]
    return merged


def _filtered(asked: Labelled, stored: Labelled, power: int, rows: int, rng: np.random.Generator) -> tuple[Sides, Look]:
    """The points with their sketches, and the search that improves bounds by all pairs of queries first..last-1."""
    return _sketched(asked, stored, power, rows, rng) if power else _sieved(asked, stored, rows)


def _sketched(asked: Labelled, stored: Labelled, power: int, rows: int, rng: np.random.Generator) -> tuple[Sides, Look]:
    made = sketch.sketched(asked[0], stored[0], power, rng)
    sides = _sides(asked, stored, (made.fine, made.fine_stored), made.rules, rows)

    def look(first: int, last: int, best: Best, _: np.random.Generator) -> None:
        own = sides.own(first, last)
        sketch.sweep(sides.asked, sides.stored, made.coarse, made.tiles, first, last, own, sides.rules, best)

    return sides, look


def _sieved(asked: Labelled, stored: Labelled, rows: int) -> tuple[Sides, Look]:
    none = np.zeros((len(asked[0]), 0), np.float32), np.zeros((len(stored[0]), 0), np.float32)
    sides = _sides(asked, stored, none, Rules(0, 1.0, 0.0), rows)
    ends = [(x.min(0), x.max(0)) for x in ((asked[0],) if sides.within else (asked[0], stored[0]))]
    span = np.min([low for low, _ in ends], 0), np.max([high for _, high in ends], 0)

    def look(first: int, last: int, best: Best, rng: np.random.Generator) -> None:
        own, count = sides.own(first, last), len(sides.stored.labels)
        if np.any(own[1] - own[0] < count):
            pairs = _random_pairs(first, own, count, rng)
            sieve.search(sides.asked, sides.stored, first, last, own, sides.rules, best, span, pairs, rng)

    return sides, look


def _sides(asked: Labelled, stored: Labelled, fine: tuple[NDArray, NDArray], rules: Rules, rows: int) -> Sides:
    points = [
        Points(x, labels, labels if rows > 1 else np.zeros_like(labels), z)
        for (x, labels), z in zip((asked, stored), fine, strict=True)
    ]
    return Sides(points[0], points[1], rules, asked is stored)


def _parts(labels: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of about PART queries: a large class alone, in pieces, and small ones together."""
    ends = [*(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
    first = 0
    for place, end in enumerate(ends):
        rest = ends[place + 1] - end if place + 1 < len(ends) else PART
        if end - first >= PART // 2 or rest >= PART // 2:
            pieces = max(1, round((end - first) / PART))
            cuts = np.linspace(first, end, pieces + 1).astype(int)
            yield from zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
            first = end


def _random_pairs(first: int, own: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[2, M]: queries first.. and stored points that are not their own."""
    size = own[1] - own[0]
    free = np.flatnonzero(size < count)
    i = free[rng.integers(0, len(free), PAIRS)]
    k = (rng.random(PAIRS) * (count - size[i])).astype(np.int64)
    return np.stack([first + i, k + np.where(k >= own[0, i], size[i], 0)])


def _guess(sides: Sides, row: int, best: Best, rng: np.random.Generator) -> None:
    """Bounds for a row of the table: from random points of its class hop to and fro between nearest neighbours."""
    asked, stored = sides.asked, sides.stored
    low, high = np.searchsorted(asked.rows, [row, row + 1])
    if low == high:
        return
    rows = len(best.power)
    starts = rng.integers(low, high, min(STARTS, -(-STARTS * 1000 // rows**2)))
    for other in range(row + 1 if sides.within and rows > 1 else 0, rows):
        span = np.searchsorted(stored.rows, [other, other + 1])
        if other != row or rows == 1:
            _hop(asked, stored, starts, (low, high), (span[0], span[1]), HOPS if rows <= 100 else 1, sides.rules, best)


@numba.njit(nogil=True, cache=True)
@no_type_check
def _nearest(asked: Points, i: int, stored: Points, low: int, high: int, rules: Rules) -> tuple[int, float]:
    """The nearest stored point low..high-1 of another class than query i; (-1, inf) if there is none."""
    place, best = -1, np.inf
    for k in range(low, high):
        if stored.labels[k] != asked.labels[i]:
            found = distance(asked, stored, i, k, rules, best)
            if found < best:
                place, best = k, found
    return place, best


@numba.njit(nogil=True, cache=True)
@no_type_check
def _hop(asked, stored, starts, here, there, hops, rules, best):
    """From each start to the nearest point there, from that to the nearest here, ... while it gets nearer."""
    for i in starts:
        k, found = _nearest(asked, i, stored, there[0], there[1], rules)
        for _ in range(hops):
            if k < 0:
                break
            a, b = asked.rows[i], stored.rows[k]
            if found < best.power[a, b]:
                best.power[a, b] = found
                best.pair[a, b, 0], best.pair[a, b, 1] = i, k
            back, shorter = _nearest(stored, k, asked, here[0], here[1], rules)
            if shorter >= found:
                break
            i = back
            k, found = _nearest(asked, i, stored, there[0], there[1], rules)
