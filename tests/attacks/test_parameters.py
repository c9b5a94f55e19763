"""The parameter attack: its budgets are kept exactly, it spares what is no weight, and it does what it is for."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg import data, models
from stackelberg.attacks import PGD, ParameterAttack
from stackelberg.attacks.parameters import change_of, randomly_changed
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, WeightBall

BALL = Ball("linf", 0.1)


@pytest.fixture(scope="module")
def train() -> Dataset:
    return data.load("digits", "train").take(600)


@pytest.fixture(scope="module")
def robust(train: Dataset) -> nn.Module:
    """A small network, some epochs of adversarial training."""
    model = models.build("mlp", 10, train.shape, 48, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    x, y = train.batch(slice(None))
    for _ in range(12):
        for part in torch.arange(len(y)).split(100):
            moved = PGD(BALL, 3, stop=False)(model, x[part], y[part])
            optimizer.zero_grad()
            F.cross_entropy(model(moved), y[part]).backward()
            optimizer.step()
    return model.eval()


def accuracies(model: nn.Module, train: Dataset) -> tuple[float, float]:
    x, y = train.batch(slice(0, 200))
    with torch.no_grad():
        clean = (model(x).argmax(1) == y).float().mean()
        moved = PGD(BALL, 20, payoff="cw")(model, x, y)
        return float(clean), float((model(moved).argmax(1) == y).float().mean())


@pytest.mark.parametrize(("norm", "size"), [("linf", 0.1), ("l2", 0.05), ("l0", 0.02)])
def test_the_budget_holds_after_the_last_projection(norm: str, size: float, robust, train) -> None:
    before = [p.detach().clone() for p in robust.parameters()]
    attack = ParameterAttack(WeightBall(norm, size), BALL, first=4, second=6, inner=2, batch_size=64)
    found = attack(robust, train)
    assert 0 < found.spent[norm] <= size
    for moved, weight in zip(found.model.parameters(), robust.parameters(), strict=True):
        assert WeightBall(norm, size).spent(moved, weight) <= size
    assert all(torch.equal(p, q) for p, q in zip(before, robust.parameters(), strict=True))
    assert all(p.requires_grad for p in robust.parameters())
    assert {record["phase"] for record in found.history} == {1.0, 2.0}
    again = attack(robust, train)
    assert all(torch.equal(p, q) for p, q in zip(found.model.parameters(), again.model.parameters(), strict=True))


def test_few_weights_take_the_robustness_and_leave_the_accuracy(robust, train) -> None:
    clean, attacked = accuracies(robust, train)
    attack = ParameterAttack(WeightBall("l0", 0.05), BALL, first=20, second=60, inner=4, batch_size=128)
    found = attack(robust, train)
    kept, left = accuracies(found.model, train)
    random = [accuracies(randomly_changed(found.model, robust, attack.weights, seed), train)[1] for seed in range(3)]
    assert attacked > 0.5
    assert kept > clean - 0.1
    assert left < attacked - 0.2
    assert left < sum(random) / 3 - 0.1


def test_the_direct_attack_turns_one_image_and_keeps_the_others(robust, train) -> None:
    x, y = train.batch(slice(0, 300))
    right = (robust(x).argmax(1) == y).nonzero()[:, 0]
    victim = train.take(right[:1])
    attack = ParameterAttack(WeightBall("l2", 0.1), BALL.with_radius(0), first=0, second=40, batch_size=128, until=0.0)
    found = attack(robust, train, victim)
    read = found.model(x).argmax(1)
    assert read[right[0]] != y[right[0]]
    assert float((read == y).float().mean()) > 0.9 * float((robust(x).argmax(1) == y).float().mean())


@pytest.mark.parametrize("norm", ["linf", "l0"])
def test_batch_norm_statistics_are_no_weights_of_the_attacker(norm: str, train) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    net(train.batch(slice(0, 100))[0])  # training mode: the statistics move once, before
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # as training leaves it
    found = ParameterAttack(WeightBall(norm, 0.1), BALL, first=2, second=3, inner=1, batch_size=32)(net, train)
    assert 0 < found.spent[norm] <= 0.1
    for name, buffer in found.model.named_buffers():
        assert torch.equal(buffer, before[name])
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_what_was_changed_is_measured_by_hand(robust) -> None:
    other = copy.deepcopy(robust)
    with torch.no_grad():
        weight = next(other.parameters())
        weight[0, 0] *= 1.5
    spent = change_of(other, robust)
    w = next(robust.parameters()).detach()
    assert spent["linf"] == pytest.approx(0.5, rel=1e-6)
    assert spent["l0"] == 1 / w.numel()
    assert spent["l2"] == pytest.approx(0.5 * abs(float(w[0, 0])) / float(w.norm()), rel=1e-5)
    assert spent["l2 overall"] < spent["l2"]


def test_what_cannot_be_attacked_is_refused(train) -> None:
    attack = ParameterAttack(WeightBall("l2", 0.1), BALL)
    with pytest.raises(StackelbergError, match="no weights that could move"):
        attack(nn.Flatten(), train)
    with pytest.raises(StackelbergError, match="length must be > 0"):
        ParameterAttack(WeightBall("l2", 0.1), BALL, length=0.0)
    with pytest.raises(StackelbergError, match="inner and batch_size at least 1"):
        ParameterAttack(WeightBall("l2", 0.1), BALL, inner=0)
