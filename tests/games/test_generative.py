"""The game of a VAE, alone and wrapped, and its training: payoffs, seeds, and robust where it was trained to be."""

import pytest
import torch

from stackelberg import data, games
from stackelberg.attacks import Oracle
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.games import Fit, Reconstruction, StatisticallyRobust
from stackelberg.models import VAE
from stackelberg.models.vae import divergence
from stackelberg.threat import Ball, chance

BALL = Ball("linf", 0.2)
X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.zeros(6, dtype=torch.int64)


def vae(critic: bool = False, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE((1, 8, 8), latent=4, width=6, critic=critic)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train").take(600)


def test_the_payoff_is_the_loss_of_the_clean_image_at_one_draw() -> None:
    net = vae()
    paid = Reconstruction().payoffs(net, X, Y)
    mean, log_variance = net.encode(X)
    noise = chance.normal(chance.fold(chance.example_keys(X, 0), 3), (4,))
    z = mean + (log_variance / 2).exp() * noise
    torch.testing.assert_close(paid, net.distortion(net.decode(z), X) + divergence(mean, log_variance))
    assert paid.requires_grad


def test_the_follower_stays_in_the_ball_and_costs_more_than_noise() -> None:
    net, game = vae(), Reconstruction(BALL, steps=10)
    play = games.Play(Oracle(net.eval()))
    moved = game.answer(play, X, Y).detach()
    assert BALL.contains(moved, X).all()
    with torch.no_grad():
        cost = [net.loss(net.seen(net(z)), X) for z in (moved, BALL.sample(X, chance.example_keys(X, 1)), X)]
    assert (cost[0] > cost[1]).all()
    assert (cost[0] > cost[2]).all()


def test_wrappers_weigh_images_as_they_weigh_others() -> None:
    game = StatisticallyRobust(Reconstruction(BALL, steps=2), gamma=0.5)
    payoffs = game.payoffs(vae(), X, Y)
    weights = game.weights(payoffs)
    torch.testing.assert_close(weights, games.kl_worst_case(payoffs.detach(), 0.5))
    assert float(game.objective(vae(), X, Y).detach()) >= float(payoffs.detach().mean())


@pytest.mark.parametrize("critic", [False, True])
def test_training_lowers_the_loss_and_its_seed_decides_it(critic: bool, digits: Dataset) -> None:
    fit = Fit(epochs=3, batch_size=50, learning_rate=3e-3, seed=1)
    one, two = vae(critic), vae(critic)
    said: list[str] = []
    history = fit(one, digits, say=said.append)
    assert len(said) == 3
    assert fit(two, digits) == history
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    x, _ = digits.batch(slice(0, 200))
    before, after = ((net.reconstruct(x) - x).abs().mean() for net in (vae(critic), one))
    assert after < before * 0.95
    assert not one.training


def test_a_vae_trained_in_the_game_loses_less_to_its_follower(digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 200))
    lost = []
    for game in (None, Reconstruction(BALL, steps=2)):
        net = vae()
        Fit(epochs=6, batch_size=50, learning_rate=4e-3)(net, digits, game)
        moved = Reconstruction(BALL, steps=10).answer(games.Play(Oracle(net)), x, y).detach()
        with torch.no_grad():
            lost.append(float(net.loss(net.seen(net(moved)), x).mean()))
    assert lost[1] < lost[0]


def test_what_cannot_be_trained_is_refused(digits: Dataset) -> None:
    with pytest.raises(StackelbergError, match=r"takes at least 128 images of shape \(1, 8, 8\)"):
        Fit()(vae(), digits.take(50))
    with pytest.raises(StackelbergError, match="epochs and batch_size"):
        Fit(epochs=0)
    with pytest.raises(StackelbergError, match="steps must be at least 1"):
        Reconstruction(BALL, steps=0)
    net = vae()
    with torch.no_grad():
        next(net.parameters()).fill_(torch.inf)
    with pytest.raises(StackelbergError, match="the loss became"):
        Fit(batch_size=50)(net, digits)
