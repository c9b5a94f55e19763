"""How sure is a measured rate?  Every reported rate carries its exact interval."""

from dataclasses import dataclass

from scipy.stats import beta

from stackelberg.errors import StackelbergError


@dataclass(frozen=True)
class Rate:
    """A share of `n` trials with its two-sided interval.

    Attributes:
        value: hits / n.
        low: lower end of the interval.
        high: upper end of the interval.
        confidence: coverage of [low, high], at least this.
        hits: how many.
        n: of how many.
    """

    value: float
    low: float
    high: float
    confidence: float
    hits: int
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> Rate:
    """The exact binomial interval of Clopper and Pearson (1934): coverage >= `confidence` for every true rate.

    >>> print(clopper_pearson(0, 100))
    0.0 % [0.0, 3.6]
    """
    if not 0 <= hits <= n or n < 1:
        raise StackelbergError(f"a rate needs 0 <= hits <= n and n >= 1, got hits={hits}, n={n}")
    if not 0 < confidence < 1:
        raise StackelbergError(f"confidence must lie in (0, 1), got {confidence}; for 95 % pass 0.95")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Rate(hits / n, low, high, confidence, hits, n)
