"""Which pairs may be nearer than a bound in l2 or l1?  Those whose sketches are.

A sketch is a linear map into few numbers that never lengthens a difference in the same norm:

    l2   orthonormal rows P:                 ||P (a - b)||_2 <= ||a - b||_2
    l1   signed sums over disjoint groups:   sum_g |sum_{j in g} s_j (a_j - b_j)| <= ||a - b||_1

So pairs whose sketches lie a bound apart are out, and few numbers say it of nearly all: P is near the leading principal
directions, and coordinates that vary together share a group. A coarse sketch of every pair is compared, 64 stored
points a step and two queries at a time; a fine one of those that are left, and then the points themselves.
"""

from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from stackelberg.memorize.measuring import Best, Points, Rules, limit, settle

TILE = 64
COARSE = {1: 24, 2: 32}  # numbers of a coarse sketch, by power; multiples of 4
FINE = 64  # multiple of 16
SAMPLE = 2000  # points by which a sketch is chosen
FACTORS = 16  # principal directions that say which coordinates vary together


class Sketches(NamedTuple):
    """Sketches of asked and stored points, float32, scaled so that none is longer than 1.

    Attributes:
        coarse: of the asked points, [N, m].
        tiles: coarse ones of the stored points, [T * m * 64]: of 64 points at a time the first numbers, the second, ...
        fine: of the asked points, [N, m'].
        fine_stored: of the stored points, [M, m'].
        rules: how distances are counted, with the scale of the sketches and what rounding may have done to them.
    """

    coarse: NDArray[np.float32]
    tiles: NDArray[np.float32]
    fine: NDArray[np.float32]
    fine_stored: NDArray[np.float32]
    rules: Rules


class Axes(NamedTuple):
    """An l2 sketch: x -> rows (x - centre)."""

    rows: Float64[np.ndarray, "m d"]
    centre: Float64[np.ndarray, " d"]

    def of(self, x: NDArray) -> Float64[np.ndarray, "N m"]:
        """The sketches of points, in parts."""
        at = self.rows @ self.centre
        parts = [x[start : start + 4096] @ self.rows.T - at for start in range(0, len(x), 4096)]
        return np.concatenate(parts)


class Groups(NamedTuple):
    """An l1 sketch: x -> sums of sign_j (x_j - centre_j) over each group."""

    group: Int64[np.ndarray, " d"]
    sign: Float64[np.ndarray, " d"]
    centre: Float64[np.ndarray, " d"]
    sums: int

    def of(self, x: NDArray) -> Float64[np.ndarray, "N m"]:
        """The sketches of points."""
        return _sums(x, self.group, self.sign, self.centre, self.sums)


@numba.njit(nogil=True, cache=True)
@no_type_check
def _sums(x: NDArray, group: NDArray, sign: NDArray, centre: NDArray, count: int) -> NDArray[np.float64]:
    total = np.zeros((len(x), count))
    for i in range(len(x)):
        for j in range(x.shape[1]):
            total[i, group[j]] += sign[j] * (x[i, j] - centre[j])
    return total


def principal(sample: Float64[np.ndarray, "M d"], count: int) -> Float64[np.ndarray, "m d"]:
    """Orthonormal rows near the leading principal directions of a centred sample, by subspace iteration."""
    count = min(count, *sample.shape)
    narrow = (sample / (np.abs(sample).max() or 1.0)).astype(np.float32)
    basis = np.random.default_rng(0).standard_normal((sample.shape[1], count)).astype(np.float32)
    for _ in range(3):
        basis = np.linalg.qr(narrow.T @ (narrow @ basis))[0]
    return np.ascontiguousarray(np.linalg.qr(basis.astype(np.float64))[0].T)


def grouped(
    sample: Float64[np.ndarray, "M d"], count: int
) -> tuple[Int64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
    """(group, sign) of each coordinate, such that the sums over the groups are large on the centred sample.

    With factors L [d, r], L L^T near the covariance, a sum has the variance ||sum_{j in g} s_j L_j||^2. Alternately
    each coordinate joins the group whose unit vector u is nearest to +-L_j, and u becomes the direction of the sum.
    """
    rows = principal(sample, FACTORS)
    factors = rows.T * np.sqrt(((sample @ rows.T) ** 2).mean(0))
    width = len(factors)
    size = np.linalg.norm(factors, axis=1)
    if width <= count or not size.any():
        return np.arange(width) % count, np.ones(width)
    rng = np.random.default_rng(0)
    unit = factors[rng.choice(width, count, p=size / size.sum())]
    group, sign = np.zeros(width, np.int64), np.ones(width)
    for _ in range(15):
        unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        along = factors @ unit.T
        group = np.abs(along).argmax(1)
        sign = np.where(along[np.arange(width), group] < 0, -1.0, 1.0)
        unit = np.zeros_like(unit)
        np.add.at(unit, group, sign[:, None] * factors)
    return group.astype(np.int64), sign


def sketched(asked: NDArray, stored: NDArray, power: int, rng: np.random.Generator) -> Sketches:
    """Coarse and fine sketches of points [N, d] and [M, d]; in l2 a coarse one is the beginning of a fine one.

    Rounding: a sketch in float64 is wrong by less than 2^-52 d sum_j |x_j - c_j| (numbers of at most 2 max |x|), in
    float32 by 2^-24 of its length besides.
    """
    sample = stored[np.sort(rng.choice(len(stored), min(len(stored), SAMPLE), replace=False))].astype(np.float64)
    centre = sample.mean(0)
    sample -= centre
    both = (asked,) if asked is stored else (asked, stored)
    if power == 2:
        axes = Axes(principal(sample, FINE), centre)
        fine = [axes.of(x) for x in both]
        coarse = [z[:, : COARSE[power]] for z in fine]
    else:
        groups = [Groups(*grouped(sample, count), centre, count) for count in (COARSE[power], FINE)]
        coarse, fine = ([one.of(x) for x in both] for one in groups)
    scale = max(float(np.linalg.norm(z, power, axis=1).max()) for z in (*coarse, *fine)) or 1.0
    largest = max(max(float(x.max()), -float(x.min())) for x in both)
    slack = 2.0**-22 + 2.0**-50 * len(centre) ** 2 * 2 * largest / scale
    coarse = [_padded(z / scale, 4) for z in coarse]
    fine = [_padded(z / scale, 16) for z in fine]
    return Sketches(coarse[0], _tiled(coarse[-1]), fine[0], fine[-1], Rules(power, scale, slack))


def _padded(z: Float64[np.ndarray, "N m"], multiple: int) -> NDArray[np.float32]:
    """As float32, with columns of zeros up to a multiple."""
    return np.pad(z, ((0, 0), (0, -z.shape[1] % multiple))).astype(np.float32)


def _tiled(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Number by number of 64 points at a time, with points of zeros at the end."""
    full = np.pad(z, ((0, -len(z) % TILE), (0, 0)))
    return np.ascontiguousarray(full.reshape(-1, TILE, z.shape[1]).transpose(0, 2, 1)).reshape(-1)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
@no_type_check
def _squares(coarse, i, j, tiles, start, one, two):
    """The sums of squared differences between queries i and j and 64 stored points, whose sketches begin at `start`.

    Written out four numbers at a time, over places without a sign, so that it is compiled to vector instructions.
    """
    for c in range(0, coarse.shape[1], 4):
        a0, a1, a2, a3 = coarse[i, c], coarse[i, c + 1], coarse[i, c + 2], coarse[i, c + 3]
        b0, b1, b2, b3 = coarse[j, c], coarse[j, c + 1], coarse[j, c + 2], coarse[j, c + 3]
        at = np.uint64(start + 64 * c)
        for p in range(np.uint64(64)):
            s0, s1 = tiles[at + p], tiles[at + p + np.uint64(64)]
            s2, s3 = tiles[at + p + np.uint64(128)], tiles[at + p + np.uint64(192)]
            one[p] += (a0 - s0) ** 2 + (a1 - s1) ** 2 + (a2 - s2) ** 2 + (a3 - s3) ** 2
            two[p] += (b0 - s0) ** 2 + (b1 - s1) ** 2 + (b2 - s2) ** 2 + (b3 - s3) ** 2


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
@no_type_check
def _lengths(coarse, i, j, tiles, start, one, two):
    """The sums of absolute differences between queries i and j and 64 stored points, whose sketches begin at `start`.

    Written out four numbers at a time, over places without a sign, so that it is compiled to vector instructions.
    """
    for c in range(0, coarse.shape[1], 4):
        a0, a1, a2, a3 = coarse[i, c], coarse[i, c + 1], coarse[i, c + 2], coarse[i, c + 3]
        b0, b1, b2, b3 = coarse[j, c], coarse[j, c + 1], coarse[j, c + 2], coarse[j, c + 3]
        at = np.uint64(start + 64 * c)
        for p in range(np.uint64(64)):
            s0, s1 = tiles[at + p], tiles[at + p + np.uint64(64)]
            s2, s3 = tiles[at + p + np.uint64(128)], tiles[at + p + np.uint64(192)]
            one[p] += abs(a0 - s0) + abs(a1 - s1) + abs(a2 - s2) + abs(a3 - s3)
            two[p] += abs(b0 - s0) + abs(b1 - s1) + abs(b2 - s2) + abs(b3 - s3)


@numba.njit(nogil=True, cache=True)
@no_type_check
def _any_below(sums, bound):
    near = False
    for p in range(len(sums)):
        near |= sums[p] < bound
    return near


@numba.njit(nogil=True, cache=True)
@no_type_check
def _pick(asked, stored, i, first, sums, bound, low, high, rules, best):
    """Settle query i with those of 64 stored points, but low..high-1, whose sketches are nearer than `bound`."""
    for p in range(min(64, len(stored.labels) - first)):
        if sums[p] < bound and not low <= first + p < high:
            settle(asked, stored, i, first + p, rules, best)


@numba.njit(nogil=True, cache=True)
@no_type_check
def sweep(
    asked: Points, stored: Points, coarse: NDArray[np.float32], tiles: NDArray[np.float32], first: int, last: int,
    own: NDArray[np.int64], rules: Rules, best: Best,
) -> None:  # fmt: skip
    """Improve `best` by all pairs of queries first..last-1 and stored points but own[0, i]..own[1, i]-1 for query i."""
    count = len(stored.labels)
    one, two = np.empty(64, np.float32), np.empty(64, np.float32)
    for start in range(0, count, 64):
        end = min(start + 64, count)
        if own[0, last - first - 1] <= start and end <= own[1, 0]:
            continue
        rows = best.power[asked.rows[first] : asked.rows[last - 1] + 1, stored.rows[start] : stored.rows[end - 1] + 1]
        bound = limit(rows.max(), rules)
        for i in range(first, last, 2):
            j = min(i + 1, last - 1)
            one[:] = 0
            two[:] = 0
            if rules.power == 2:
                _squares(coarse, i, j, tiles, start * coarse.shape[1], one, two)
            else:
                _lengths(coarse, i, j, tiles, start * coarse.shape[1], one, two)
            if _any_below(one, bound):
                _pick(asked, stored, i, start, one, bound, own[0, i - first], own[1, i - first], rules, best)
            if j > i and _any_below(two, bound):
                _pick(asked, stored, j, start, two, bound, own[0, j - first], own[1, j - first], rules, best)
