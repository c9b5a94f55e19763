"""Hold-out: never violated more often than it says, and exact where it can be computed by hand."""

import numpy as np
import pytest
from scipy.stats import binom
from trials import held_and_tight

from stackelberg.bounds import hold_out, robust_hold_out
from stackelberg.bounds.hold_out import upper_rate
from stackelberg.errors import StackelbergError


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.4])
@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_the_error_is_below_the_bound_as_often_as_it_says(rate: float, delta: float) -> None:
    n, trials = 300, 20_000
    hits = np.random.default_rng(0).binomial(n, rate, trials)
    upper = np.array([upper_rate(k, n, delta) for k in range(n + 1)])[hits]
    seen = hits / n
    assert held_and_tight(np.full(trials, rate), seen, lambda factor: seen + factor * (upper - seen), delta)


@pytest.mark.parametrize(("hits", "n", "delta"), [(0, 10, 0.05), (3, 50, 0.01), (49, 50, 0.5), (7, 9, 0.9)])
def test_the_bound_is_the_rate_at_which_so_few_hits_have_the_chance_delta(hits: int, n: int, delta: float) -> None:
    assert binom.cdf(hits, n, upper_rate(hits, n, delta)) == pytest.approx(delta)


def test_all_wrong_says_nothing() -> None:
    bound = hold_out(5, 5)
    assert (bound.value, bound.vacuous, bound.kind) == (1.0, True, "theorem")
    assert not hold_out(1, 100).vacuous


def test_only_the_certified_end_of_the_bracket_is_a_theorem() -> None:
    certified, attacked = robust_hold_out("linf 0.1", 100, not_proved=40, broken=30, delta=0.05)
    assert certified.kind == "theorem"
    assert attacked.kind == "estimate"
    assert attacked.value < certified.value == upper_rate(40, 100, 0.05)
    assert "stronger" in " ".join(attacked.assumptions)
    assert len(robust_hold_out("linf 0.1", 100, 40, None)) == 1


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, float("nan")])
def test_a_chance_outside_the_unit_interval(delta: float) -> None:
    with pytest.raises(StackelbergError, match=r"delta, the chance that a bound fails, must lie in \(0, 1\), got"):
        hold_out(1, 10, delta)


def test_counts_that_are_none() -> None:
    with pytest.raises(StackelbergError, match="needs 1 or more examples, got 0"):
        hold_out(0, 0)
    with pytest.raises(StackelbergError, match="hits must lie between 0 and n = 3, got 4"):
        hold_out(4, 3)
