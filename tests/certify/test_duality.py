"""The second opinion on branch and bound: right where the exact minimum says so, and its solver is not believed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, linprog
from torch import nn

from stackelberg.certify import crown, duality, zonotope
from stackelberg.certify.checking import judge_robustness
from stackelberg.certify.claiming import claims
from stackelberg.certify.document import DataSource, ModelSource, Robustness, Threat
from stackelberg.certify.duality import Polytope, dual
from stackelberg.certify.milp import exact
from stackelberg.threat import Ball

NEVER = float("inf")


def example(seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(4, 10), nn.Linear(10, 10), nn.Linear(10, 3)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=1.5 / layer.in_features**0.5)
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()
    x = torch.rand(1, 4, generator=torch.Generator().manual_seed(seed))
    return net, x, net(x).argmax(1)


@pytest.mark.parametrize(("seed", "radius"), [(0, 0.08), (0, 0.12), (0, 0.18), (2, 0.05), (2, 0.08), (3, 0.08)])
def test_it_proves_what_is_true_and_nothing_else(seed: int, radius: float) -> None:
    net, x, y = example(seed)
    ball = Ball("linf", radius)
    truth, found = exact(net, x, y, ball)[0], dual(net, x, y, ball)
    assert found.margin <= truth.margin + 2e-5
    assert bool(found.certified) == bool(truth.certified)


def test_through_convolutions_and_residual_sums(residual_net) -> None:
    net, x = residual_net[0], residual_net[1][:1]
    y, ball = net(x).argmax(1), Ball("linf", 0.01)
    truth, found = exact(net, x, y, ball)[0], dual(net, x, y, ball)
    assert found.margin <= truth.margin + 2e-5
    assert bool(found.certified) == bool(truth.certified)


def document(radius: float, made: tuple) -> Robustness:
    return Robustness(
        stackelberg="0", created="", model=ModelSource(source="", parameters=1, weights=""),
        data=DataSource(source="", split="", size=1), method="complete",
        threat=Threat.model_validate(vars(Ball("linf", radius))), claims=made,
    )  # fmt: skip


def test_check_settles_a_claim_of_branch_and_bound_that_zonotopes_leave_open() -> None:
    net, x, y = example(0)
    ball = Ball("linf", 0.18)
    assert not zonotope(net, x, y, ball).certified
    assert not crown(net, x, y, ball).certified
    made = claims(net, x, y, (0,), ball, "complete")
    judged = judge_robustness(document(0.18, made), made[0], net, x, y, 30.0)
    assert (judged.outcome, judged.by) == ("confirmed", "dual")


def test_check_never_confirms_a_radius_above_the_true_one() -> None:
    net, x, y = example(2)
    made = claims(net, x, y, (0,), Ball("linf", 0.05), "complete")
    assert made[0].verdict == "proved"
    assert exact(net, x, y, Ball("linf", 0.08))[0].margin < 0
    lied = made[0].model_copy(update={"margin": 1e-6})
    assert judge_robustness(document(0.08, made), lied, net, x, y, 10.0).outcome != "confirmed"


def polytope(seed: int, shift: float) -> tuple[Polytope, np.ndarray]:
    draw = np.random.default_rng(seed)
    body, middle = draw.normal(size=(5, 4)), draw.uniform(-1, 1, 4)
    least = np.where(np.arange(5) % 2, body @ middle + shift, -np.inf)
    most = np.where(np.arange(5) % 2, np.inf, body @ middle)
    least[4] = most[4]  # an equation
    demands = LinearConstraint(body, least, most)  # pyright: ignore[reportArgumentType]  # arrays are taken
    return Polytope.of(demands, -np.ones(4), np.ones(4)), draw.normal(size=4)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_bounds_by_weak_duality_reach_the_minimum_and_no_multipliers_exceed_it(seed: int) -> None:
    part, cost = polytope(seed, 0.0)
    truth = linprog(cost, part.matrix, part.limits, bounds=(-1, 1)).fun
    assert truth - 1e-6 <= part.minimum(cost, NEVER).bound <= truth + 1e-9
    wild = SimpleNamespace(ineqlin=SimpleNamespace(marginals=np.random.default_rng(seed).normal(size=6)), x=cost)
    assert part._judged(cost, wild).bound <= truth + 1e-9


def test_an_empty_part_is_shown_empty_and_a_solver_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    part, cost = polytope(3, 0.0)
    empty = replace(part, limits=part.limits - 20)
    assert empty.minimum(cost, NEVER).bound == np.inf

    def lies(*args, **options):
        return SimpleNamespace(status=2, x=None, ineqlin=SimpleNamespace(marginals=None))

    monkeypatch.setattr(duality, "linprog", lies)
    assert part.minimum(cost, NEVER).bound == -np.inf
