"""Distances of laws: linear programs and brute force as second methods, upper ends by simulation."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from stackelberg.bounds.binary_kl import binary_kl, chernoff_upper, upper_by_seen, upper_by_true
from stackelberg.bounds.prokhorov import left_apart, levy_prokhorov, levy_prokhorov_upper
from stackelberg.bounds.transport import coupled, total_variation, wasserstein
from stackelberg.errors import StackelbergError
from stackelberg.threat import clopper_pearson

CHANCE = np.random.default_rng(0)


def transported(cost: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """min <cost, plan> by a linear program."""
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    found = linprog(cost.ravel(), A_eq=np.vstack((rows, columns)), b_eq=np.concatenate((a, b)), method="highs")
    return float(found.fun)


def prokhorov_by_sets(distance: np.ndarray) -> float:
    """LP by its definition: least s with P(A) <= Q(A^s) + s for every set A of points, over all candidate s."""
    n, m = distance.shape
    best = np.inf
    levels = {0.0, *distance.ravel().tolist()}
    for level in sorted(levels):  # between two distances A^s does not change
        near = distance <= level
        gaps = [
            len(chosen) / n - near[list(chosen)].any(0).sum() / m
            for size in range(1, n + 1)
            for chosen in itertools.combinations(range(n), size)
        ]
        best = min(best, max(level, *gaps))
    return best


@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 6), (6, 3)])
def test_levy_prokhorov_by_its_definition(n: int, m: int) -> None:
    chance = np.random.default_rng(n)
    for scale in (0.2, 0.7, 3.0):
        for _ in range(12):
            distance = np.abs(scale * chance.normal(size=(n, 1)) - scale * chance.normal(size=(1, m)))
            assert levy_prokhorov(distance) == pytest.approx(prokhorov_by_sets(distance), abs=1e-12)
            s = float(chance.uniform(0, scale))
            forgotten = transported((distance > s).astype(float), np.full(n, 1 / n), np.full(m, 1 / m))
            assert left_apart(distance, s) == pytest.approx(forgotten, abs=1e-9)


def test_levy_prokhorov_of_the_same_and_of_far_samples() -> None:
    x = np.random.default_rng(0).normal(size=(40, 1))
    assert levy_prokhorov(np.abs(x - x.T)) == 0
    assert levy_prokhorov(np.abs(x - x.T - 100)) == 1
    one_away = np.abs(x - np.vstack((x[1:], [[1e6]])).T)
    assert levy_prokhorov(one_away) == pytest.approx(1 / 40)  # one of 40 is forgotten
    with pytest.raises(StackelbergError, match=">= 0"):
        levy_prokhorov(np.array([[np.nan]]))


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_wasserstein_by_a_linear_program(power: float) -> None:
    distance = np.random.default_rng(3).uniform(size=(6, 9))
    found = wasserstein(distance, diameter=1.0, power=power)
    cost = transported(distance**power, np.full(6, 1 / 6), np.full(9, 1 / 9))
    assert found.value == pytest.approx(cost ** (1 / power), abs=1e-9)
    assert found.value < found.upper <= 1


def test_upper_ends_hold_and_are_not_idle() -> None:
    """Laws on three atoms with known distances; a tenth of the room for chance is caught."""
    p, q, places = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3]), np.array([0.0, 0.5, 1.0])
    true = transported(np.abs(places[:, None] - places[None]), p, q)  # .1
    tv = float(np.abs(p - q).sum()) / 2
    chance, trials, n = np.random.default_rng(0), 400, 60
    wrong = dict.fromkeys(("wasserstein", "tv", "coupled", "prokhorov", "small tv", "small coupled"), 0)
    for _ in range(trials):
        a, b = chance.choice(3, n, p=p), chance.choice(3, n, p=q)
        apart = np.abs(places[a][:, None] - places[b][None])
        wrong["wasserstein"] += wasserstein(apart, 1.0, confidence=0.8).upper < true
        moved = total_variation(a, b, 0.8)
        wrong["tv"] += moved.upper < tv
        wrong["small tv"] += moved.value + (moved.upper - moved.value) / 10 < tv
        pairs = (chance.random(n) < 0.1).astype(float)
        found = coupled(pairs, 1.0, confidence=0.8)
        wrong["coupled"] += found.upper < 0.1
        wrong["small coupled"] += found.value + (found.upper - found.value) / 10 < 0.1
    for _ in range(40):
        a, b = chance.choice(3, n, p=p), chance.choice(3, n, p=q)
        wrong["prokhorov"] += levy_prokhorov_upper(np.abs(places[a][:, None] - places[b][None]), 0.8) < 0.1
    for name in ("wasserstein", "tv", "coupled"):
        assert clopper_pearson(int(wrong[name]), trials).low <= 0.2, name
    assert wrong["prokhorov"] == 0  # LP of the two laws is .1: a tenth is forgotten
    assert clopper_pearson(int(wrong["small coupled"]), trials).low > 0.2
    assert clopper_pearson(int(wrong["small tv"]), trials).low > 0.1


def test_two_coins() -> None:
    assert binary_kl(0.3, 0.3) == 0
    assert binary_kl(0.0, 0.25) == pytest.approx(np.log(4 / 3))
    for p, budget in itertools.product((0.0, 0.1, 0.7), (0.01, 0.3)):
        u = upper_by_seen(p, budget)
        assert binary_kl(p, u) == pytest.approx(budget, abs=1e-9)
        if p:
            assert binary_kl(upper_by_true(p, budget), p) <= budget + 1e-9 or upper_by_true(p, budget) == 1
    assert upper_by_true(0.7, 5.0) == 1.0
    assert chernoff_upper(0.0, 100, 0.95) == pytest.approx(1 - 0.05 ** (1 / 100))
    with pytest.raises(StackelbergError, match=r"shares in \[0, 1\], got 2.0"):
        binary_kl(2.0, 0.5)


def test_a_missing_pot_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ot", None)
    with pytest.raises(StackelbergError, match=r"POT, which is not installed; install stackelberg\[convex\]"):
        wasserstein(np.zeros((1, 1)), 1.0)
    monkeypatch.undo()
    with pytest.raises(StackelbergError, match="pass the diameter of the whole space"):
        wasserstein(np.full((2, 2), 3.0), 1.0)
