"""Stability: one example exchanged, two runs, and the difference is under the bound every time."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from stackelberg.bounds.stability import along, on_average, uniform_convex, uniform_nonconvex
from stackelberg.errors import StackelbergError


def slopes(w: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gradient in w of ln(1 + exp(-y w.x)), one run a row; L = 1 and beta = 1/4 for |x| = 1."""
    return -(y / (1 + np.exp(y * (w * x).sum(1))))[:, None] * x


def runs(x: NDArray[np.float64], y: NDArray[np.float64], orders: NDArray[np.int64], rate: float) -> NDArray[np.float64]:
    """SGD on many samples at once: x [R, N, d], y [R, N], orders [R, T] -> the last weights [R, d]."""
    w, rows = np.zeros((len(x), x.shape[2])), np.arange(len(x))
    for t in range(orders.shape[1]):
        w = w - rate * slopes(w, x[rows, orders[:, t]], y[rows, orders[:, t]])
    return w


def unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("rate", [0.05, 0.5, 4.0])
def test_one_example_exchanged_moves_the_network_less_than_the_bound_every_time(rate: float) -> None:
    """Whole passes see each example once: then the bound holds for every pair of runs, not only on average."""
    rng = np.random.default_rng(0)
    trials, n, passes = 2000, 12, 3
    x, y = unit(rng, trials, n, 4), rng.choice([-1.0, 1.0], (trials, n))
    x[::4] = x[::4, :1]  # a quarter of the trials with one direction, and the exchanged example against it
    y[::4] = 1.0
    other_x, other_y = x.copy(), y.copy()
    other_x[:, 0], other_y[:, 0] = unit(rng, trials, 4), -y[:, 0]
    other_x[::4, 0] = x[::4, 0]
    orders = np.concatenate([rng.permuted(np.tile(np.arange(n), (trials, 1)), axis=1) for _ in range(passes)], axis=1)
    apart = np.linalg.norm(runs(x, y, orders, rate) - runs(other_x, other_y, orders, rate), axis=1)
    bound = uniform_convex(1.0, rate * passes * n, n)  # L times the distance of the weights
    assert (apart <= bound).all()
    if rate < 1:
        assert apart.max() > 0.1 * bound  # a bound ten times too small would be caught


def noise_law(rng: np.random.Generator, trials: int, n: int, d: int) -> tuple[NDArray, NDArray]:
    """Examples along the axes of a large space with labels by coins: nothing can be learnt, all of the gap is real."""
    return np.eye(d)[rng.integers(0, d, (trials, n))], rng.choice([-1.0, 1.0], (trials, n))


def gap_of_noise(w: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The mean gap; the law's risk is exact: every axis with both labels equally likely."""
    law = (np.logaddexp(0, w) + np.logaddexp(0, -w)).mean() / 2
    return float(law - np.logaddexp(0, -y * np.einsum("rnd,rd->rn", x, w)).mean())


@pytest.mark.parametrize("rate", [0.05, 0.4, 1.0])
def test_the_gap_of_one_pass_is_under_the_bound_on_average(rate: float) -> None:
    rng = np.random.default_rng(1)
    n, d = 20, 200
    x, y = noise_law(rng, 1000, n, d)
    w = runs(x, y, np.tile(np.arange(n), (1000, 1)), rate)
    gap = gap_of_noise(w, x, y)
    bound = on_average(1.0, 0.25, rate, 0.5, 0.0, n, n)  # at 0 every gradient is 1/2 long, the risk the least there is
    assert 0 < gap <= bound
    assert gap > 0.1 * bound


def test_the_gap_of_many_passes_is_under_the_path_bound() -> None:
    rng = np.random.default_rng(2)
    n, d, passes, rate = 10, 100, 6, 0.3
    x, y = noise_law(rng, 1000, n, d)
    w, rows, gradients = np.zeros((1000, d)), np.arange(1000), []
    for t in range(n * passes):
        mean = np.mean([np.linalg.norm(slopes(w, x[:, i], y[:, i]), axis=1).mean() for i in range(n)])
        gradients.append(float(mean))
        w = w - rate * slopes(w, x[rows, t % n], y[rows, t % n])
    steps = n * passes
    bound = along(1.0, [rate] * steps, gradients, [1.0] * steps, n)[-1]
    gap = gap_of_noise(w, x, y)
    assert 0.1 * bound < gap <= bound
    assert bound < uniform_convex(1.0, rate * steps, n)


def test_the_non_convex_bound_is_the_best_of_its_proof() -> None:
    """t_0 / N + (2 L^2 / (beta (N - 1))) (T / t_0)^(beta c) over t_0, as in the proof; the closed form is near."""
    for lipschitz, smoothness, c, steps, n in ((1.0, 1.0, 1.0, 1000, 500), (2.0, 5.0, 0.1, 10**4, 10**4)):
        t0 = np.geomspace(1e-6, steps, 200_000)
        proof = (t0 / (n - 1) + 2 * lipschitz**2 / (smoothness * (n - 1)) * (steps / t0) ** (smoothness * c)).min()
        found = uniform_nonconvex(lipschitz, smoothness, c, steps, n)
        assert proof <= found * (1 + 1e-6)
        assert found <= proof * 1.01


def test_non_convex_runs_are_under_the_bound() -> None:
    """loss (1 + sin(w z)) / 2 with |z| <= 1: L = 1/2, beta = 1/2, values in [0, 1]; one example exchanged."""
    rng = np.random.default_rng(3)
    trials, n, steps, c = 4000, 10, 40, 1.0
    z = rng.uniform(-1, 1, (trials, n))
    other = z.copy()
    other[:, 0] = -z[:, 0]
    w, v, rows = np.zeros(trials), np.zeros(trials), np.arange(trials)
    for t in range(1, steps + 1):
        i = rng.integers(0, n, trials)
        a, b = z[rows, i], other[rows, i]
        w, v = w - c / t * np.cos(w * a) * a / 2, v - c / t * np.cos(v * b) * b / 2
    grid = np.linspace(-1, 1, 41)
    apart = np.abs(np.sin(w[:, None] * grid) - np.sin(v[:, None] * grid)).mean(0).max() / 2
    assert 0 < apart <= uniform_nonconvex(0.5, 0.5, c, steps, n)


def test_the_path_bound_by_hand_and_with_an_adversary() -> None:
    rates, gradients, stretches = [0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [1.0, 1.5, 2.0]
    by_hand = [
        2 * sum(rates[t] * gradients[t] * math.prod(stretches[t + 1 : last + 1]) for t in range(last + 1)) / 50
        for last in range(3)
    ]
    assert along(1.0, rates, gradients, stretches, 50) == pytest.approx(by_hand)
    kinked = along(2.0, rates, gradients, [1.0] * 3, 10**9, kink=0.5)
    assert kinked[-1] == pytest.approx(2.0 * 0.5 * sum(rates), rel=1e-6)  # what no N makes small
    assert along(1.0, [1.0] * 3000, [1.0] * 3000, [3.0] * 3000, 10)[-1] < math.inf
    plain, moved = (on_average(1.0, 0.25, 0.1, 0.5, 0.7, 10, 20, mixed=2.0, radius=r) for r in (0.0, 0.1))
    assert moved == pytest.approx(plain + 2 * 0.1 * 2.0 * 0.1 * 10)


def test_batches_count_as_the_examples_they_see() -> None:
    assert uniform_nonconvex(1.0, 0.0, 1.0, 10, 100, 8) == uniform_nonconvex(1.0, 0.0, 1.0, 80, 100)
    assert uniform_nonconvex(1.0, 2.0, 1.0, 10, 100, 8) == pytest.approx(uniform_nonconvex(1.0, 2.0, 1.0, 80, 100))
    assert uniform_nonconvex(1.0, 0.0, 1.0, 10, 100) > 2 * sum(1 / t for t in range(1, 11)) / 99  # no stretching
    assert uniform_nonconvex(0.0, 1.0, 1.0, 10, 100) == 0


def test_hypotheses_are_asked_for() -> None:
    with pytest.raises(StackelbergError, match="steps must be at most N = 10, one pass, got 11"):
        on_average(1.0, 1.0, 0.1, 1.0, 1.0, 11, 10)
    with pytest.raises(StackelbergError, match=r"rate must be at most 1 / beta = 0\.5, got 0\.6"):
        on_average(1.0, 2.0, 0.6, 1.0, 1.0, 5, 10)
    with pytest.raises(StackelbergError, match="got 0"):
        uniform_convex(1.0, 1.0, 0)
