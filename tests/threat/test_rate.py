"""Intervals: the ends of Clopper and Pearson's against exact sums of binomial probabilities."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackelberg.errors import StackelbergError
from stackelberg.threat import clopper_pearson, mcnemar


def tail(n: int, p: float, least: int, most: int) -> float:
    """P(least <= X <= most) for X ~ Binomial(n, p), summed exactly."""
    share = Fraction(p)
    return float(sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(least, most + 1)))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 60), data=st.data(), confidence=st.sampled_from([0.8, 0.95, 0.999]))
def test_each_end_leaves_half_of_the_rest(n, data, confidence):
    hits = data.draw(st.integers(0, n))
    rate = clopper_pearson(hits, n, confidence)
    assert rate.low <= rate.value <= rate.high
    half = (1 - confidence) / 2
    if hits > 0:
        assert tail(n, rate.low, hits, n) == pytest.approx(half, rel=1e-6)
    if hits < n:
        assert tail(n, rate.high, 0, hits) == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.97])
def test_coverage_is_at_least_the_confidence(p):
    n = 40
    covered = sum(
        math.comb(n, k) * p**k * (1 - p) ** (n - k)
        for k in range(n + 1)
        if (r := clopper_pearson(k, n)).low <= p <= r.high
    )
    assert covered >= 0.95


def test_the_ends_are_exact():
    assert clopper_pearson(0, 10).low == 0
    assert clopper_pearson(10, 10).high == 1
    assert str(clopper_pearson(0, 100)) == "0.0 % [0.0, 3.6]"


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 200), data=st.data())
def test_counting_the_failures_mirrors_the_interval(n, data):
    hits = data.draw(st.integers(0, n))
    rate, mirror = clopper_pearson(hits, n), clopper_pearson(n - hits, n)
    assert rate.low == pytest.approx(1 - mirror.high, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(a=st.integers(0, 40), b=st.integers(0, 40))
def test_mcnemar_counts_all_splits_at_least_as_uneven(a, b):
    n = a + b
    as_uneven = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(a - b))
    assert mcnemar(a, b) == pytest.approx(min(1.0, as_uneven / 2**n))
    assert mcnemar(a, b) == mcnemar(b, a)


@pytest.mark.parametrize("arguments", [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(arguments):
    with pytest.raises(StackelbergError, match="a rate needs 0 <= hits <= n"):
        clopper_pearson(*arguments)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(StackelbergError, match="confidence must lie in"):
        clopper_pearson(1, 2, confidence)
