"""Convex games: the closed-form payoff is the sup, and what is returned is a Nash equilibrium."""

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.games import ConvexGame, is_equilibrium, kl_worst_case, nash
from stackelberg.games.convex import margins, signs, size
from stackelberg.games.saddle import Distribution, best_loss

NORMS = ("linf", "l2", "l1")
SLOPES = torch.tensor([0.4, -0.5, -0.7, -1.3, -1.5], dtype=torch.float64)


def overlapping(n: int = 120, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal points in 5 dimensions with logistic labels: no plane separates the classes."""
    chance = np.random.default_rng(seed)
    x = torch.from_numpy(chance.normal(size=(n, 5)))
    return x, (x @ SLOPES + torch.from_numpy(chance.logistic(size=n)) > 0).long()


X, Y = overlapping()
CASES = list(itertools.product(("ball", "budget", "price"), ("logistic", "hinge"), NORMS, (0.0, 0.1), (None, 0.3)))

FORMS_NORMS_GAMMAS = list(itertools.product(("ball", "budget", "price"), NORMS, (0.0, 0.1)))


def radius_of(form: str) -> float:
    return 0.8 if form == "price" else 0.1


@pytest.mark.parametrize(("form", "loss", "norm", "gamma", "box"), CASES)
def test_neither_player_gains_by_leaving(form: Any, loss: Any, norm: str, gamma: float, box: float | None) -> None:
    """The programs agree to 1e-6, and the third computation finds no better answer for either player."""
    game = ConvexGame(loss, norm, radius_of(form), gamma, form, box)
    found = nash(game, X, Y)
    assert abs(found.gap) <= 1e-6
    assert -1e-9 <= found.learner_regret <= 1e-6
    assert -1e-9 <= found.adversary_regret <= 1e-6
    assert found.upper - found.lower == pytest.approx(found.learner_regret + found.adversary_regret, abs=1e-12)
    assert is_equilibrium(found)
    assert found.lower - 1e-6 <= found.primal <= found.upper + 1e-6


@pytest.mark.parametrize(("form", "norm", "gamma"), FORMS_NORMS_GAMMAS)
def test_the_worst_distribution_is_one_the_adversary_may_play(form: Any, norm: str, gamma: float) -> None:
    game = ConvexGame("logistic", norm, radius_of(form), gamma, form)
    worst = nash(game, X, Y).worst
    assert float(worst.weight.sum()) == pytest.approx(1, abs=1e-12)
    by_origin = torch.zeros(len(X), dtype=torch.float64).index_add(0, worst.origin, worst.weight)
    assert float(-(by_origin * len(X)).log().mean()) == pytest.approx(worst.divergence, abs=1e-9)
    assert worst.divergence <= gamma + 1e-12
    assert torch.equal(worst.y, Y[worst.origin])
    moved = torch.stack([size(delta, norm) for delta in worst.x - X[worst.origin]])
    mean = float((worst.weight * moved).sum())
    assert mean == pytest.approx(worst.distance, rel=1e-6)
    if form == "ball":
        assert float(moved.max()) <= game.radius + 1e-9
    if form == "budget":
        assert mean <= game.radius * (1 + 1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_no_random_move_or_weight_beats_the_closed_form(norm: str) -> None:
    """In the ball: 300 random answers of the adversary, on the sphere and in the KL ball, never pay more than value."""
    game, gamma = ConvexGame("logistic", norm, 0.2, 0.1), 0.1
    theta = torch.cat([SLOPES, torch.tensor([0.1], dtype=torch.float64)])
    chance = torch.Generator().manual_seed(0)
    best = -math.inf
    for sharp in torch.linspace(0, 1, 300, dtype=torch.float64):
        delta = torch.randn(len(X), 5, generator=chance, dtype=torch.float64)
        delta = (1 - sharp) * delta - sharp * 5 * signs(Y)[:, None] * SLOPES.sign()
        delta = delta / torch.stack([size(row, norm) for row in delta])[:, None] * game.radius
        losses = game.losses(margins(theta, X + delta, Y))
        best = max(best, float((kl_worst_case(losses, gamma) * losses).sum()))
    value = game.value(theta, X, Y)
    assert best <= value + 1e-9
    assert best > value - 0.2 * (value - float(game.losses(margins(theta, X, Y)).mean()))


def test_a_move_along_the_steepest_direction_pays_the_closed_form() -> None:
    theta = torch.cat([SLOPES, torch.tensor([0.1], dtype=torch.float64)])
    along = {
        "linf": SLOPES.sign(),
        "l2": SLOPES / SLOPES.norm(),
        "l1": torch.eye(5, dtype=torch.float64)[4] * SLOPES[4].sign(),
    }
    for norm, direction in along.items():
        game = ConvexGame("hinge", norm, 0.3)
        moved = X - 0.3 * signs(Y).double()[:, None] * direction
        assert torch.allclose(game.losses(margins(theta, moved, Y)), game.payoffs(theta, X, Y), atol=1e-12)


def test_a_wrong_strategy_is_not_taken_for_an_equilibrium() -> None:
    """The check can fail: a learner or an adversary beside the equilibrium shows its regret."""
    game = ConvexGame("logistic", "linf", 0.1, 0.1)
    found = nash(game, X, Y)
    assert game.value(found.theta * 1.1, X, Y) > found.upper + 1e-4
    still = Distribution(X, Y, torch.full((len(X),), 1 / len(X), dtype=torch.float64), torch.arange(len(X)), 0.0, 0.0)
    assert best_loss(game, still, found.theta) < found.lower - 1e-2


def test_the_leader_moves_first_or_second_it_is_the_same() -> None:
    """min max = max min: no theta among many has a lower sup, no distribution among many a higher least loss."""
    game = ConvexGame("hinge", "l2", 0.1, 0.1)
    found = nash(game, X, Y)
    chance = torch.Generator().manual_seed(1)
    for _ in range(50):
        other = found.theta + 0.2 * torch.randn(6, generator=chance, dtype=torch.float64)
        assert game.value(other, X, Y) >= found.primal - 1e-7
    for _ in range(10):
        direction = torch.randn(5, generator=chance, dtype=torch.float64)
        weights = kl_worst_case(torch.rand(len(X), generator=chance, dtype=torch.float64), 0.1)
        moved = X - 0.1 * signs(Y).double()[:, None] * direction / direction.norm()
        played = Distribution(moved, Y, weights, torch.arange(len(X)), 0.1, 0.1)
        assert best_loss(game, played, found.theta) <= found.dual + 1e-7


@pytest.mark.parametrize("norm", NORMS)
def test_a_budget_is_a_price_at_the_right_price(norm: str) -> None:
    """Where the learner's program for a budget has dual norm p, the price p asks for that budget."""
    budget = nash(ConvexGame("logistic", norm, 0.05, 0.0, "budget"), X, Y)
    price = float(size(budget.theta[:-1], {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]))
    priced = nash(ConvexGame("logistic", norm, price, 0.0, "price"), X, Y)
    assert torch.allclose(priced.theta, budget.theta, atol=1e-3)
    assert priced.worst.distance == pytest.approx(0.05, abs=1e-3)


def test_no_radius_is_the_plain_fit_and_gamma_only_adds() -> None:
    plain = nash(ConvexGame("logistic", "linf", 0.0), X, Y)
    still = Distribution(X, Y, torch.full((len(X),), 1 / len(X), dtype=torch.float64), torch.arange(len(X)), 0.0, 0.0)
    assert plain.primal == pytest.approx(best_loss(ConvexGame(), still, plain.theta), abs=1e-8)
    values = [nash(ConvexGame("logistic", "linf", 0.1, gamma), X, Y).primal for gamma in (0.0, 0.01, 0.1, 0.3)]
    assert values == sorted(values)
    assert values[0] < values[-1] - 0.01


def test_separable_classes_need_a_box() -> None:
    """Without it the least logistic loss is 0 and nobody reaches it; with it there is an equilibrium."""
    x, y = (
        torch.tensor([[-1.0, 0.0], [1.0, 0.5], [-2.0, 1.0], [2.0, 0.0]], dtype=torch.float64),
        torch.tensor([0, 1] * 2),
    )
    boxed = nash(ConvexGame("logistic", "linf", 0.1, 0.0, "ball", 2.0), x, y)
    assert is_equilibrium(boxed)
    assert float(boxed.theta.abs().max()) <= 2.0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"loss": "logistics"}, r"unknown loss 'logistics': did you mean 'logistic'"),
        ({"norm": "l0"}, r"unknown norm 'l0'"),
        ({"form": "bal"}, r"unknown form 'bal': did you mean 'ball'"),
        ({"radius": -1.0}, r"radius must be a number >= 0, got -1.0"),
        ({"gamma": math.nan}, r"gamma must be a number >= 0, got nan"),
        ({"parameter_box": 0.0}, r"parameter_box must be > 0, got 0.0"),
    ],
)
def test_bad_fields(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        ConvexGame(**fields)


def test_one_class_and_a_missing_solver_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StackelbergError, match=r"needs examples of classes 0 and 1, got classes \[1\]"):
        nash(ConvexGame(), X[Y == 1], Y[Y == 1])
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(StackelbergError, match=r"cvxpy, which is not installed; install stackelberg\[convex\]"):
        nash(ConvexGame(), X, Y)
