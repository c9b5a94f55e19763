"""Which pairs may be nearer than a bound in linf?  All of them but few, found by bit sets.

One coordinate on which two points differ by the bound or more rules the pair out. For a chosen coordinate c and every
value v one bit set holds the stored points k with |x_kc - v| < bound_k; a query ANDs one row of bits per coordinate,
64 points a word, and what is left of it is measured. Reals are first put into 256 bins of each coordinate.
"""

from typing import NamedTuple, no_type_check

import numba
import numpy as np
from numpy.typing import NDArray

from stackelberg.memorize.measuring import Best, Points, Rules, settle

VALUES = 256  # of a byte, and bins of a real coordinate
WORDS = 64  # of a row of bits: 4,096 stored points at a time, whose tables stay in cache
MOST = 48  # coordinates; a multiple of AT_ONCE
AT_ONCE = 4  # rows that are ANDed in one pass
LOOK, CANDIDATES = 2_000, 1_024  # pairs and coordinates that are looked at to choose the next few
FEW = 5e-4  # share of pairs that may be left to measure


class Bins(NamedTuple):
    """How values of some coordinates become 0..255.

    Attributes:
        coordinates: [C].
        low: the least value of each.
        width: of a bin of each; a byte is its own bin, of width 1.
        spread: how much farther apart than their distance in widths the bins of two values can lie.
    """

    coordinates: NDArray[np.int64]
    low: NDArray[np.float64]
    width: NDArray[np.float64]
    spread: int

    @classmethod
    def over(cls, span: tuple[NDArray, NDArray], coordinates: NDArray[np.int64]) -> "Bins":
        """Bins of some coordinates, given the (least, largest) value of every one."""
        low, high = (end[coordinates] for end in span)
        if low.dtype == np.uint8:
            return cls(coordinates, np.zeros(len(low)), np.ones(len(low)), 0)
        return cls(coordinates, low, np.where(high > low, (high - low) / (VALUES - 1), 1.0), 1)

    def of(self, x: NDArray) -> NDArray[np.uint8]:
        """The bins of points, uint8 [n, C]."""
        if self.spread == 0:
            return np.ascontiguousarray(x[:, self.coordinates])
        at = (x[:, self.coordinates] - self.low) / self.width
        return np.clip(at, 0, VALUES - 1).astype(np.uint8)

    def reach(self, bound: NDArray[np.float64]) -> NDArray[np.int64]:
        """[C, n]: a query whose bin differs by this many or more from a point's is at its bound or beyond.

        Two values less than `bound` apart lie in bins that differ by at most ceil(bound / width); a millionth of a
        bin more for the rounding of values and widths.
        """
        if self.spread == 0:
            return np.broadcast_to(np.ceil(np.minimum(bound, VALUES)), (len(self.width), len(bound))).astype(np.int64)
        with np.errstate(over="ignore"):
            bins = bound / self.width[:, None] * (1 + 1e-9) + 1e-6
        return np.ceil(np.clip(bins, 0, VALUES)).astype(np.int64) + self.spread


def choose(
    asked: Points, stored: Points, pairs: NDArray[np.int64], bound: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The coordinates that rule out most of the pairs [2, M] at their bounds [M], one after the other.

    A greedy cover, chosen by some of the pairs that are left at a time, until few are.
    """
    width, left = asked.x.shape[1], np.arange(pairs.shape[1])
    chosen: list[int] = []
    while len(chosen) < MOST and len(left) > FEW * pairs.shape[1]:
        candidates = np.sort(rng.choice(width, min(width, CANDIDATES), replace=False))
        some = left[:LOOK]
        far = _far(asked.x, stored.x, pairs[:, some], bound[some], candidates)
        found = candidates[_cover(far, 2 * AT_ONCE)]
        if not len(found):
            break
        chosen += found.tolist()
        gone = _far(asked.x, stored.x, pairs[:, left], bound[left], found).any(1)
        left = left[~gone]
    return np.array(chosen[:MOST], dtype=np.int64)


@numba.njit(nogil=True, cache=True)
@no_type_check
def _far(
    asked: NDArray, stored: NDArray, pairs: NDArray[np.int64], bound: NDArray[np.float64], columns: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """[M, C]: does the pair differ by its bound or more on the coordinate?"""
    far = np.zeros((pairs.shape[1], len(columns)), np.uint8)
    for p in range(pairs.shape[1]):
        a, b = asked[pairs[0, p]], stored[pairs[1, p]]
        for c in range(len(columns)):
            far[p, c] = max(a[columns[c]], b[columns[c]]) - min(a[columns[c]], b[columns[c]]) >= bound[p]
    return far


@numba.njit(nogil=True, cache=True)
@no_type_check
def _cover(far: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Greedily up to `count` columns, each with most of the rows that no column before it has."""
    score = np.zeros(far.shape[1], np.int32)
    for p in range(len(far)):
        score += far[p]
    left = np.ones(len(far), np.uint8)
    chosen = np.empty(count, np.int64)
    for n in range(count):
        best = score.argmax()
        if score[best] == 0:
            return chosen[:n]
        chosen[n] = best
        for p in range(len(far)):
            if left[p] and far[p, best]:
                left[p] = 0
                score -= far[p]
    return chosen


@numba.njit(nogil=True, cache=True)
@no_type_check
def tables(bins: NDArray[np.uint8], reach: NDArray[np.int64]) -> NDArray[np.uint64]:
    """bits [C, 256, WORDS]: bit k of row v is set if |bins[k, c] - v| < reach[c, k].

    A point enters the rows at one value and leaves them at another, so both ends are marked and the rows added up.
    """
    count, coordinates = bins.shape
    bits = np.zeros((coordinates, VALUES, WORDS), np.uint64)
    for c in range(coordinates):
        for k in range(count):
            value, mark = np.int64(bins[k, c]), np.uint64(1) << np.uint64(k & 63)
            if reach[c, k] <= 0:
                continue
            bits[c, max(0, value - reach[c, k] + 1), k >> 6] ^= mark
            if value + reach[c, k] < VALUES:
                bits[c, value + reach[c, k], k >> 6] ^= mark
        for v in range(1, VALUES):
            for w in range(WORDS):
                bits[c, v, w] ^= bits[c, v - 1, w]
    return bits


@numba.njit(nogil=True, cache=True)
@no_type_check
def _clear(left: NDArray[np.uint64], low: int, high: int) -> None:
    """Unset the bits low..high-1."""
    for w in range(low >> 6, min((high + 63) >> 6, len(left))):
        keep = np.uint64(0)
        if low > w << 6:
            keep |= (np.uint64(1) << np.uint64(low - (w << 6))) - np.uint64(1)
        if high < (w + 1) << 6:
            keep |= ~np.uint64(0) << np.uint64(high - (w << 6))
        left[w] &= keep


@numba.njit(nogil=True, cache=True)
@no_type_check
def _meet(left: NDArray[np.uint64], bits: NDArray[np.uint64], bins: NDArray[np.uint8]) -> None:
    """AND one row per coordinate into `left`."""
    for c in range(0, len(bins), AT_ONCE):
        one, two = bits[c, bins[c]], bits[c + 1, bins[c + 1]]
        three, four = bits[c + 2, bins[c + 2]], bits[c + 3, bins[c + 3]]
        for w in range(WORDS):
            left[w] &= one[w] & two[w] & three[w] & four[w]


@numba.njit(nogil=True, cache=True)
@no_type_check
def sift(
    asked: Points, stored: Points, first: int, bins: NDArray[np.uint8], origin: int, bits: NDArray[np.uint64],
    own: NDArray[np.int64], rules: Rules, best: Best,
) -> None:  # fmt: skip
    """Settle what the bits leave of the pairs of queries first.. and stored points origin..origin + 64 WORDS - 1.

    `bins` [n, C] are the queries'; stored points own[0, i]..own[1, i]-1 are not for query i.
    """
    left = np.empty(WORDS, np.uint64)
    for i in range(len(bins)):
        left[:] = ~np.uint64(0)
        _clear(left, max(own[0, i] - origin, 0), own[1, i] - origin)
        _clear(left, min(len(stored.labels) - origin, 64 * WORDS), 64 * WORDS)
        _meet(left, bits, bins[i])
        for w in range(WORDS):
            rest = left[w]
            while rest:
                lowest = rest & (~rest + np.uint64(1))
                at = 0
                for half in (32, 16, 8, 4, 2, 1):
                    if lowest >> np.uint64(at + half):
                        at += half
                settle(asked, stored, first + i, origin + (w << 6) + at, rules, best)
                rest ^= lowest


def search(
    asked: Points, stored: Points, first: int, last: int, own: NDArray[np.int64], rules: Rules, best: Best,
    span: tuple[NDArray, NDArray], pairs: NDArray[np.int64], rng: np.random.Generator,
) -> None:  # fmt: skip
    """Improve `best` by all pairs of queries first..last-1 and stored points but own[0, i]..own[1, i]-1 for query i.

    Coordinates are chosen by some of these `pairs` [2, M]; `span` is the (least, largest) value of every one.
    """
    bound = best.power[asked.rows[pairs[0]], stored.rows[pairs[1]]]
    chosen = choose(asked, stored, pairs, bound, rng)
    padded = np.concatenate([chosen, np.repeat(chosen[:1] if len(chosen) else [0], -len(chosen) % AT_ONCE)])
    bins = Bins.over(span, padded.astype(np.int64))
    queries = bins.of(asked.x[first:last])
    classes = np.unique(asked.rows[first:last])
    for origin in range(0, len(stored.labels), 64 * WORDS):
        end = min(origin + 64 * WORDS, len(stored.labels))
        if own[0].max() <= origin and own[1].min() >= end:
            continue
        bound = best.power[classes].max(0)[stored.rows[origin:end]]
        bits = tables(bins.of(stored.x[origin:end]), bins.reach(bound))
        sift(asked, stored, first, queries, origin, bits, own, rules, best)
