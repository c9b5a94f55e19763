"""How far apart are two samples if a small share may be forgotten?  The Levy-Prokhorov distance, exactly.

Strassen (1965): LP(P, Q) is the least s for which some coupling has P(dist > s) <= s. For samples, F(s) = the least
mass that a coupling leaves farther apart than s is 1 - (a maximum matching of the pairs within s) / n, a step function
that falls at the distances; so LP = min over distances d (and 0) of max(d, F(d)), found by bisection.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching, maximum_flow

from stackelberg.errors import StackelbergError


def left_apart(distance: Float[np.ndarray, "n m"], s: float) -> float:
    """F(s) = min over couplings of the two uniform samples of P(dist > s).

    Equal sizes: a maximum matching (Hopcroft and Karp). Unequal: a maximum flow, each point of n carrying m / g and
    each of m carrying n / g units, g their common divisor.
    """
    n, m = distance.shape
    near = distance <= s
    if n == m:
        partner = maximum_bipartite_matching(csr_matrix(near), perm_type="column")
        return float((partner < 0).sum()) / n
    g = math.gcd(n, m)
    units, rows, columns = n * m // g, *np.nonzero(near)
    source, sink = np.zeros(n, dtype=np.int64), np.full(m, n + m + 1)
    start = np.concatenate((source, rows + 1, np.arange(m) + n + 1))
    end = np.concatenate((np.arange(n) + 1, columns + n + 1, sink))
    room = np.concatenate((np.full(n, m // g), np.full(len(rows), min(n, m) // g), np.full(m, n // g)))
    graph = csr_matrix((room.astype(np.int32), (start, end)), shape=(n + m + 2, n + m + 2))
    return 1 - int(maximum_flow(graph, 0, n + m + 1).flow_value) / units


def levy_prokhorov(distance: Float[np.ndarray, "n m"]) -> float:
    """LP of two samples from their distances, in the distances' unit (and in mass: it is at most 1); exact.

    Raises:
        StackelbergError: no points, or a distance that is negative or NaN.
    """
    _check(distance)
    levels = np.unique(np.concatenate(([0.0], np.minimum(distance, 1.0).ravel())))  # beyond 1 nothing changes
    low, high = 0, len(levels) - 1  # the least level with F(level) <= level lies in [low, high]
    if left_apart(distance, levels[high]) > levels[high]:
        return left_apart(distance, levels[high])
    while low < high:
        middle = (low + high) // 2
        if left_apart(distance, levels[middle]) <= levels[middle]:
            high = middle
        else:
            low = middle + 1
    above = float(levels[high])
    return min(above, left_apart(distance, levels[high - 1])) if high else above


def levy_prokhorov_upper(distance: Float[np.ndarray, "n m"], confidence: float = 0.95, levels: int = 50) -> float:
    """A number that LP of the two *laws* does not exceed, with the given confidence; 1 where nothing less is sure.

    For a fixed s, F is convex in the pair of laws, so E F_n(s) >= F(s); and one point moves F_n(s) by at most 1 / n.
    So (McDiarmid) F(s) <= F_n(s) + sqrt((1/n + 1/m) ln(L / delta) / 2) at the L levels k / L at once, and the least
    level at which the right side is at most the level bounds LP. No dimension enters; it is far from tight where n is
    small against the dimension, since then F_n itself is large.
    """
    _check(distance)
    if not 0 < confidence < 1 or levels < 1:
        raise StackelbergError(f"confidence must be in (0, 1) and levels 1 or more, got {confidence} and {levels}")
    n, m = distance.shape
    slack = math.sqrt((1 / n + 1 / m) * math.log(levels / (1 - confidence)) / 2)
    low, high = 1, levels
    while low < high:
        middle = (low + high) // 2
        s = middle / levels
        low, high = (low, middle) if left_apart(distance, s) + slack <= s else (middle + 1, high)
    return high / levels


def _check(distance: np.ndarray) -> None:
    if not distance.size or not (distance >= 0).all():
        raise StackelbergError(
            "distances must be numbers >= 0 between at least one point and one other; got none or NaN"
        )
