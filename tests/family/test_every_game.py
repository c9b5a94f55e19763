"""What every game must keep, a user's own too: call these checks with it."""

import json

import pytest
import torch
from torch import nn

from stackelberg import games, models
from stackelberg.attacks import Oracle, untouched
from stackelberg.games import Game
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy

BALL = Ball("linf", 0.1)


def small_net() -> nn.Module:
    """Batch norm and smooth activations in float64, so that finite differences are exact enough."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten(), nn.Linear(108, 4))


ON_IMAGES = [name for name in games.NAMES if name != "fat"]  # which moves clouds: tests/games/test_frequency.py


@pytest.fixture(params=ON_IMAGES)
def game(request) -> Game:
    return games.named(request.param, BALL, steps=3)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(8, 1, 8, 8, generator=generator), torch.arange(8) % 4


def test_payoffs_are_one_finite_number_per_example_with_gradient(game: Game) -> None:
    x, y = batch()
    net = small_net()
    payoffs = game.payoffs(net, x, y)
    assert payoffs.shape == (8,)
    assert torch.isfinite(payoffs).all()
    payoffs.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_the_leaders_gradient_is_right(game: Game) -> None:
    """d losses / d parameters against central differences, the follower's answer held fixed (Danskin)."""
    x, y = batch()
    net = small_net().eval().double()
    moved = BALL.project(x + 0.03, x).double()
    chosen = list(net.parameters())[-2]

    def loss(shift: float) -> float:
        with torch.no_grad():
            chosen[0, :5] += shift
            total = float(game.losses(net, x.double(), y, moved).sum())
            chosen[0, :5] -= shift
        return total

    gradient = torch.autograd.grad(game.losses(net, x.double(), y, moved).sum(), chosen)[0][0, :5].sum()
    # payoffs compute their logits in float32, so the step is large and the tolerance that of float32; bounds are in
    # float64 and full of kinks, so there it is small
    step = 0.05 if game.proved(net, x.double(), y) is None else 1e-5
    assert float(gradient) == pytest.approx((loss(step) - loss(-step)) / (2 * step), rel=1e-2, abs=1e-3)


def test_answering_leaves_the_network_untouched(game: Game) -> None:
    """In training mode too: the follower's questions move no running statistics, modes or gradients."""
    x, y = batch()
    net = small_net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with untouched(net):
        game.answer(games.Play(Oracle(net), state=game.start()), x, y)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_weights_sum_to_one_and_carry_no_gradient(game: Game) -> None:
    payoffs = torch.rand(16, requires_grad=True)
    weights = game.weights(payoffs)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert not weights.requires_grad
    assert (weights > 0).all()


def test_the_followers_answer_pays(game: Game) -> None:
    """Its payoff is at least what standing still pays, on average (a follower that does nothing fails for beta > 0)."""
    x, y = batch()
    net = models.build("small-cnn", 4, (1, 8, 8), width=4, seed=0).eval()
    if isinstance(game, games.LipschitzMargin):  # its follower is a constant of the network, and moves nobody
        assert torch.equal(game.answer(games.Play(Oracle(net)), x, y), x)
        return
    if game.proved(net, x, y) is not None:  # the bound holds at the answer too, example by example
        answer = game.answer(games.Play(Oracle(net), state=game.start()), x, y)
        assert (game.payoffs(net, x, y) > cross_entropy(net(answer), y)).all()
        return
    still = float(game.losses(net, x, y, x).detach().mean())
    answered = float(game.payoffs(net, x, y).detach().mean())
    assert answered >= still - 1e-6
    if game.threat is not None:
        assert answered > still


def test_same_noise_for_the_same_example(game: Game) -> None:
    x, y = batch()
    net = small_net().eval()
    whole = game.payoffs(net, x, y)
    assert torch.allclose(game.payoffs(net, x.flip(0), y.flip(0)).flip(0), whole, atol=1e-4)


def test_describes_itself_as_plain_data(game: Game) -> None:
    described = game.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["name"] == type(game).__name__
    assert games.restored(described) == game


def test_is_a_value(game: Game) -> None:
    name = next(n for n in games.NAMES if games.named(n, BALL, steps=3) == game)
    assert games.named(name, BALL, steps=3) == game
    assert games.named(name, Ball("linf", 0.2), steps=3) != game or game.threat is None
