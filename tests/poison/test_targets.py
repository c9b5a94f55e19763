"""Targeted poison: what it makes small, what it keeps, and that it hits."""

import pytest
import torch
from torch import nn

from stackelberg import data
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison import new_head, targeted
from stackelberg.poison.learner import accuracy, features, learn
from stackelberg.poison.targets import _aligned
from stackelberg.threat import Ball

BALL = Ball("linf", 60 / 255)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train")


@pytest.fixture(scope="module")
def model(digits: Dataset) -> nn.Module:
    return learn(digits, "mlp", 32, 6, learning_rate=0.01)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return data.load("digits", "test").batch([1])[0]  # a zero


@pytest.mark.parametrize("method", ["gradient-matching", "bullseye", "feature-collision"])
def test_it_stays_in_the_ball_keeps_labels_and_descends(
    digits: Dataset, model: nn.Module, image: torch.Tensor, method: str
) -> None:
    before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    first, last = (targeted(digits, model, image, "6", BALL, method, rate=0.01, steps=s) for s in (1, 40))
    assert len(last.index) == 14
    assert (digits.y[last.index] == 6).all()
    assert torch.equal(last.data.y, digits.y)
    change = (last.data.x.int() - digits.x.int()).abs().flatten(1)
    assert 0 < change.max() <= 60
    assert torch.equal(change.any(1).nonzero()[:, 0], last.index)
    assert last.loss < first.loss
    assert model.training is False
    after = [p.grad for p in model.parameters()]
    assert all(
        a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in zip(after, before, strict=True)
    )


def test_the_matched_gradient_is_the_one_of_the_definition(
    digits: Dataset, model: nn.Module, image: torch.Tensor
) -> None:
    x, y = digits.batch((digits.y == 6).nonzero()[:5, 0])
    found = _aligned(model, image, 6, y)(x)

    def slope(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        return torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])

    a, b = slope(x, y), slope(image, torch.tensor([6]))
    model.zero_grad()
    assert float(found.detach()) == pytest.approx(1 - float(a @ b / a.norm() / b.norm()), abs=1e-5)


def test_bullseye_brings_the_mean_and_collision_every_one(
    digits: Dataset, model: nn.Module, image: torch.Tensor
) -> None:
    wanted = features(model, image).detach()
    away = {}
    for method in ("bullseye", "feature-collision"):
        made = targeted(digits, model, image, 6, BALL, method, rate=0.01, steps=40)
        phi = features(model, made.data.batch(made.index)[0]).detach()
        away[method] = float((phi.mean(0) - wanted).norm()), float((phi - wanted).norm(dim=1).mean())
    assert away["bullseye"][0] < away["feature-collision"][0]
    assert away["feature-collision"][1] < away["bullseye"][1]


def test_a_new_head_on_poisoned_data_gives_the_target_away(
    digits: Dataset, model: nn.Module, image: torch.Tensor
) -> None:
    few = digits.take(200)
    clean = new_head(model, few)
    assert accuracy(clean, data.load("digits", "test")).value > 0.7
    made = targeted(few, model, image, 6, Ball("linf", 0.6), "bullseye", rate=0.06, steps=100)
    assert not made.hit(clean)
    assert made.hit(new_head(model, made.data))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "bulseye"}, "unknown targeted poison 'bulseye': did you mean 'bullseye'"),
        ({"wish": 10}, "the target class 10 does not exist"),
        ({"wish": 0}, "already given to class '0'"),
        ({"rate": 1.5}, r"the poison rate must lie in \(0, 1\), got 1.5"),
        ({"ball": Ball("linf", 0)}, "radius 0 is below one grey level"),
        ({"image": torch.full((1, 1, 8, 8), 1.5)}, r"inputs must lie in \[0, 1\]"),
        ({"image": torch.zeros(1, 3, 8, 8)}, r"one image of shape \[1, 1, 8, 8\], got \[1, 3, 8, 8\]"),
    ],
)
def test_what_cannot_be_aimed_at(
    digits: Dataset, model: nn.Module, image: torch.Tensor, changes: dict, sentence: str
) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        targeted(digits, model, **{"image": image, "wish": 6, "ball": BALL} | changes)
