"""The margin game: its payoff by hand, and a training that ends with certificates."""

import math

import pytest
import torch
from torch import nn

import stackelberg as sb
from stackelberg.attacks import Oracle
from stackelberg.errors import StackelbergError
from stackelberg.games import LipschitzMargin, Play
from stackelberg.games.margin import exponent
from stackelberg.threat import Ball

GAME = LipschitzMargin(Ball("linf", 0.1), theta=2.0, first=0.5, last=0.125)


def test_payoff_by_hand():
    """Leads of 0.3, -1 and 9 of 2 theta eps = 0.4 wanted: 1/4, 1 and 0, and the mixed cross entropy at z / 0.06."""
    logits = torch.tensor([[0.3, 0.0], [-1.0, 0.0], [9.0, 0.0]])
    y = torch.zeros(3, dtype=torch.int64)
    entropy = nn.functional.cross_entropy(logits / 0.06, y, reduction="none")
    for share, mix in ((0.0, 0.5), (0.5, 0.25), (1.0, 0.125)):
        paid = GAME.pay(Play(Oracle(nn.Identity()), share=share), nn.Identity(), logits, y, logits)
        assert torch.allclose(paid, torch.tensor([0.25, 1.0, 0.0]) + mix * entropy)


def test_the_norm_grows_to_infinity():
    powers = [exponent(share / 100) for share in range(101)]
    assert powers == sorted(powers)
    assert powers[0] == 8
    assert powers[-1] == math.inf
    assert powers[-2] == 128


def test_training_ends_with_certificates():
    train = sb.data.load("digits", "train")
    model = sb.models.build("distance-net", 10, train.shape, width=64, seed=0)
    game = LipschitzMargin(Ball("linf", 0.1))
    found = sb.solve(game, model, train, 15, progress=False, check_steps=1, batch_size=64, device="cpu")
    last = found.history[-1]
    assert last["clean"] > 0.8
    assert last["certified"] > 0.5
    assert last["certified"] <= last["robust"] <= last["clean"]
    assert found.model.steepness == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ball": Ball("l2", 0.5)}, "plays in linf, got 'l2'"),
        ({"ball": Ball("linf", 0.0)}, "needs a radius > 0"),
        ({"ball": Ball("linf", 0.1), "theta": 0.0}, "theta, first and last must be > 0"),
    ],
)
def test_bad_fields_are_refused(fields, said):
    with pytest.raises(StackelbergError, match=said):
        LipschitzMargin(**fields)
