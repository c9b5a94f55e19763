"""The worst re-weighing within a KL distance: against a cone program, and the laws it must obey."""

import itertools
import math
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stackelberg.errors import StackelbergError
from stackelberg.games import kl_worst_case


def value(losses: torch.Tensor, gamma: float) -> float:
    return float((kl_worst_case(losses, gamma) * losses).sum())


def divergence(q: torch.Tensor) -> float:
    """KL(uniform || q)."""
    return float(-(q * len(q)).log().mean())


@pytest.mark.parametrize("gamma", [0.001, 0.01, 0.1, 1.0, 2.0])
@pytest.mark.parametrize("n", [2, 7, 128])
def test_equals_the_cone_program(n: int, gamma: float) -> None:
    losses = np.random.default_rng(n).exponential(size=n)
    q = cp.Variable(n, nonneg=True)
    constraints: list[Any] = [cp.sum(q) == 1, cp.sum(cp.log(q)) / n >= -math.log(n) - gamma]
    problem = cp.Problem(cp.Maximize(losses @ q), constraints)
    problem.solve(solver="CLARABEL")
    ours = kl_worst_case(torch.from_numpy(losses), gamma)
    assert problem.value == pytest.approx(float(ours @ torch.from_numpy(losses)), rel=1e-6)
    assert np.abs(q.value - ours.numpy()).max() < 1e-4


@pytest.mark.parametrize("gamma", [0.01, 0.1, 1.0, 5.0])
def test_equals_its_dual(gamma: float) -> None:
    """min over eta >= max l of eta - exp(-gamma) exp(mean ln(eta - l)), by a fine grid."""
    losses = torch.from_numpy(np.random.default_rng(3).exponential(size=50))
    eta = losses.max() + torch.logspace(-8, 3, 200_001, dtype=torch.float64)
    dual = eta - math.exp(-gamma) * (eta[:, None] - losses).log().mean(1).exp()
    assert value(losses, gamma) == pytest.approx(float(dual.min()), abs=1e-6)


LOSSES = st.lists(st.floats(-50, 50), min_size=2, max_size=40)


@settings(deadline=None)
@given(LOSSES, st.floats(1e-4, 8))
def test_laws(values: list[float], gamma: float) -> None:
    """Sum 1, KL met with equality, free of shift and scale, order kept, larger payoffs never weigh less."""
    losses = torch.tensor(values, dtype=torch.float64)
    q = kl_worst_case(losses, gamma)
    assert float(q.sum()) == pytest.approx(1, abs=1e-12)
    order = losses.argsort()
    assert (q[order].diff() >= -1e-12).all()
    assert value(losses, gamma) <= float(losses.max()) + 1e-9
    assert value(losses, gamma) >= float(losses.mean()) - 1e-9
    if float(losses.max() - losses.min()) > 1e-6:
        assert divergence(q) == pytest.approx(gamma, abs=1e-8)
        assert torch.allclose(kl_worst_case(3 * losses + 7, gamma), q, atol=1e-7), "free of shift and scale"
    shuffled = torch.randperm(len(losses), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(kl_worst_case(losses[shuffled], gamma), q[shuffled], atol=1e-10)


def test_monotone_in_gamma_from_mean_to_maximum() -> None:
    losses = torch.from_numpy(np.random.default_rng(0).normal(size=64))
    values = [value(losses, gamma) for gamma in (0.0, 1e-8, 1e-3, 0.1, 1.0, 10.0, 100.0)]
    assert all(low <= high + 1e-12 for low, high in itertools.pairwise(values))
    assert values[0] == pytest.approx(float(losses.mean()))
    assert values[-1] == pytest.approx(float(losses.max()), abs=1e-9)


def test_small_gamma_pays_for_variance() -> None:
    """v = mean + sqrt(2 gamma var) to first order."""
    losses, gamma = torch.from_numpy(np.random.default_rng(1).normal(size=500)), 1e-6
    expected = float(losses.mean() + (2 * gamma * losses.var(correction=0)).sqrt())
    assert value(losses, gamma) == pytest.approx(expected, abs=1e-5)


def test_is_not_the_exponential_tilt() -> None:
    losses = torch.from_numpy(np.random.default_rng(2).exponential(size=128))
    q = kl_worst_case(losses, 0.1)
    exponents = torch.stack([losses, torch.ones_like(losses)], 1)
    fitted = exponents @ torch.linalg.lstsq(exponents, q.log()[:, None]).solution
    assert float((fitted[:, 0] - q.log()).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([2.0], [1.0]), ([3.0, 3.0, 3.0], [1 / 3] * 3), ([1e-320, 0.0], [0.5, 0.5])],
)
def test_nothing_to_weigh(losses: list[float], expected: list[float]) -> None:
    gamma = 0.1 if losses[0] != 1e-320 else 0.0
    assert kl_worst_case(torch.tensor(losses, dtype=torch.float64), gamma).tolist() == pytest.approx(expected)


def test_ties_at_the_top_share() -> None:
    q = kl_worst_case(torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64), 3.0)
    assert float(q[1]) == pytest.approx(float(q[2]))
    assert divergence(q) == pytest.approx(3.0, abs=1e-8)


def test_batched_games_and_no_gradient() -> None:
    losses = torch.rand(3, 20, dtype=torch.float64, requires_grad=True)
    q = kl_worst_case(losses, 0.2)
    assert not q.requires_grad
    for row, weights in zip(losses, q, strict=True):
        assert torch.equal(kl_worst_case(row, 0.2), weights) or (kl_worst_case(row, 0.2) - weights).abs().max() < 1e-9


def test_refuses_a_negative_gamma() -> None:
    with pytest.raises(StackelbergError, match=r"gamma must be a number >= 0 in nats, got -1"):
        kl_worst_case(torch.rand(4), -1.0)
