"""The games on texts: the follower moves the embedded text, the leader learns the embedding as well."""

import copy
from typing import Any

import pytest
import torch

from stackelberg import games, models
from stackelberg.attacks import PGD
from stackelberg.data import Dataset, encode
from stackelberg.errors import StackelbergError
from stackelberg.games import Standard, exploitability, solve
from stackelberg.models import embedded
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin

BALL = Ball("l2", 0.5, -1, 1)
MOVING = ("at", "at-cw", "trades", "mart", "fast", "at-awp", "trades-awp", "tradeoff", "udr", "sr-at", "sr-trades",
          "sr-wdro")  # fmt: skip


def texts(n: int, seed: int = 0) -> Dataset:
    """Words of six letters, those of class 1 with more of a to m than of n to z."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(97, 123, (n, 6), generator=generator)
    y = ((codes < 110).sum(1) > 3).long()
    return Dataset(codes.to(torch.uint8), y, ["late", "early"], "letters")


def trained(game: str, **options: Any) -> games.Equilibrium:
    net = models.build("text-transformer", 2, (6,), width=16, seed=0)
    settings = {"epochs": 3, "batch_size": 20, "held_out": 60, "progress": False, "device": "cpu"}
    return solve(games.named(game, BALL, steps=2), net, texts(260), **settings | options)


@pytest.mark.parametrize("name", MOVING)
def test_every_game_that_moves_examples_teaches_the_embedding_and_the_rest(name: str) -> None:
    begun = models.build("text-transformer", 2, (6,), width=16, seed=0)
    found = trained(name, epochs=2)
    assert all(record["robust"] is not None and record["robust"] <= record["clean"] for record in found.history)
    for (place, before), after in zip(begun.named_parameters(), found.model.parameters(), strict=True):
        assert not torch.equal(before, after), place
    used = found.model.get_parameter("bytes.weight")[97:123]
    assert not torch.isclose(used, begun.get_parameter("bytes.weight")[97:123]).all(1).any()


def test_standard_training_is_descent_on_the_texts_themselves() -> None:
    """One step of the loop against one step by hand, through the bytes."""
    net = models.build("text-transformer", 2, (6,), width=16, seed=0)
    by_hand = copy.deepcopy(net)
    data = texts(30)
    recipe = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "learning_rate": 0.5, "weight_decay": 0.0}
    solve(Standard(), net, data, 1, batch_size=20, held_out=10, progress=False, device="cpu", **recipe)
    rest, _ = data.split(10, 0)
    torch.nn.functional.cross_entropy(by_hand(rest.x), rest.y).backward()
    for (name, mine), theirs in zip(net.named_parameters(), by_hand.parameters(), strict=True):
        assert theirs.grad is not None
        assert torch.allclose(mine, theirs - 0.5 * theirs.grad, atol=1e-6), name


def test_training_against_the_ball_helps_in_the_ball() -> None:
    test = texts(300, seed=1)
    stood = {}
    for name in ("standard", "at"):
        net = trained(name, epochs=12, learning_rate=0.01).best
        with torch.no_grad():
            points = embedded(net, test.x)
            moved = PGD(BALL, 10)(net, points, test.y)
            stood[name] = float((margin(net(moved), test.y) <= 0).float().mean())
    assert stood["at"] > stood["standard"] + 0.1


def test_exploitability_is_measured_where_the_text_is_embedded() -> None:
    found = trained("at")
    value = exploitability(games.named("at", BALL, steps=2), found.best, texts(40), 30, steps=5, restarts=1)
    assert value.low >= 0
    assert value.strongest >= value.trained


def test_a_killed_run_goes_on_as_it_was(tmp_path) -> None:
    whole = trained("sr-wdro", out=tmp_path / "whole")
    trained("sr-wdro", epochs=3, out=tmp_path / "again")
    again = trained("sr-wdro", out=tmp_path / "again", resume=True)
    for mine, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(models.load(tmp_path / "whole")(texts(5).x), whole.best(texts(5).x))


def test_a_network_for_images_is_refused() -> None:
    with pytest.raises(StackelbergError, match=r"the network was built for images \[1, 2, 3\], got \[6\]"):
        solve(Standard(), models.build("mlp", 2, (1, 2, 3)), texts(200), 1, progress=False, device="cpu")


def test_texts_are_bytes_and_not_grey_levels() -> None:
    assert texts(3).batch(range(3))[0].dtype == torch.uint8
    assert encode(["abcdef"], 6).dtype == torch.uint8
