"""The worst loss off the sample and near a finite law: against a cone program, and by its limits."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from stackelberg.bounds.finite import worst_nearby
from stackelberg.bounds.off_sample import off_sample_worst_case
from stackelberg.errors import StackelbergError
from stackelberg.games import kl_worst_case

cp: Any = pytest.importorskip("cvxpy")


def by_cone(
    f: np.ndarray, losses: np.ndarray, cost: np.ndarray, radius: float, gamma: float, power: float = 1.0
) -> float:
    """max E_q l over plans from f to g and q with KL(g || q) <= gamma, <cost^p, plan> <= r^p."""
    k = len(f)
    plan, q = cp.Variable((k, k), nonneg=True), cp.Variable(k, nonneg=True)
    barred = np.isinf(cost)
    g = cp.sum(plan, axis=0)
    rules = [cp.sum(plan, axis=1) == f, cp.sum(q) == 1]
    rules.append(cp.sum(cp.rel_entr(g, q)) <= gamma if gamma else g == q)
    rules.append(cp.sum(cp.multiply(np.where(barred, 0, cost) ** power, plan)) <= radius**power)
    if barred.any():
        rules.append(plan[barred] == 0)
    return float(cp.Problem(cp.Maximize(q @ losses), rules).solve(solver=cp.CLARABEL))


@pytest.mark.parametrize("highest", [1.0, 1.5, 20.0])
@pytest.mark.parametrize("gamma", [0.01, 0.1, 1.0])
def test_off_the_sample_by_a_cone_program(highest: float, gamma: float) -> None:
    losses = torch.rand(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = off_sample_worst_case(losses, gamma, highest)
    values = np.append(losses.numpy(), highest)
    q = cp.Variable(13, nonneg=True)
    goal = cp.Problem(
        cp.Maximize(q @ values), [cp.sum(q) == 1, cp.sum(cp.rel_entr(np.full(12, 1 / 12), q[:12])) <= gamma]
    )
    assert found.value == pytest.approx(float(goal.solve(solver=cp.CLARABEL)), abs=1e-5 * highest)
    assert float(found.weights.sum()) + found.outside == pytest.approx(1, abs=1e-9)
    mean = float(found.weights @ losses) + found.outside * highest
    assert mean == pytest.approx(found.value, abs=1e-9)
    divergence = -float((found.weights * 12).log().mean())
    assert divergence == pytest.approx(gamma, abs=1e-8)
    on_sample = float((kl_worst_case(losses, gamma) * losses).sum())
    assert on_sample <= found.value + 1e-12
    assert (found.outside > 0) == (found.value > on_sample + 1e-9)


def test_off_the_sample_at_its_ends() -> None:
    losses = torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert off_sample_worst_case(losses, 0.0, 1.0).value == 0.25
    assert off_sample_worst_case(losses, 50.0, 1.0).value == pytest.approx(1, abs=1e-9)
    level = off_sample_worst_case(torch.ones(5), 0.1, 2.0)
    assert level.value == pytest.approx(2 - math.exp(-0.1))
    assert off_sample_worst_case(torch.full((5,), 2.0), 0.1, 2.0).value == 2.0
    exponential = torch.from_numpy(np.random.default_rng(0).exponential(size=128))
    known = [off_sample_worst_case(exponential, 0.1, l).value for l in (20.0, 200.0)]  # noqa: E741
    assert known[0] == pytest.approx(2.82, abs=0.3)
    assert known[1] == pytest.approx(19.9, abs=0.8)
    for wrong, words in ((math.inf, "needs a bounded loss"), (0.5, "at least every loss")):
        with pytest.raises(StackelbergError, match=words):
            off_sample_worst_case(losses, 0.1, wrong)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_near_a_finite_law_by_a_cone_program(power: float) -> None:
    chance = np.random.default_rng(7)
    for radius, gamma in ((0.0, 0.05), (0.05, 0.0), (0.1, 0.1), (0.3, 0.02), (0.02, 1.0)):
        places, f = chance.uniform(size=(7, 2)), chance.dirichlet(np.ones(7))
        cost = np.linalg.norm(places[:, None] - places[None], axis=2)
        label = np.arange(7) % 2
        cost[label[:, None] != label[None]] = np.inf
        losses = chance.uniform(size=7) if gamma != 0.1 else (chance.random(7) < 0.4).astype(float)
        found = worst_nearby(f, losses, cost, radius, gamma, power)
        truth = by_cone(f, losses, cost, radius, gamma, power)
        assert found.value == pytest.approx(truth, abs=3e-5)
        assert found.value >= truth - 2e-6  # errs above


def test_without_transport_it_is_the_weights_of_training() -> None:
    losses = np.random.default_rng(0).uniform(size=9)
    cost = np.where(np.eye(9) > 0, 0.0, np.inf)
    torch_losses = torch.from_numpy(losses)
    for gamma in (0.02, 0.4):
        found = worst_nearby(np.full(9, 1 / 9), losses, cost, 0.3, gamma)
        trained = float((kl_worst_case(torch_losses, gamma) * torch_losses).sum())
        assert found.value == pytest.approx(trained, abs=1e-6)
    free = worst_nearby(np.full(9, 1 / 9), losses, np.zeros((9, 9)), 0.0, 0.1)
    assert free.value == pytest.approx(losses.max())


def test_every_point_within_a_radius_moves_to_its_worst() -> None:
    places = np.arange(6.0)
    cost, losses = np.abs(places[:, None] - places[None]), np.array([0, 1, 0, 0, 0, 0.5])
    found = worst_nearby(np.full(6, 1 / 6), losses, cost, 1.0, 0.0, math.inf)
    assert found.value == pytest.approx(np.mean([1, 1, 1, 0, 0.5, 0.5]))
    assert worst_nearby(np.full(6, 1 / 6), losses, cost, 0.5, 0.0, math.inf).value == pytest.approx(losses.mean())
    with pytest.raises(StackelbergError, match="0 from each point to itself"):
        worst_nearby(np.full(6, 1 / 6), losses, cost + 1, 1.0, 0.0)
