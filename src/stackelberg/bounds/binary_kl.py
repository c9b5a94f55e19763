"""How far can a mean in [0, 1] be from what was seen?  The relative entropy of two coins, and its inverses."""

import math

from stackelberg.errors import StackelbergError


def binary_kl(p: float, q: float) -> float:
    """kl(p || q) = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)) in nats, of coins with p, q in [0, 1].

    >>> binary_kl(0.5, 0.5), binary_kl(0.5, 1.0)
    (0.0, inf)
    """
    if not (0 <= p <= 1 and 0 <= q <= 1):
        raise StackelbergError(f"binary_kl takes shares in [0, 1], got {p} and {q}")
    total = 0.0
    for a, b in ((p, q), (1 - p, 1 - q)):
        if a > 0:
            total += math.inf if b == 0 else a * math.log(a / b)
    return max(total, 0.0)


def upper_by_seen(seen: float, budget: float) -> float:
    """sup {u : kl(seen || u) <= budget}: the true mean, when `seen` was measured. Rounded up by 1e-12."""
    return _upper(seen, budget, lambda u: binary_kl(seen, u))


def upper_by_true(true: float, budget: float) -> float:
    """sup {u : kl(u || true) <= budget}: the mean after a change of measure of at most `budget` nats."""
    return 0.0 if true == 0 else _upper(true, budget, lambda u: binary_kl(u, true))


def chernoff_upper(mean: float, n: int, confidence: float) -> float:
    """The true mean of independent numbers in [0, 1] is at most this: kl(mean || true) <= ln(1 / delta) / n.

    Chernoff's bound in the form of Hoeffding (1963, theorem 1), one-sided, at any n.
    """
    if n < 1 or not 0 < confidence < 1:
        raise StackelbergError(f"n must be 1 or more and confidence in (0, 1), got {n} and {confidence}")
    return upper_by_seen(mean, math.log(1 / (1 - confidence)) / n)


def _upper(start: float, budget: float, divergence) -> float:
    if not budget >= 0:
        raise StackelbergError(f"a divergence's budget must be >= 0 nats, got {budget}")
    low, high = start, 1.0
    if divergence(high) <= budget:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if divergence(middle) <= budget else (low, middle)
    return min(1.0, high + 1e-12)
