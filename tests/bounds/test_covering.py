"""Nets and dimensions: against brute force on tiny sets, and against known sets."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from stackelberg.bounds.covering import NORMS, log_box_covering, net
from stackelberg.bounds.dimension import intrinsic_dimension, nearest_squares
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError


def covering_by_brute_force(distance: np.ndarray, delta: float) -> int:
    """The least number of points whose balls cover all."""
    near = distance <= delta
    for size in range(1, len(near) + 1):
        for centres in itertools.combinations(range(len(near)), size):
            if near[list(centres)].any(0).all():
                return size
    raise AssertionError


@pytest.mark.parametrize("norm", NORMS)
def test_a_net_brackets_the_covering_number_of_tiny_sets(norm: str) -> None:
    chance, order, strict = np.random.default_rng(0), {"linf": np.inf, "l2": 2, "l1": 1}[norm], 0
    for _ in range(60):
        x = chance.uniform(size=(9, 2))
        distance = np.linalg.norm(x[:, None] - x[None], ord=order, axis=2)
        greedy, delta = net(x, norm), float(chance.uniform(0.05, 0.8))
        least = covering_by_brute_force(distance, delta)
        low, high = greedy.covering(delta)
        assert low <= least <= high
        strict += high > least
    assert strict > 0  # greedy is not the least number: the lower end is needed


def test_a_net_covers_and_packs_at_every_scale() -> None:
    x = np.random.default_rng(1).normal(size=(300, 5))
    greedy = net(x, "l2", delta=0.5)
    assert (np.diff(greedy.radii) <= 1e-12).all()
    for delta in (0.6, 1.0, 2.0):
        chosen = x[greedy.order[: greedy.size(delta)]]
        apart = np.linalg.norm(x[:, None] - chosen[None], axis=2)
        between = np.linalg.norm(chosen[:, None] - chosen[None], axis=2) + 1e9 * np.eye(len(chosen))
        assert apart.min(1).max() <= delta < between.min()
    with pytest.raises(StackelbergError, match=r"reaches .*, not 0.01; raise `most`"):
        net(x, "l2", most=3).size(0.01)


def test_bytes_are_levels_over_255() -> None:
    x = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours, theirs = net(x, "linf"), net(x.double() / 255, "linf")
    assert ours.radii == pytest.approx(theirs.radii, abs=1e-12)


def test_the_box_is_covered_by_as_many() -> None:
    for d, norm in itertools.product((1, 2, 3), NORMS):
        delta = 0.3
        sides = math.ceil({"linf": 1, "l2": math.sqrt(d), "l1": d}[norm] / (2 * delta))
        centres = np.stack(np.meshgrid(*[(np.arange(sides) + 0.5) / sides] * d), -1).reshape(-1, d)
        x = np.random.default_rng(0).uniform(size=(500, d))
        order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
        assert np.linalg.norm(x[:, None] - centres[None], ord=order, axis=2).min(1).max() <= delta
        assert math.exp(log_box_covering(d, delta, norm)) == pytest.approx(len(centres))
    assert log_box_covering(784, 0.1, "linf", 10) == pytest.approx(math.log(10) + 784 * math.log(5))


@pytest.mark.parametrize("neighbours", [2, 6])
def test_dimension_of_known_sets(neighbours: int) -> None:
    """Cubes of dimension 1, 2, 5, turned into 20 dimensions."""
    chance = np.random.default_rng(0)
    for d in (1, 2, 5):
        turn = np.linalg.qr(chance.normal(size=(20, 20)))[0][:d]
        found = intrinsic_dimension(chance.uniform(size=(2000, d)) @ turn, neighbours)
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(d, rel=0.13)
        assert intrinsic_dimension(7.0 * chance.uniform(size=(2000, d)) @ turn, neighbours).value == pytest.approx(
            d, rel=0.13
        )


def test_the_interval_covers_a_line() -> None:
    """On a circle there is no border: two-NN's interval must hold the 1 nearly as often as it says."""
    chance, hits = np.random.default_rng(0), 0
    for _ in range(200):
        t = chance.uniform(0, 2 * np.pi, 400)
        found = intrinsic_dimension(np.stack((np.cos(t), np.sin(t)), 1))
        hits += found.low <= 1 <= found.high
    assert 150 <= hits <= 200  # neighbours are shared, so somewhat fewer than 190


def test_nearest_squares_by_brute_force_and_mends() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    square = ((x[:, None] - x[None]) ** 2).sum(2) + 1e9 * np.eye(50)
    assert nearest_squares(x, 4) == pytest.approx(np.sort(square, 1)[:, :4])
    with pytest.raises(StackelbergError, match="needs 4 different points, got 2"):
        intrinsic_dimension(np.array([[0.0], [1.0], [1.0]]))
    with pytest.raises(StackelbergError, match="equally far"):
        intrinsic_dimension(np.eye(6))


def test_mnist_has_about_a_dozen_dimensions(real_data: Callable[[str, str], Dataset]) -> None:
    found = intrinsic_dimension(real_data("mnist", "test").x[:1500].numpy(), 2)
    assert 8 < found.value < 16
