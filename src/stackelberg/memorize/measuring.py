"""How far apart are two points, exactly?  And which pair of two classes is the nearest so far?

Distances are kept as powers: l2 as its square, linf and l1 as they are. Bytes are measured in grey levels, in integers
all the way; floats in float64.
"""

from typing import NamedTuple, no_type_check

import numba
import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

STEP = 64  # coordinates between two looks at whether a pair can still be the nearest


class Points(NamedTuple):
    """Points sorted by class, as the compiled searches take them.

    Attributes:
        x: uint8 or float64 [N, d].
        labels: [N], ascending.
        rows: [N], the row of the table of bounds each belongs to: its label, or 0 where one bound serves all.
        fine: float32 [N, m], a sketch that never exceeds distances (see `sketch`); m = 0 for linf.
    """

    x: NDArray
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    fine: NDArray[np.float32]


class Rules(NamedTuple):
    """How distances are counted.

    Attributes:
        power: 0 for linf, 1 for l1, 2 for l2.
        scale: of the sketches: one unit of theirs in units of the points.
        slack: by how much rounding may have moved two sketches apart, in their units.
    """

    power: int
    scale: float
    slack: float


class Best(NamedTuple):
    """The nearest pair of every two classes so far.

    Attributes:
        power: [R, R], the distance as a power; a pair counts only if it is below.
        pair: [R, R, 2], places of the pair among the asked and the stored points, -1 where there is none yet.
    """

    power: NDArray[np.float64]
    pair: NDArray[np.int64]


@no_type_check  # its compiled form is chosen below by the type of the points
def apart(a: NDArray, b: NDArray, power: int, enough: float) -> float:
    """||a - b|| as a power, or any number in [enough, that] as soon as `enough` is known to be reached."""
    raise NotImplementedError


@overload(apart)
@no_type_check
def _apart(a, b, power, enough):
    return _bytes_apart if a.dtype == numba.uint8 else _floats_apart


@no_type_check
def _bytes_apart(a, b, power, enough):
    total = 0
    for start in range(0, len(a), STEP):
        stop = min(start + STEP, len(a))
        if power == 0:
            top = np.uint8(0)
            for j in range(start, stop):
                top = max(top, np.uint8(max(a[j], b[j]) - min(a[j], b[j])))
            total = max(total, np.int64(top))
        else:
            part = np.int32(0)
            if power == 1:
                for j in range(start, stop):
                    part += np.int32(abs(np.int32(a[j]) - np.int32(b[j])))
            else:
                for j in range(start, stop):
                    gap = np.int32(np.int32(a[j]) - np.int32(b[j]))
                    part += np.int32(gap * gap)
            total += np.int64(part)
        if total >= enough:
            break
    return np.float64(total)


@no_type_check
def _floats_apart(a, b, power, enough):
    total = 0.0
    for start in range(0, len(a), STEP):
        for j in range(start, min(start + STEP, len(a))):
            gap = abs(a[j] - b[j])
            if power == 0:
                total = max(total, gap)
            else:
                total += gap if power == 1 else gap * gap
        if total >= enough:
            break
    return total


@numba.njit(nogil=True, cache=True)
@no_type_check
def limit(power: float, rules: Rules) -> np.float32:
    """Sketches this far apart or more (as a power) belong to points at distance >= `power`."""
    root = np.sqrt(power) if rules.power == 2 else power
    bound = (root / rules.scale + rules.slack) ** max(rules.power, 1)
    return np.float32(bound * (1 + 3e-5))  # sums of up to 128 float32 numbers, and this rounding


@numba.njit(nogil=True, cache=True, forceinline=True, fastmath={"reassoc", "contract"})
@no_type_check
def _ruled_out(a: NDArray[np.float32], b: NDArray[np.float32], power: int, bound: np.float32) -> bool:
    total = np.float32(0)
    for start in range(0, len(a), 16):
        part = np.float32(0)
        if power == 2:
            for j in range(start, start + 16):
                part += (a[j] - b[j]) * (a[j] - b[j])
        else:
            for j in range(start, start + 16):
                part += abs(a[j] - b[j])
        total += part
        if total >= bound:
            return True
    return False


@numba.njit(nogil=True, cache=True, forceinline=True)
@no_type_check
def distance(asked: Points, stored: Points, i: int, k: int, rules: Rules, enough: float) -> float:
    """The distance of asked point i and stored point k as a power if it is below `enough`, else inf."""
    if rules.power and _ruled_out(asked.fine[i], stored.fine[k], rules.power, limit(enough, rules)):
        return np.inf
    found = apart(asked.x[i], stored.x[k], rules.power, enough)
    return found if found < enough else np.inf


@numba.njit(nogil=True, cache=True, forceinline=True)
@no_type_check
def settle(asked: Points, stored: Points, i: int, k: int, rules: Rules, best: Best) -> None:
    """Measure a pair that no filter has ruled out; keep it if it is the nearest of its two classes so far."""
    a, b = asked.rows[i], stored.rows[k]
    found = distance(asked, stored, i, k, rules, best.power[a, b])
    if found < best.power[a, b]:
        best.power[a, b] = found
        best.pair[a, b, 0], best.pair[a, b, 1] = i, k
