"""Thousands of small trials in which the truth is known: how often does a bound fail, and would a wrong one be seen?"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stackelberg.threat import clopper_pearson

SURE = 0.9999
"""Confidence of a verdict: a right bound is called wrong once in ten thousand runs of a test."""


def fails_at_most(failures: int, trials: int, delta: float) -> bool:
    """Whether the failure rate can be delta or less: the lower end of its interval is."""
    return clopper_pearson(failures, trials, SURE).low <= delta


def surely_fails_more(failures: int, trials: int, delta: float) -> bool:
    """Whether the failure rate is above delta for sure."""
    return clopper_pearson(failures, trials, SURE).low > delta


def held_and_tight(
    truth: NDArray[np.float64], seen: NDArray[np.float64], bound: Callable[[float], NDArray[np.float64]], delta: float
) -> bool:
    """The bound holds as often as it says, and with a slack ten times too small it does not.

    Args:
        truth: the bounded quantity in each trial.
        seen: what the bound starts from; bound - seen is its slack.
        bound: of a factor of the slack, the bound in each trial.
        delta: how often it may fail.
    """
    right = int((truth > bound(1.0) + 1e-12).sum())
    wrong = int((truth > bound(0.1) + 1e-12).sum())
    assert (bound(1.0) >= seen - 1e-12).all()
    return fails_at_most(right, len(truth), delta) and surely_fails_more(wrong, len(truth), delta)
