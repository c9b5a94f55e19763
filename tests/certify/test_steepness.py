"""Half a margin is a certificate where the network is as slow as it says."""

import math

import pytest
import torch
from torch import nn

from stackelberg import attacks, certify, models
from stackelberg.certify import Unsupported
from stackelberg.errors import StackelbergError
from stackelberg.models.distance_net import relax
from stackelberg.threat import Ball

BALL = Ball("linf", 0.02)


class Liar(nn.Module):
    """Moves three times as fast as it declares."""

    steepness = 1.0

    def rounding(self, size: float) -> float:
        return 1e-6 * size

    def forward(self, x):
        return 3 * x.flatten(1)[:, :4]


def net():
    return models.build("distance-net", 4, (1, 4, 4), width=20, seed=0).eval()


def batch(model, count=60):
    x = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return x, model(x).argmax(1)


def test_margin_is_the_lead_less_twice_the_radius():
    model = net()
    x, y = batch(model)
    with torch.no_grad():
        first, second = model(x).topk(2, dim=1).values.T
    proved = certify.steepness(model, x, y, BALL)
    assert torch.allclose(proved.margin.float(), first - second - 2 * BALL.radius, atol=1e-4)
    assert (proved.margin.float() < first - second - 2 * BALL.radius).all()  # rounding is paid for
    assert 0 < int(proved.certified.sum()) < len(x)


def test_relaxed_norms_pay_for_their_constant():
    model = net()
    x, y = batch(model)
    relax(model, 8.0)
    proved = certify.steepness(model, x, y, BALL)
    with torch.no_grad():
        logits = model(x)
    lead = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -math.inf).amax(1)
    constant = (16 * 20 * 20) ** (1 / 8)
    assert torch.allclose(proved.margin.float(), lead - 2 * constant * BALL.radius, atol=1e-3)


def test_no_attack_breaks_what_is_certified():
    model = net()
    x, y = batch(model)
    sure = certify.steepness(model, x, y, BALL).certified
    moved = attacks.PGD(BALL, steps=40)(model, x, y)
    with torch.no_grad():
        right = model(moved).argmax(1) == y
    assert right[sure].all()
    assert not right.all()  # the attack is no straw man


def test_a_network_faster_than_it_says_is_refused():
    x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(StackelbergError, match="declares steepness 1, but at example"):
        certify.steepness(Liar(), x, torch.zeros(8, dtype=torch.int64), BALL)


def test_what_declares_nothing_is_not_proved():
    x, y = torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(Unsupported, match="declares no steepness"):
        certify.steepness(models.build("mlp", 4, (1, 4, 4), width=4, seed=0), x, y, BALL)
    with pytest.raises(Unsupported, match="few large changes"):
        certify.steepness(net(), x, y, Ball("l0", 2))


def test_no_examples_no_margins():
    assert len(certify.steepness(net(), torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64), BALL).margin) == 0
