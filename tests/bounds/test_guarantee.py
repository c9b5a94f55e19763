"""SR-WDRO's guarantee: never violated where the truth is known, and the slide's wording refuted."""

import math
from math import comb

import numpy as np
import pytest

from stackelberg.bounds import guarantee
from stackelberg.bounds.finite import worst_nearby
from stackelberg.errors import StackelbergError
from stackelberg.threat import clopper_pearson


def divergences(n: int, p: np.ndarray, trials: int, seed: int = 0) -> np.ndarray:
    """KL(D_N || D) of many samples."""
    shares = np.random.default_rng(seed).multinomial(n, p, size=trials) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(shares > 0, shares * np.log(shares / p), 0).sum(1)


@pytest.mark.parametrize("by", ["types", "moments"])
def test_failures_are_no_more_frequent_than_said(by: str) -> None:
    """20,000 samples of several laws; a gamma 10 times too small is caught by the same rule."""
    caught, trials = 0, 20_000
    for k, n in ((2, 30), (3, 50), (5, 100), (20, 60)):
        for p in (
            np.full(k, 1 / k),
            0.9 ** np.arange(k) / (0.9 ** np.arange(k)).sum(),
            np.eye(1, k)[0] * 0.9 + 0.1 / k,
        ):
            found = divergences(n, p, trials)
            for confidence in (0.5, 0.9):
                gamma = guarantee.gamma_needed(n, k, confidence, by)
                hits = int((found > gamma).sum())
                assert clopper_pearson(hits, trials).low <= 1 - confidence
                caught += clopper_pearson(int((found > gamma / 10).sum()), trials).low > 1 - confidence
    assert caught >= 16  # of 24


def test_the_numbers_of_the_notes() -> None:
    """Coverage .990 of D in U at k=3, N=50, gamma=.05, where P(KL > gamma) = .096; and the formulas."""
    found = divergences(50, np.full(3, 1 / 3), 50_000)
    assert float((found > 0.05).mean()) == pytest.approx(0.09, abs=0.02)
    assert guarantee.finite_failure(50, 3, 0.25, "types") == pytest.approx(math.exp(-12.5) * comb(52, 2))
    assert guarantee.finite_failure(50, 1, 0.1) == 0
    assert guarantee.finite_failure(50, 3, 0.01) == 1
    for by in ("types", "moments"):
        gamma = guarantee.gamma_needed(1000, 10, 0.95, by)
        assert guarantee.finite_failure(1000, 10, gamma, by) == pytest.approx(0.05, rel=1e-6)
        n = guarantee.samples_needed(10, gamma, 0.95, by)
        assert abs(n - 1000) <= 1
    assert guarantee.gamma_needed(1000, 10, 0.95) < guarantee.gamma_needed(1000, 10, 0.95, "types")
    delta = guarantee.ball_of_measures(0.1, 1.0)
    assert delta == pytest.approx(0.0025)
    needed = guarantee.log_samples_needed(0.95, 0.1, math.log(3), delta)
    assert 10**needed == pytest.approx((3 * math.log(4 / delta) + math.log(20)) / 0.1)
    assert guarantee.log_failure(round(10**needed) + 1, 0.1, math.log(3), delta) <= math.log(0.05)


def world(chance: np.random.Generator, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(law, losses, distances) on k points of the unit square, two labels between which nothing moves."""
    places = chance.uniform(size=(k, 2))
    cost = np.linalg.norm(places[:, None] - places[None], axis=2)
    label = np.arange(k) % 2
    cost[label[:, None] != label[None]] = np.inf
    return chance.dirichlet(np.ones(k)), chance.choice([0.0, 0.2, 1.0], k), cost


@pytest.mark.parametrize("power", [1.0, 2.0, math.inf])
def test_shifted_laws_are_never_worse_than_the_bound(power: float) -> None:
    """Random worlds, samples and shifts; the frequency of violations is at most 1 - confidence."""
    chance, wrong, trials, n, confidence = np.random.default_rng(5), 0, 300, 40, 0.8
    for _ in range(trials):
        k = int(chance.integers(3, 7))
        law, losses, cost = world(chance, k)
        kernel = np.where(np.isfinite(cost), chance.gamma(0.2, size=(k, k)) + 3 * np.eye(k), 0)
        if math.isinf(power):
            kernel *= cost <= 0.4
        kernel /= kernel.sum(1, keepdims=True)
        shifted, flow = law @ kernel, law[:, None] * kernel
        finite = np.where(np.isfinite(cost), cost, 0.0)
        sigma = 0.4 if math.isinf(power) else float((flow * finite**power).sum()) ** (1 / power)
        diameter = float(finite.max())
        gamma = guarantee.gamma_needed(n, k, confidence)
        seen = chance.multinomial(n, law) / n
        radius = guarantee.carried(sigma, gamma, diameter, power)
        bound = worst_nearby(seen, losses, cost, radius, gamma, power).value
        wrong += float(shifted @ losses) > bound + 1e-9
    assert clopper_pearson(wrong, trials).high <= 1 - confidence


def test_without_a_shift_a_gamma_ten_times_too_small_is_caught() -> None:
    """No transport: thousands of samples of one law, worst loss by weights alone."""
    law, losses, cost = np.array([0.7, 0.2, 0.1]), np.array([0.0, 0.0, 1.0]), np.where(np.eye(3) > 0, 0.0, np.inf)
    n, confidence, trials = 60, 0.9, 2000
    gamma, counts = guarantee.gamma_needed(60, 3, 0.9), np.random.default_rng(0).multinomial(n, law, size=trials)
    kinds, times = np.unique(counts, axis=0, return_counts=True)
    wrong = {1.0: 0, 100.0: 0}
    for kind, many in zip(kinds, times, strict=True):
        for part in wrong:
            wrong[part] += int(many) * (worst_nearby(kind / n, losses, cost, 0.0, gamma / part).value < 0.1 - 1e-9)
    assert clopper_pearson(wrong[1.0], trials).high <= 1 - confidence
    assert clopper_pearson(wrong[100.0], trials).low > 1 - confidence


def test_a_mean_distance_of_sigma_is_not_enough() -> None:
    """The slide's step to eps + sigma fails for finite p: the sample gives an atom more than the law does.

    Z = {0, 1, 2}; the law (1-a, a, 0) moves to (1-a, 0, a), W_1 = a. The loss is smallest on 1.
    """
    a, n, gamma = 0.3, 1000, 0.05
    cost = np.abs(np.arange(3.0)[:, None] - np.arange(3.0)[None])
    losses, true = np.array([1.0, 0.0, 1.0]), 1.0
    chance, plain, mended, trials = np.random.default_rng(0), 0, 0, 150
    for _ in range(trials):
        b = chance.binomial(n, a) / n
        seen = np.array([1 - b, b, 0.0])
        plain += worst_nearby(seen, losses, cost, a, gamma).value < true - 1e-6
        radius = guarantee.carried(a, gamma, 2.0)
        mended += worst_nearby(seen, losses, cost, radius, gamma).value < true - 1e-6
    said = guarantee.finite_failure(n, 3, gamma)
    assert clopper_pearson(plain, trials).low > 0.25 > 100 * said
    assert clopper_pearson(mended, trials).low <= said
    assert guarantee.carried(a, gamma, 2.0, math.inf) == a
    assert a < guarantee.carried(a, gamma, 2.0) < guarantee.carried(a, 2 * gamma, 2.0)


def test_the_bounds_say_what_is_missing() -> None:
    bound = guarantee.on_finite_space(0.3, 5000, 20, 0.01, 1.0, "fog")
    assert (bound.vacuous, bound.kind, bound.value) == (False, "theorem", 0.3)
    assert bound.confidence == pytest.approx(1 - guarantee.finite_failure(5000, 20, 0.01))
    few = guarantee.on_finite_space(0.3, 100, 20, 0.01, 1.0, "fog")
    assert few.vacuous
    assert math.isinf(few.value)
    needed = guarantee.samples_needed(20, 0.01, 0.95)
    assert f"N = {needed:,}" in few.assumptions[0]
    assert guarantee.on_finite_space(1.0, 5000, 20, 0.01, 1.0, "fog").vacuous
    wide = guarantee.in_general(0.3, 60_000, 0.1, 784 * math.log(10), 1e-4, 1.0, "fog")
    assert wide.vacuous
    assert "needs N of about 10^786," in str(wide.assumptions)
    enough = guarantee.in_general(0.3, 10**6, 0.1, math.log(50), 1e-4, 1.0, "fog", estimate="sigma was guessed")
    assert (enough.vacuous, enough.kind) == (False, "estimate")
    with pytest.raises(StackelbergError, match="sigma must lie in"):
        guarantee.carried(2.0, 0.1, 1.0)
