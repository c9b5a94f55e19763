"""Memorization as bounds: coupons whose unseen mass is exactly the error."""

import math

import numpy as np
import pytest
import torch
from trials import held_and_tight

from stackelberg import data
from stackelberg.bounds.memorized import by_balls, by_parameters, by_separation, efficient
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.memorize.sample_size import failure

DIGITS, TEST = data.load("digits", "train"), data.load("digits", "test")


@pytest.mark.parametrize("masses", [np.full(16, 1 / 16), np.arange(1, 17) / 136])
def test_the_error_of_what_was_seen_is_below_the_bound(masses: np.ndarray) -> None:
    n, trials, delta = 20, 4000, 0.05
    counts = np.random.default_rng(0).multinomial(n, masses, trials)
    truth = (counts == 0) @ masses  # a network right in the cells it saw, wrong elsewhere
    value = efficient(16, n, delta).value
    assert held_and_tight(truth, np.zeros(trials), lambda factor: np.full(trials, factor * value), delta)


def test_the_bound_is_the_theorems_or_better() -> None:
    for cells, n in ((16, 100), (1000, 10**5)):
        value = efficient(cells, n, 0.05).value
        assert value <= cells * math.log(cells / 0.05) / n
        if value < 1:
            assert failure(cells, n, value) == pytest.approx(0.05, rel=1e-3)
    assert efficient(1000, 10**6).kind == "theorem"


def test_hopeless_numbers_are_said() -> None:
    bound = efficient((10**6) ** 100, 60_000)
    assert bound.vacuous
    assert "10^" in bound.assumptions[1]
    digits = by_separation(DIGITS, n=300)
    assert (digits.vacuous, digits.kind) == (True, "estimate")
    assert "l2" in digits.assumptions[0]


def test_parameters_solve_the_theorems_equation() -> None:
    bound = by_parameters(100, 10**7, 0.05)
    eps = bound.value
    assert 100**2 * math.log(100 / (eps**2 * 0.05)) / eps**2 == pytest.approx(10**7, rel=1e-6)
    assert bound.kind == "estimate"
    assert by_parameters(10**5, 1000).vacuous


def test_balls_cover_what_is_near() -> None:
    chance = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (600,), generator=chance)
    x = (40 + 150 * y[:, None, None, None] + torch.randint(0, 4, (600, 1, 2, 2), generator=chance)).to(torch.uint8)
    two = Dataset(x, y, ["a", "b"], "two heaps")
    near = by_balls(two.take(slice(0, 300)), two.take(slice(300, 600)), asked=300)
    assert near.value < 0.02
    assert near.kind == "estimate"
    assert by_balls(DIGITS, TEST, n=200, asked=100).value > 0.5


def test_bad_input_is_named() -> None:
    with pytest.raises(StackelbergError, match="cells must be 1 or more, got 0"):
        efficient(0, 10)
    with pytest.raises(StackelbergError, match="delta"):
        efficient(4, 10, 1.0)
    with pytest.raises(StackelbergError, match="parameters must be 2 or more, got 1"):
        by_parameters(1, 10)
