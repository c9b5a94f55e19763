"""What is the worst loss near a law on finitely many points?  Exactly, for transport and re-weighing together.

L_{r, gamma} = sup {E_{D'} l : W_p(D, D'') <= r, KL(D'' || D') <= gamma}. The set is convex and the KL part has the dual
of `off_sample`, so with C_ij = cost_ij^p (infinite where mass may not go, as between labels)

    L = min over eta >= max l and price >= 0 of
        eta - exp(-gamma - price r^p + sum_i f_i min_j [ln(eta - l_j) + price C_ij])

Every pair (eta, price) gives an upper bound, so an inexact minimum errs on the safe side.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from stackelberg.errors import StackelbergError


@dataclass(frozen=True)
class Nearby:
    """The worst law near a given one, by its dual.

    Attributes:
        value: an upper bound of L_{r, gamma}, tight to about 1e-7 of the range of the loss.
        level: eta, in the loss's unit.
        price: of a unit of transport cost.
    """

    value: float
    level: float
    price: float


def worst_nearby(
    frequency: Float[NDArray, " k"],
    losses: Float[NDArray, " k"],
    cost: Float[NDArray, "k k"],
    radius: float,
    gamma: float,
    power: float = 1.0,
) -> Nearby:
    """L_{r, gamma} for a law on k points: the game's payoff, off the sample, exactly.

    Args:
        frequency: f, the law from which the adversary starts (the empirical one), sum 1.
        losses: l of each point, finite.
        cost: distance of each pair, input units, >= 0, 0 from a point to itself, inf where mass may not go.
        radius: r >= 0 of the transport, in input units.
        gamma: of the re-weighing, nats, >= 0.
        power: p >= 1, or inf: then every point moves within the radius.

    Raises:
        StackelbergError: frequencies that are none, a diagonal that is not 0, unlike sizes, negative radius or gamma.
    """
    _check(frequency, losses, cost, radius, gamma, power)
    used = frequency > 0
    f, top, bottom = frequency[used] / frequency[used].sum(), float(losses.max()), float(losses.min())
    span = top - bottom
    if span == 0:
        return Nearby(top, top, 0.0)
    levels, reach = _reach((losses - bottom) / span, cost[used], power if math.isfinite(power) else 1.0)
    if math.isinf(power):
        priced = _Priced(f, levels, np.where(reach <= radius, 0.0, np.inf), 0.0, gamma)
    else:
        priced = _Priced(f, levels, reach, radius**power, gamma)
    if gamma == 0:  # eta goes to infinity: the mean loss after the transport
        mean, price = priced.cheapest(-levels)
        return Nearby(min(top, bottom - span * mean), math.inf, span * price)
    # convex in eta, so one minimum in t
    t = float(minimize_scalar(priced.value, bounds=(-30, 12), method="bounded", options={"xatol": 1e-4}).x)
    price = priced.cheapest(np.log(1 + math.exp(t) - levels))[1]
    return Nearby(min(top, bottom + span * priced.value(t)), bottom + span * (1 + math.exp(t)), price)


@dataclass(frozen=True, eq=False)
class _Priced:
    """The dual for losses scaled to [0, 1].

    Attributes:
        f: the law on the points it has, [k].
        levels: the different losses, [V].
        reach: cheapest cost^p from each point to one of that loss, [k, V].
        budget: r^p.
        gamma: nats.
    """

    f: NDArray
    levels: NDArray
    reach: NDArray
    budget: float
    gamma: float

    def value(self, t: float) -> float:
        """The bound at eta = 1 + e^t and its best price."""
        eta = 1 + math.exp(t)
        return eta - math.exp(self.cheapest(np.log(eta - self.levels))[0] - self.gamma)

    def at(self, gains: NDArray, price: float) -> tuple[float, float]:
        """(value, slope) of -price R + sum_i f_i min_v (a_v + price C_iv)."""
        total = gains + price * self.reach if price else np.where(np.isinf(self.reach), np.inf, gains)
        rows, chosen = np.arange(len(self.f)), total.argmin(1)
        spent = float(self.f @ self.reach[rows, chosen])
        return float(self.f @ total[rows, chosen]) - price * self.budget, spent - self.budget

    def cheapest(self, gains: NDArray) -> tuple[float, float]:
        """The largest such value over price >= 0, and where it is attained.

        Concave and piecewise linear: the tangents on both sides of the maximum are cut, until they meet on the curve.
        """
        low, (value, slope) = 0.0, self.at(gains, 0.0)
        if slope <= 0:
            return value, 0.0
        high, (above, falling) = 1.0, self.at(gains, 1.0)
        while falling > 0 and high < 1e15:
            low, value, slope = high, above, falling
            high *= 8
            above, falling = self.at(gains, high)
        for _ in range(100):
            price = (above - value + slope * low - falling * high) / (slope - falling)
            peak = value + slope * (price - low)
            middle, tilt = self.at(gains, price)
            if middle >= peak - 1e-13 * max(1.0, abs(peak)):
                return middle, price
            if tilt > 0:
                low, value, slope = price, middle, tilt
            else:
                high, above, falling = price, middle, tilt
        return (value, low) if value > above else (above, high)


def _reach(losses: NDArray, cost: NDArray, power: float) -> tuple[NDArray, NDArray]:
    """The different losses [V], and the cheapest cost^p from each starting point to one of that loss [k, V]."""
    levels, which = np.unique(losses, return_inverse=True)
    reach = np.stack([cost[:, which == v].min(1) for v in range(len(levels))], axis=1)
    return levels, reach**power


def _check(f: NDArray, losses: NDArray, cost: NDArray, radius: float, gamma: float, power: float) -> None:
    k = len(f)
    if losses.shape != (k,) or cost.shape != (k, k) or k == 0:
        raise StackelbergError(
            f"a law on {k} points needs {k} losses and a {k} x {k} cost, got {losses.shape} and {cost.shape}"
        )
    if not (f >= 0).all() or not f.sum() > 0 or not np.isfinite(losses).all():
        raise StackelbergError("frequencies must be >= 0 and not all 0, and the losses finite; take a bounded loss")
    if not (cost >= 0).all() or np.diag(cost).any():
        raise StackelbergError("costs must be >= 0, and 0 from each point to itself")
    if not radius >= 0 or not gamma >= 0 or not power >= 1:
        raise StackelbergError(f"radius and gamma must be >= 0 and power >= 1, got {radius}, {gamma} and {power}")
