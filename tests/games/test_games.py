"""Single games: the follower stays in its set, the leader's gradient is right, and known cases come out."""

import math

import pytest
import torch
from torch import nn

from stackelberg.attacks import Oracle
from stackelberg.errors import StackelbergError
from stackelberg.games import Adversarial, Play, Standard, StatisticallyRobust, Trades, WassersteinDRO
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy, kl, margin

BALL = Ball("linf", 0.1)


class Affine(nn.Module):
    """Two logits (-z/2, z/2) with z = w.x + b: everything about it is known in closed form."""

    def __init__(self, weights: list[float], bias: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, x):
        z = x.flatten(1) @ self.weights + self.bias
        return torch.stack([-z / 2, z / 2], 1)


X = torch.full((6, 1, 2, 2), 0.5)
Y = torch.tensor([0, 1, 0, 1, 0, 1])
NET = Affine([1.0, -2.0, 0.5, 3.0])


def test_standard_is_the_cross_entropy() -> None:
    assert torch.equal(Standard().payoffs(NET, X, Y), cross_entropy(NET(X), Y))


def test_adversarial_finds_the_closed_form_on_an_affine_net() -> None:
    """The worst margin in the linf ball is the margin plus radius * ||w||_1."""
    worst = margin(NET(X), Y) + BALL.radius * float(NET.weights.detach().abs().sum())
    assert torch.allclose(Adversarial(BALL).payoffs(NET, X, Y), torch.nn.functional.softplus(worst), atol=1e-5), "ce"
    hinged = Adversarial(BALL, payoff="cw", hinge=2.0).payoffs(NET, X, Y)
    assert torch.allclose(hinged, torch.relu(worst + 2.0), atol=1e-5), "cw"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_answers_stay_in_ball_and_box(norm) -> None:
    torch.manual_seed(0)
    ball, x = Ball(norm, 0.3), torch.rand(6, 1, 2, 2)
    for game in (Adversarial(ball), Trades(ball)):
        moved = game.answer(Play(Oracle(NET)), x, Y)
        assert ball.contains(moved, x).all()


def test_trades_is_clean_loss_plus_beta_times_divergence() -> None:
    game = Trades(BALL, beta=4.0)
    moved = BALL.project(X + 0.05, X)
    expected = cross_entropy(NET(X), Y) + 4.0 * kl(NET(moved), NET(X))
    assert torch.allclose(game.losses(NET, X, Y, moved), expected, atol=1e-6)
    assert torch.allclose(Trades(BALL, beta=0.0).payoffs(NET, X, Y), cross_entropy(NET(X), Y), atol=1e-6)


def test_udr_at_price_one_is_adversarial_training() -> None:
    """At a price >= 1 what exceeds the ball is pulled back to it, so both followers reach the same corner."""
    at = Adversarial(BALL, step=BALL.radius / 4).payoffs(NET, X, Y)
    for price in (1.0, 50.0):
        assert torch.allclose(WassersteinDRO(BALL, price=price).payoffs(NET, X, Y), at, atol=1e-5)


def test_udr_moves_farther_the_lower_the_price() -> None:
    distances = []
    for price in (0.0, 0.3, 0.6, 1.0):
        play = Play(Oracle(NET), state={"price": price})
        distances.append(float((WassersteinDRO(BALL).answer(play, X, Y) - X).abs().max()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == pytest.approx(BALL.radius, abs=1e-6)
    assert distances[0] > 2 * BALL.radius


@pytest.mark.parametrize(("moved_by", "rises"), [(0.15, True), (0.05, False)])
def test_the_price_follows_the_mean_distance(moved_by: float, rises: bool) -> None:
    """price <- price - rate * (eps - mean distance): it rises when the distribution moved too far."""
    game = WassersteinDRO(BALL, price_every=2, price_rate=0.5)
    play = Play(Oracle(NET), state=game.start())
    for _ in range(2):
        game.after(play, X, X + moved_by)
    assert play.state["price"] == pytest.approx(1 - 0.5 * (0.1 - moved_by), abs=1e-6)
    assert (play.state["price"] > 1) is rises


def test_statistically_robust_is_the_game_at_gamma_zero_and_its_maximum_far_out() -> None:
    torch.manual_seed(0)
    x, game = torch.rand(6, 1, 2, 2), Adversarial(BALL)
    payoffs = game.payoffs(NET, x, Y).detach()
    with torch.no_grad():
        values = [float(StatisticallyRobust(game, gamma).objective(NET, x, Y)) for gamma in (0.0, 0.01, 0.1, 1.0, 60.0)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(float(payoffs.mean()), abs=1e-6)
    assert values[-1] == pytest.approx(float(payoffs.max()), abs=1e-5)


def test_raw_margin_equilibrium_is_not_the_most_accurate() -> None:
    """Points 10 (+), 1 (-), 2 (-), z = t x + s in [-1, 1]^2, radius .1: raw minimax has accuracy 1/3, another has 1."""
    points, signs, radius = torch.tensor([10.0, 1.0, 2.0]), torch.tensor([1.0, -1.0, -1.0]), 0.1
    t, s = torch.meshgrid(torch.linspace(-1, 1, 401), torch.linspace(-1, 1, 401), indexing="ij")
    worst = -signs * (t[..., None] * points + s[..., None]) + radius * t.abs()[..., None]  # [., ., 3]: 2 * margin
    accuracy = (worst < 0).double().mean(-1)
    raw = worst.mean(-1)
    at = raw.argmin()
    assert (float(t.flatten()[at]), float(s.flatten()[at])) == pytest.approx((1.0, -1.0))
    assert float(accuracy.flatten()[at]) == pytest.approx(1 / 3)
    assert float(accuracy.max()) == 1
    assert float((worst >= 0).double().mean(-1).min()) == 1 - float(accuracy.max()), "the thresholded margin is right"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Adversarial(BALL, payoff="cv"), r"unknown payoff 'cv': did you mean 'cw'"),
        (lambda: Adversarial(BALL, steps=0), r"steps must be at least 1, got 0"),
        (lambda: Adversarial(BALL, parameter_box=0.0), r"parameter_box must be > 0, got 0.0"),
        (lambda: Trades(BALL, beta=-1.0), r"beta must be >= 0, got -1.0"),
        (lambda: WassersteinDRO(Ball("l1", 1.0)), r"moves in linf or l2, got norm 'l1'"),
        (lambda: WassersteinDRO(BALL, price=-1.0), r"price must be >= 0, got -1.0"),
        (lambda: StatisticallyRobust(Standard(), -0.1), r"gamma must be >= 0 in nats, got -0.1"),
        (lambda: StatisticallyRobust(Standard(), math.nan), r"gamma must be >= 0 in nats, got nan"),
    ],
)
def test_bad_fields(make, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        make()
