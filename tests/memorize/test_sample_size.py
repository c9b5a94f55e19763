"""How many samples: the published values, and each formula against chance."""

import numpy as np
import pytest

from stackelberg.errors import StackelbergError
from stackelberg.memorize import sample_size


@pytest.mark.parametrize(
    ("width", "accuracy"), [(1, 0.524), (5, 0.567), (10, 0.617), (15, 0.698), (19, 0.904), (20, 1)]
)
def test_ball_and_shell_in_twenty_dimensions(width: int, accuracy: float) -> None:
    assert sample_size.ball_and_shell(20, width) == pytest.approx(accuracy, abs=5e-4)


def test_one_neuron_is_hopeless_from_47_dimensions_on() -> None:
    assert sample_size.first_hopeless_dimension(1) == 47
    assert sample_size.ball_and_shell(46, 1) > 0.51 >= sample_size.ball_and_shell(47, 1)


def test_ball_and_shell_by_simulation() -> None:
    """The best threshold rule on the norm of a projection, on two million draws."""
    chance, n, w, count = np.random.default_rng(0), 6, 3, 1_000_000
    norms = []
    for inner, outer in ((0, 1), (2, 3)):
        direction = chance.normal(size=(count, n))
        radius = chance.uniform(inner, outer, count) ** (1 / n)
        point = direction / np.linalg.norm(direction, axis=1, keepdims=True) * radius[:, None]
        norms.append(np.histogram(np.linalg.norm(point[:, :w], axis=1), bins=60, range=(0, 1.3))[0])
    best = np.maximum(*norms).sum() / (2 * count)
    assert sample_size.ball_and_shell(n, w) == pytest.approx(best, abs=2e-3)


def test_the_coverage_bound_is_kept_by_simulation() -> None:
    chance, error, delta = np.random.default_rng(0), 0.1, 0.2
    masses = chance.dirichlet(np.full(40, 0.5))
    n = sample_size.samples_enough(40, error, delta)
    for samples in (n // 8, n // 4, n):
        seen = chance.multinomial(samples, masses, size=2000) > 0
        unseen = (~seen * masses).sum(1)
        assert (unseen > error).mean() <= sample_size.failure(40, samples, error) + 1e-9
        assert unseen.mean() <= sample_size.expected_error(40, samples)
    assert (unseen > error).mean() <= sample_size.failure(40, n, error) <= delta


def test_no_learner_passes_the_unseen_labels() -> None:
    """One that knows what it saw and guesses the rest is exactly there, on average over labels."""
    chance, atoms = np.random.default_rng(0), 64
    for samples in (32, 64, 256):
        seen = chance.multinomial(samples, np.full(atoms, 1 / atoms), size=4000) > 0
        right = seen | (chance.random(seen.shape) < 0.5)
        assert right.mean() == pytest.approx(sample_size.unseen_labels(atoms, samples), abs=3e-3)
        assert seen.mean() == pytest.approx(sample_size.seen_share(atoms, samples), abs=3e-3)
    n = sample_size.samples_needed(atoms, 0.1)
    assert sample_size.unseen_labels(atoms, n) >= 0.9 > sample_size.unseen_labels(atoms, n - 1)
    assert sample_size.samples_needed(atoms, 0.6) == 0


def cells(x: np.ndarray, y: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The efficient network, written out (App. H of the paper): sum_i y_i relu(r - sum_j relu(-S_ij(x)))."""
    enemy = y[:, None] != y[None]
    far = ((x[:, None] - x[None]) ** 2).sum(2)
    r = 0.01 * far[enemy].min()
    away = ((queries[:, None] - x[None]) ** 2).sum(2)
    s = (away[:, None, :] - away[:, :, None]) / 2 - 0.01 * far[None]
    return (y * np.maximum(r - (np.maximum(-s, 0) * enemy).sum(2), 0)).sum(1)


def test_parity_of_six_bits_at_256_samples() -> None:
    chance = np.random.default_rng(1)
    corners = (np.arange(64)[:, None] >> np.arange(6)) & 1
    parity = 1 - 2 * (corners.sum(1) % 2)
    accuracies = []
    for _ in range(10):
        drawn = np.unique(chance.integers(0, 64, 256))
        accuracies.append((np.sign(cells(corners[drawn], parity[drawn], corners)) == parity).mean())
    assert np.mean(accuracies) == pytest.approx(sample_size.seen_share(64, 256), abs=0.01)
    assert sample_size.seen_share(64, 256) == pytest.approx(0.982, abs=5e-4)


def test_orders_and_bounds() -> None:
    assert sample_size.nearby_set(2, 1.0) == min(13**2, 5**2)
    assert sample_size.nearby_set(6, 6**0.5) >= 2  # never below the classes
    assert sample_size.order_needed(10, 1.0) == 2**20 / 100
    assert sample_size.order_needed(10, 1.5) == 2.0 ** (2 * 3) * 1.5**4 / 100
    low, high = sample_size.order_of_parameters(1000, 0.1, 0.05)
    assert low < 1000**2 < high
    with pytest.raises(StackelbergError, match=r"separation > 0 \(l2\), got 3 and 0.0"):
        sample_size.nearby_set(3, 0.0)
    with pytest.raises(StackelbergError, match="error and delta must lie in"):
        sample_size.samples_enough(10, 0.0, 0.1)
    with pytest.raises(StackelbergError, match="one half is reached in no dimension"):
        sample_size.first_hopeless_dimension(1, 0.5)
    with pytest.raises(StackelbergError, match="2 or more, got 1"):
        sample_size.order_of_parameters(1, 0.1, 0.1)
    with pytest.raises(StackelbergError, match="width and dimension must be 1 or more"):
        sample_size.ball_and_shell(3, 0)
