"""Frequency adversarial training: the payoff is the sum of three, each through its own norms."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stackelberg import games, models
from stackelberg.attacks import Oracle
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.games import Frequency, Play, solve
from stackelberg.models.point_norm import on_branch
from stackelberg.threat import Ball

GAME = Frequency(steps=2, neighbours=6, share=0.2)


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 24, 3, generator=torch.Generator().manual_seed(0)) / 4
    return x.clamp(-1, 1), torch.arange(count) % 3


def test_three_cross_entropies_each_on_its_branch() -> None:
    net = models.build("pointnet-3bn", 3, (24, 3), width=2, seed=0).eval()
    x, y = batch()
    moved = GAME.answer(Play(Oracle(net, "float32")), x, y)
    assert moved.shape == (8, 48, 3)
    wanted = F.cross_entropy(net(x), y, reduction="none", label_smoothing=GAME.smoothing)
    for branch, part in ((1, moved[:, :24]), (2, moved[:, 24:])):
        with on_branch(net, branch):
            wanted = wanted + F.cross_entropy(net(part), y, reduction="none", label_smoothing=GAME.smoothing)
    torch.testing.assert_close(GAME.losses(net, x, y, moved), wanted)


def test_both_followers_keep_their_radius() -> None:
    net = models.build("pointnet", 3, (24, 3), width=2, seed=0).eval()
    x, y = batch()
    high, low = GAME.answer(Play(Oracle(net, "float32")), x, y).split(24, 1)
    assert ((high - x).flatten(1).norm(dim=1) <= GAME.high + 1e-5).all()
    assert ((low - x).flatten(1).norm(dim=1) <= GAME.low + 1e-5).all()
    assert (GAME.band(x).rest(low - x).flatten(1).norm(dim=1) < 1e-4).all()


def test_a_remembered_basis_is_the_same() -> None:
    x, _ = batch(5)
    first = GAME.band(x).basis
    assert torch.equal(GAME.band(x).basis, first)
    assert torch.equal(GAME.band(x[2:4]).basis, first[2:4])
    assert GAME.band(x).basis.shape == (5, 24, 5)


def test_training_moves_all_branches_and_the_clean_one_is_kept() -> None:
    x, y = batch(40)
    data = Dataset(x, y, ["a", "b", "c"], "random")
    net = models.build("pointnet-3bn", 3, (24, 3), width=2, seed=0)
    before = {name: value.clone() for name, value in net.state_dict().items() if name.endswith("running_mean")}
    found = solve(
        GAME, net, data, 1, device="cpu", progress=False, batch_size=8, held_out=8, augment=-1, learning_rate=0.01
    )
    assert all(not torch.equal(found.model.state_dict()[name], value) for name, value in before.items())
    assert found.history[0]["robust"] is None


def test_by_name_and_from_its_description() -> None:
    game = games.named("fat", Ball("linf", 0.1), steps=3)
    assert isinstance(game, Frequency)
    assert game.threat is None
    assert games.restored(game.describe()) == game
    assert "fat" in games.NO_BALL


def test_images_are_refused_and_numbers_are_checked() -> None:
    net = models.build("small-cnn", 3, (1, 8, 8), width=2, seed=0)
    with pytest.raises(StackelbergError, match=r"moves clouds \[B, P, 3\]"):
        GAME.payoffs(net, torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long))
    with pytest.raises(StackelbergError, match=r"share in \(0, 1\)"):
        replace(GAME, share=1.0)
    with pytest.raises(StackelbergError, match="steps must be at least 1, got 0"):
        replace(GAME, steps=0)
