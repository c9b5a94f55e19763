"""Poisoned clouds keep ball, labels and shape; the collision loss is what its formula says."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from stackelberg import data, poison
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison.cloud_moves import CloudMoves, mean_chamfer, publish_clouds, scaled_to
from stackelberg.poison.clouds import METHODS, availability_of_clouds
from stackelberg.poison.collision import collision
from stackelberg.threat import Ball
from stackelberg.threat.clouds import chamfer

BALL = Ball("linf", 0.05, -1, 1)
TINY: dict[str, Any] = {"epochs": 2, "steps": 3, "width": 2, "batch_size": 8, "fit_size": 8}


def some(count: int = 16) -> Dataset:
    x = torch.randn(count, 20, 3, generator=torch.Generator().manual_seed(0)) / 4
    return Dataset(x.clamp(-1, 1), torch.arange(count) % 4, list("abcd"), "random")


def test_collision_is_its_formula() -> None:
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 1, 2])
    found = collision(z, y)
    for i in range(6):
        alike = [math.exp(float(torch.cosine_similarity(z[i], z[j], dim=0)) / 0.1) for j in range(6)]
        same = sum(value for j, value in enumerate(alike) if y[j] == y[i])
        assert float(found[i]) == pytest.approx(-math.log(same / sum(alike)), rel=1e-4, abs=1e-5)


def test_collided_features_cost_nothing_and_alone_class_is_bounded() -> None:
    apart = 10 * torch.eye(3)[torch.tensor([0, 0, 1, 1, 2])]
    y = torch.tensor([0, 0, 1, 1, 2])
    assert float(collision(apart, y).max()) < 1e-3
    assert float(collision(torch.ones(5, 3), y)[4]) == pytest.approx(math.log(5), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classwise", [False, True])
def test_every_method_keeps_ball_labels_and_shape(method: str, classwise: bool) -> None:
    clean = some()
    out = availability_of_clouds(clean, BALL, method, classwise=classwise, **TINY)
    assert out.x.shape == clean.x.shape
    assert torch.equal(out.y, clean.y)
    assert out.classes == clean.classes
    assert BALL.contains(out.x, clean.x).all()
    assert not torch.equal(out.x, clean.x)
    again = availability_of_clouds(clean, BALL, method, classwise=classwise, **TINY)
    assert torch.equal(again.x, out.x)


def test_classwise_noise_is_one_for_each_class() -> None:
    clean = some()
    delta = availability_of_clouds(clean, BALL, "em", classwise=True, **TINY).x - clean.x
    free = (clean.x.abs() < 0.9).all(2)  # away from the sides of the box
    both = (clean.y == 1).nonzero()[:2, 0]
    kept = free[both].all(0)
    torch.testing.assert_close(delta[both[0]][kept], delta[both[1]][kept], atol=1e-6, rtol=0)


def test_a_higher_price_gives_a_smaller_distance() -> None:
    clean = some()
    free, dear = (
        mean_chamfer(availability_of_clouds(clean, BALL, "fc-em", beta=beta, **TINY).x, clean.x) for beta in (0.0, 50.0)
    )
    assert dear < free / 2


def test_the_moves_lower_what_they_shall_lower() -> None:
    """Error-minimising noise makes the surrogate's loss on the poisoned clouds smaller than on the clean ones."""
    from stackelberg.models import build
    from stackelberg.poison import clouds
    from stackelberg.threat.payoff import cross_entropy

    clean = some(32)
    plan = clouds.CloudPoison("em", width=2, steps=10)
    state = clouds._begin(plan, clean, BALL, 0)
    whole = [torch.arange(32)]
    clouds._meet(state, whole)
    state.net.eval()
    assert type(state.net) is type(build("pointnet", 4, (20, 3), 2))

    def loss(points: Tensor) -> float:
        with torch.no_grad():
            return float(cross_entropy(state.net(points), clean.y).mean())

    before = loss(state.moved(whole[0]))
    clouds._move(state, whole, 10)
    state.net.eval()
    assert loss(state.moved(whole[0])) < before


def test_the_same_poison_at_another_distance() -> None:
    clean = some()
    out = availability_of_clouds(clean, BALL, "em", **TINY)
    wanted = 0.5 * mean_chamfer(out.x, clean.x)
    assert mean_chamfer(scaled_to(out, clean, wanted).x, clean.x) == pytest.approx(wanted, rel=0.02)


def test_published_clouds_come_back_with_their_moves(tmp_path) -> None:
    clean = some()
    out = availability_of_clouds(clean, BALL, "em", **TINY)
    moves = publish_clouds(out, clean, BALL, tmp_path / "p", {"method": "em"})
    again = data.load(tmp_path / "p", "train")
    assert torch.equal(again.x, out.x)
    record = json.loads((tmp_path / "p" / "poison.json").read_text())
    assert record["moves"] == moves.describe()
    assert moves.outside == 0
    assert moves.chamfer == pytest.approx(float(chamfer(out.x, clean.x).mean()), rel=1e-5)
    assert CloudMoves.between(clean.x, clean.x + 0.1, BALL).outside == 16
    with pytest.raises(StackelbergError, match="already holds a data set"):
        publish_clouds(out, clean, BALL, tmp_path / "p", {})


def test_the_one_call_for_all_poisons_takes_clouds() -> None:
    clean = some()
    by_default = poison.availability(clean, BALL, seed=0, device="cpu", **TINY)
    named = poison.availability(clean, BALL, method="fc-em", seed=0, device="cpu", **TINY)
    assert torch.equal(by_default.x, named.x)


def test_what_is_wrong_is_said() -> None:
    clean = some()
    with pytest.raises(StackelbergError, match="unknown method for clouds 'fcem'"):
        availability_of_clouds(clean, BALL, "fcem")
    with pytest.raises(StackelbergError, match="unknown setting of em 'epoch'"):
        availability_of_clouds(clean, BALL, "em", epoch=3)
    with pytest.raises(StackelbergError, match=r"give the ball the data's box"):
        availability_of_clouds(clean, Ball("linf", 0.05), "em")
    with pytest.raises(StackelbergError, match="epochs and steps must be at least 1"):
        availability_of_clouds(clean, BALL, "em", epochs=0)
    images = Dataset(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.arange(4) % 2, ["a", "b"], "black")
    with pytest.raises(StackelbergError, match="holds images, not clouds"):
        availability_of_clouds(images, BALL, "em")
