"""How sure is a measured rate?  Every reported rate carries its exact interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from scipy.special import bdtr, betaincinv, stdtrit  # scipy.stats would cost a second at import

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
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return Rate(hits / n, low, high, confidence, hits, n)


def mcnemar(only_a: int, only_b: int) -> float:
    """P-value of McNemar's exact test (1947) that two classifiers are equally good, judged on the same examples.

    Of the only_a + only_b examples on which just one of them is right, each is as likely to be either's: twice the
    smaller tail of a binomial distribution with p = 1/2, at most 1.

    >>> mcnemar(0, 10) == 2 * 0.5**10
    True
    """
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def half_interval(values: Sequence[float], confidence: float = 0.95) -> float:
    """Half the width of Student's t interval of the mean, for values that are near normal; 0 for one value alone.

    >>> round(half_interval([1.0, 2.0, 3.0]), 3)
    2.484
    """
    if len(values) < 2:
        return 0.0
    return float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stdev(values) / math.sqrt(len(values))
