"""How far has a distribution moved?  Wasserstein distances of samples and of the laws behind them.

Upper bounds for laws rest on one lemma: a transport cost (total variation too) is convex in the pair of laws, so its
mean over samples is at least its value for the laws, and one point moves it by at most range / n: McDiarmid.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray

from stackelberg.bounds.binary_kl import chernoff_upper
from stackelberg.errors import StackelbergError


@dataclass(frozen=True)
class Moved:
    """A distance between two laws.

    Attributes:
        value: between the samples, input units (total variation: in mass).
        upper: the distance between the laws is at most this, with `confidence`.
        confidence: in (0, 1).
    """

    value: float
    upper: float
    confidence: float


def wasserstein(
    distance: Float[NDArray, "n m"], diameter: float, power: float = 1.0, confidence: float = 0.95
) -> Moved:
    """W_p of two uniform samples, and of their laws with confidence:

        W_p(P, Q)^p <= W_p(P_n, Q_m)^p + diameter^p sqrt((1/n + 1/m) ln(1 / delta) / 2)

    The left side is one-sided and free of the dimension; the samples' own distance is large where n is small against
    the dimension.

    Args:
        distance: between the points, input units.
        diameter: of the space in which both laws live, input units.
        power: p >= 1.
        confidence: 1 - delta.

    Raises:
        StackelbergError: POT is not installed, a distance beyond the diameter, a power below 1.
    """
    try:
        import ot
    except ImportError as error:
        raise StackelbergError(
            "Wasserstein distances are computed by POT, which is not installed; install stackelberg[convex]"
        ) from error
    _check(confidence, diameter, power)
    if not distance.size or not (distance >= 0).all() or distance.max() > diameter * (1 + 1e-9):
        raise StackelbergError(
            f"distances must lie in [0, diameter], got diameter {diameter:g} and a largest distance of"
            f" {distance.max() if distance.size else math.nan:g}; pass the diameter of the whole space"
        )
    n, m = distance.shape
    plan = ot.emd(np.full(n, 1 / n), np.full(m, 1 / m), np.asarray(distance, np.float64) ** power)
    cost = float((np.asarray(plan) * np.asarray(distance, np.float64) ** power).sum())
    slack = math.sqrt((1 / n + 1 / m) * math.log(1 / (1 - confidence)) / 2)
    upper = min(cost + diameter**power * slack, diameter**power)
    return Moved(max(cost, 0.0) ** (1 / power), upper ** (1 / power), confidence)


def coupled(distance: Float[NDArray, " n"], diameter: float, power: float = 1.0, confidence: float = 0.95) -> Moved:
    """An upper bound of W_p between the laws of x and of its shifted copy, from n independent pairs' distances.

    The pairs are a coupling: W_p^p <= E dist^p. The mean of n numbers in [0, diameter^p] is bounded by the Chernoff
    bound in its binary-KL form (Hoeffding 1963, theorem 1): kl(mean || true) <= ln(1 / delta) / n. Far tighter than
    `wasserstein` where a natural coupling exists, as for corruptions and attacks.
    """
    _check(confidence, diameter, power)
    if not distance.size or not (distance >= 0).all() or distance.max() > diameter * (1 + 1e-9):
        raise StackelbergError(f"distances must lie in [0, diameter], got diameter {diameter:g}")
    mean = float(np.mean((np.asarray(distance, np.float64) / diameter) ** power))
    upper = chernoff_upper(min(mean, 1.0), distance.size, confidence)
    return Moved(diameter * mean ** (1 / power), diameter * upper ** (1 / power), confidence)


def total_variation(a: Int64[NDArray, " n"], b: Int64[NDArray, " m"], confidence: float = 0.95) -> Moved:
    """TV of two laws on finitely many cells, TV(P, Q) <= TV(P_n, Q_m) + sqrt((1/n + 1/m) ln(1 / delta) / 2).

    Args:
        a: the cell of each point of the first sample, >= 0.
        b: of the second.
        confidence: 1 - delta.
    """
    _check(confidence, 1.0, 1.0)
    if not a.size or not b.size:
        raise StackelbergError(f"total variation needs points in both samples, got {a.size} and {b.size}")
    cells = int(max(a.max(), b.max())) + 1
    shares = [np.bincount(sample, minlength=cells) / sample.size for sample in (a, b)]
    value = float(np.abs(shares[0] - shares[1]).sum()) / 2
    slack = math.sqrt((1 / a.size + 1 / b.size) * math.log(1 / (1 - confidence)) / 2)
    return Moved(value, min(1.0, value + slack), confidence)


def _check(confidence: float, diameter: float, power: float) -> None:
    if not 0 < confidence < 1 or not (math.isfinite(diameter) and diameter > 0) or not power >= 1:
        raise StackelbergError(
            f"confidence must be in (0, 1), diameter > 0 and power >= 1, got {confidence}, {diameter} and {power}"
        )
