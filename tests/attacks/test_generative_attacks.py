"""The three attacks on a VAE: each raises its own objective inside the ball, and an affine encoder's is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg import data
from stackelberg.attacks import GenerativeAttack, latent_reader
from stackelberg.attacks.generative import Mean
from stackelberg.errors import StackelbergError
from stackelberg.games import Fit
from stackelberg.models import VAE
from stackelberg.threat import Ball


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train").take(600)


@pytest.fixture(scope="module")
def vae(digits) -> VAE:
    torch.manual_seed(0)
    net = VAE((1, 8, 8), latent=8, width=8)
    Fit(epochs=25, batch_size=50, learning_rate=5e-3)(net, digits)
    return net


@pytest.fixture(scope="module")
def pairs(digits):
    x, y = digits.batch(slice(0, 80))
    apart = y != y.roll(1)
    return x[apart], y[apart], x.roll(1, 0)[apart], y.roll(1)[apart]


def gains(vae: VAE, kind: str, x, target, classes, reader) -> torch.Tensor:
    with torch.no_grad():
        if kind == "loss":
            return -vae.loss(vae.seen(vae(x)), target)
        if kind == "latent":
            return -(vae.encode(x)[0] - vae.encode(target)[0]).square().sum(1)
        return -F.cross_entropy(reader(vae.encode(x)[0]), classes, reduction="none")


@pytest.mark.parametrize("kind", ["classifier", "loss", "latent"])
def test_each_attack_raises_its_own_objective_inside_the_ball(kind: str, vae: VAE, digits, pairs) -> None:
    x, _, target, classes = pairs
    seen, labels = digits.batch(slice(None))
    reader = latent_reader(vae, seen, labels, 10, epochs=10)
    before = [p.clone() for p in vae.parameters()]
    for ball in (Ball("linf", 0.15), Ball("l2", 1.0)):
        attack = GenerativeAttack(ball, kind, steps=20, precision="float32")
        moved = attack(vae, x, target, classes, reader)
        assert ball.contains(moved, x).all()
        gain = gains(vae, kind, moved, target, classes, reader) - gains(vae, kind, x, target, classes, reader)
        noise = ball.sample(x, torch.arange(len(x)))
        there = gains(vae, kind, moved, target, classes, reader) - gains(vae, kind, noise, target, classes, reader)
        assert (gain > 0).float().mean() > 0.95
        assert (there > 0).float().mean() > 0.95
    assert all(torch.equal(p, q) for p, q in zip(before, vae.parameters(), strict=True))
    assert all(p.requires_grad for p in vae.parameters())


def test_more_room_brings_the_code_nearer(vae: VAE, pairs) -> None:
    x, _, target, _ = pairs
    near = [
        gains(vae, "latent", GenerativeAttack(Ball("l2", r), "latent", 30)(vae, x, target), target, None, None).mean()
        for r in (0.3, 1.0, 3.0)
    ]
    assert near[0] < near[1] < near[2]


def test_through_an_affine_encoder_the_target_is_reached_exactly() -> None:
    torch.manual_seed(0)
    net = VAE((1, 8, 8), latent=2, width=2)
    net.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))  # mean and log variance, affine
    x, target = torch.full((3, 1, 8, 8), 0.5), 0.5 + 0.1 * torch.rand(3, 1, 8, 8)
    moved = GenerativeAttack(Ball("l2", 2.0), "latent", steps=2000, step=1e-3)(net, x, target)
    assert (net.encode(moved)[0] - net.encode(target)[0]).norm(dim=1).max() < 5e-3
    torch.testing.assert_close(Mean(net)(x), net.encode(x)[0])


def test_restarts_never_do_worse(vae: VAE, pairs) -> None:
    x, _, target, _ = pairs
    one, three = (
        gains(vae, "loss", GenerativeAttack(Ball("linf", 0.1), "loss", 5, restarts=r, precision="float32")(
            vae, x, target), target, None, None)
        for r in (1, 3)
    )  # fmt: skip
    assert (three >= one - 1e-4).all()


def test_the_reader_reads_codes(vae: VAE, digits) -> None:
    x, y = digits.batch(slice(None))
    reader = latent_reader(vae, x, y, 10)
    assert float((reader(vae.encode(x)[0]).argmax(1) == y).float().mean()) > 0.7


def test_what_is_missing_is_named(vae: VAE, pairs) -> None:
    x, _, target, _ = pairs
    with pytest.raises(StackelbergError, match="attack on a generative model"):
        GenerativeAttack(Ball("linf", 0.1), "laten")
    with pytest.raises(StackelbergError, match="needs the targets' classes and a reader"):
        GenerativeAttack(Ball("linf", 0.1), "classifier")(vae, x, target)
    with pytest.raises(StackelbergError, match="one target of its shape"):
        GenerativeAttack(Ball("linf", 0.1))(vae, x, target[:3])
