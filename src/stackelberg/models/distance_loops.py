"""The loops of `distances`, compiled by numba: `TILE` points at a time, which lie in registers and the first cache."""

from functools import cache
from typing import Any, no_type_check

import numba
import numpy as np
from numpy.typing import NDArray

TILE = 64
"""Points whose distances are computed side by side."""
_PAIRS = 8  # points whose gradients are summed up at a time
_SUMS = {"reassoc", "nsz", "contract", "arcp"}  # what the compiler may change: the order of sums
_ORDER = {"reassoc", "nsz", "nnan"}  # NaN is dealt with outside


def tiled(points: NDArray) -> NDArray:
    """[m, n] as [tiles, n, TILE], filled up with points at 0."""
    count = -(-len(points) // TILE)
    padded = np.zeros((count * TILE, points.shape[1]), points.dtype)
    padded[: len(points)] = points
    return np.ascontiguousarray(padded.reshape(count, TILE, -1).transpose(0, 2, 1))


@numba.njit(cache=True, fastmath=_ORDER, nogil=True)
@no_type_check  # it is compiled
def greatest(x: NDArray, tiles: NDArray, out: NDArray) -> None:
    """out[b, o] = max_i |x_bi - w_oi|, four coordinates at a time."""
    n = x.shape[1]
    best = np.empty(TILE, x.dtype)
    for k in range(len(tiles)):
        for b in range(len(x)):
            best[:] = 0
            for i in range(0, n - 3, 4):
                x0, x1, x2, x3 = x[b, i], x[b, i + 1], x[b, i + 2], x[b, i + 3]
                for o in range(TILE):
                    t = abs(x0 - tiles[k, i, o])
                    s = abs(x1 - tiles[k, i + 1, o])
                    t = s if s > t else t  # max() is not vectorised
                    s = abs(x2 - tiles[k, i + 2, o])
                    t = s if s > t else t
                    s = abs(x3 - tiles[k, i + 3, o])
                    t = s if s > t else t
                    best[o] = t if t > best[o] else best[o]
            for i in range(n - n % 4, n):
                for o in range(TILE):
                    t = abs(x[b, i] - tiles[k, i, o])
                    best[o] = t if t > best[o] else best[o]
            for o in range(min(TILE, out.shape[1] - k * TILE)):
                out[b, k * TILE + o] = best[o]


@numba.njit(cache=True, fastmath=_ORDER, nogil=True)
@no_type_check  # it is compiled
def greatest_places(x: NDArray, tiles: NDArray, out: NDArray, place: NDArray) -> None:
    """As `greatest`, and the first i that attains it."""
    best, where = np.empty(TILE, x.dtype), np.empty(TILE, np.int32)
    for k in range(len(tiles)):
        for b in range(len(x)):
            best[:] = 0
            where[:] = 0
            for i in range(x.shape[1]):
                own, here = x[b, i], np.int32(i)
                for o in range(TILE):
                    t = abs(own - tiles[k, i, o])
                    where[o] = here if t > best[o] else where[o]
                    best[o] = t if t > best[o] else best[o]
            for o in range(min(TILE, out.shape[1] - k * TILE)):
                out[b, k * TILE + o] = best[o]
                place[b, k * TILE + o] = where[o]


@numba.njit(cache=True, nogil=True)
@no_type_check  # it is compiled
def scatter(x: NDArray, points: NDArray, place: NDArray, gradient: NDArray, to_x: NDArray, to_points: NDArray) -> None:
    """The gradients for p = inf: one coordinate a pair."""
    for b in range(len(x)):
        for o in range(len(points)):
            i = place[b, o]
            apart = x[b, i] - points[o, i]
            if apart != 0:
                part = gradient[b, o] if apart > 0 else -gradient[b, o]
                to_x[b, i] += part
                to_points[o, i] -= part


def _power(exponent: int) -> Any:
    """t -> t^exponent by squaring; the exponent is a constant of the compiled code, so that its loop is unrolled."""
    bits = exponent.bit_length()

    @numba.njit(fastmath=_SUMS)
    @no_type_check
    def power(t):
        base, product, started = t, t, False
        for k in range(bits):
            if (exponent >> k) & 1:
                product = product * base if started else base
                started = True
            base = base * base
        return product

    return power


def _summed(raised: Any) -> Any:
    """total[o] += sum_i raised((x_i - w_oi) * scale[o]), four coordinates at a time."""

    @numba.njit(fastmath=_SUMS, nogil=True)
    @no_type_check
    def summed(x, tile, scale, total):
        n = len(x)
        for i in range(0, n - 3, 4):
            x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
            for o in range(TILE):
                early = raised((x0 - tile[i, o]) * scale[o]) + raised((x1 - tile[i + 1, o]) * scale[o])
                late = raised((x2 - tile[i + 2, o]) * scale[o]) + raised((x3 - tile[i + 3, o]) * scale[o])
                total[o] += early + late
        for i in range(n - n % 4, n):
            for o in range(TILE):
                total[o] += raised((x[i] - tile[i, o]) * scale[o])

    return summed


@cache
def norms(p: int) -> Any:
    """(x, tiles, out) -> None for an even p, compiled when first needed.

    `out` holds the largest differences M and takes the norms, M (sum (|u| / M)^p)^(1/p): nothing overflows, and what
    underflows does not matter.
    """
    summed = _summed(_power(p))

    @numba.njit(fastmath=_SUMS, nogil=True)
    @no_type_check
    def run(x, tiles, out):
        scale, total = np.empty(TILE, x.dtype), np.empty(TILE, x.dtype)
        for k in range(len(tiles)):
            width = min(TILE, out.shape[1] - k * TILE)
            for b in range(len(x)):
                scale[:] = 0
                total[:] = 0
                for o in range(width):
                    if out[b, k * TILE + o] > 0:
                        scale[o] = 1 / out[b, k * TILE + o]
                summed(x[b], tiles[k], scale, total)
                for o in range(width):
                    out[b, k * TILE + o] *= total[o] ** (1 / p)

    return run


@cache
def gradients(p: int) -> Any:
    """(x, points, norm, gradient, to_x, to_points) -> None for an even p: adds to the last two."""
    sloped = _power(p - 1)

    @numba.njit(fastmath=_SUMS, nogil=True)
    @no_type_check
    def two(x, w, v, to_x, to_w, to_v, scale_w, scale_v, given_w, given_v):
        for i in range(len(x)):
            part = sloped((x[i] - w[i]) * scale_w) * given_w
            other = sloped((x[i] - v[i]) * scale_v) * given_v
            to_x[i] += part + other
            to_w[i] -= part
            to_v[i] -= other

    @numba.njit(nogil=True)
    @no_type_check
    def run(x, points, norm, gradient, to_x, to_points):
        spare, lost = np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)  # beside the last of an odd number
        zero, one = spare[0], np.ones(1, x.dtype)[0]  # a whole number would make it all float64
        for first in range(0, len(points), _PAIRS):
            for b in range(len(x)):
                for o in range(first, min(len(points), first + _PAIRS), 2):
                    size, given = norm[b, o], gradient[b, o]
                    scale = one / size if size > 0 else zero
                    if o + 1 < len(points):
                        size, other = norm[b, o + 1], gradient[b, o + 1]
                        rate = one / size if size > 0 else zero
                        at, to = points[o + 1], to_points[o + 1]
                    else:
                        other, rate, at, to = zero, zero, spare, lost
                    two(x[b], points[o], at, to_x[b], to_points[o], to, scale, rate, given, other)

    return run
