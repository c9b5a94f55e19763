"""Conformal sets: coverage by simulation, with and without shift; the rule that forgets the shift is caught."""

import math

import numpy as np
import pytest

from stackelberg.bounds import conformal
from stackelberg.bounds.density_ratio import density_ratio
from stackelberg.errors import StackelbergError
from stackelberg.threat import clopper_pearson


def test_coverage_without_shift() -> None:
    """4,000 draws of 19 calibration scores and a fresh one: exact to the interval; an alpha of a tenth is missed."""
    chance, trials, alpha = np.random.default_rng(0), 4000, 0.2
    missed = 0
    for _ in range(trials):
        rule = conformal.calibrate(chance.normal(size=19), alpha)
        missed += chance.normal() > rule.thresholds()[0]
    rate = clopper_pearson(int(missed), trials)
    assert rate.low <= alpha <= rate.high  # (n + 1)(1 - alpha) is whole: exactly alpha
    assert rate.low > alpha / 10
    assert conformal.calibrate(chance.normal(size=3), 0.2).thresholds()[0] == math.inf


def test_coverage_given_the_calibration() -> None:
    chance, wrong, small, trials = np.random.default_rng(0), 0, 0, 3000
    for _ in range(trials):
        rule = conformal.calibrate(chance.uniform(size=50), 0.1)
        miss = 1 - rule.thresholds()[0]  # of a uniform fresh score
        bound = rule.bound_given_calibration(0.9).value
        wrong += int(miss > bound)
        small += int(miss > 0.1 + (bound - 0.1) / 10)
    assert clopper_pearson(wrong, trials).low <= 0.1
    assert clopper_pearson(small, trials).low > 0.1


def shifted(chance: np.random.Generator, n: int, tilt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, score of the true label, dQ/dP): x uniform, tilted by exp(tilt x); scores spread with x."""
    u = chance.random(n)
    x = np.log1p(u * np.expm1(tilt)) / tilt if tilt else u
    return x, np.abs(chance.normal(size=n)) * (0.2 + 3 * x), 3.0 * np.exp(3.0 * x) / np.expm1(3.0)


def test_coverage_under_shift_with_known_and_estimated_ratios() -> None:
    chance, trials, alpha = np.random.default_rng(1), 3000, 0.2
    missed = dict.fromkeys(("weighted", "plain", "estimated"), 0)
    x_old, x_new = shifted(chance, 3000, 0.0)[0], shifted(chance, 3000, 3.0)[0]
    for _ in range(trials):
        _, score, weight = shifted(chance, 60, 0.0)
        _, its, its_weight = shifted(chance, 1, 3.0)
        rule = conformal.calibrate(score, alpha, weight)
        missed["weighted"] += int(its[0] > rule.thresholds(its_weight)[0])
        missed["plain"] += int(its[0] > conformal.calibrate(score, alpha).thresholds()[0])
    ratio = density_ratio(x_old[:, None], x_new[:, None], np.linspace(0, 1, 50)[:, None])
    truth = 3 * np.exp(3 * np.linspace(0, 1, 50)) / np.expm1(3)
    assert np.abs(ratio / truth - 1).max() < 0.25
    assert clopper_pearson(missed["weighted"], trials).low <= alpha
    assert missed["weighted"] / trials > alpha / 2  # and not by letting everything in
    assert clopper_pearson(missed["plain"], trials).low > alpha


def test_equal_weights_are_no_weights() -> None:
    chance = np.random.default_rng(0)
    scores, fresh = chance.normal(size=33), chance.normal(size=(5, 4))
    for alpha in (0.05, 0.25, 0.5):
        plain = conformal.calibrate(scores, alpha).sets(fresh)
        weighted = conformal.calibrate(scores, alpha, np.full(33, 2.0)).sets(fresh, np.full(5, 2.0))
        assert (plain == weighted).all()
    heavy = conformal.calibrate(scores, 0.25, np.full(33, 1.0)).thresholds(np.array([1e9]))
    assert heavy[0] == math.inf  # an input that calibration never saw


def test_scores() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    assert conformal.least_confident(p) == pytest.approx(1 - p)
    scores = conformal.cumulative(p, seed=1)
    u = np.random.default_rng(1).random((2, 1))
    assert scores[0] == pytest.approx(np.array([0, 0.5, 0.8]) + u[0] * p[0])
    assert conformal.of_labels(scores, np.array([1, 2])) == pytest.approx([0.5 + 0.3 * u[0, 0], 0.8 * u[1, 0]])


def test_bounds_and_bad_input() -> None:
    scores = np.linspace(0, 1, 30)
    assert conformal.calibrate(scores, 0.1).bound().value == 0.1
    guessed = conformal.calibrate(scores, 0.1, np.ones(30), estimated=True)
    assert guessed.bound().kind == "estimate"
    assert (guessed.bound(0.05).kind, guessed.bound(0.05).value) == ("theorem", pytest.approx(0.15))
    with pytest.raises(StackelbergError, match="every fresh input needs its weight"):
        guessed.thresholds()
    with pytest.raises(StackelbergError, match="without weights"):
        guessed.bound_given_calibration()
    with pytest.raises(StackelbergError, match=r"alpha in \(0, 1\), got 30 and 1.5"):
        conformal.calibrate(scores, 1.5)
