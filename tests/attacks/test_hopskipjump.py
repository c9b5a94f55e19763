"""HopSkipJump: from decisions alone it comes near to the nearest wrong point."""

import math

import pytest
import torch
from torch import Tensor, nn

from perceptrons import perceptron
from stackelberg import models
from stackelberg.attacks import PGD
from stackelberg.attacks.hopskipjump import HopSkipJump
from stackelberg.data import load
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance


class Plane(nn.Module):
    """Two classes on either side of the plane sum of x = offset: distances are known."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        side = torch.where(x.flatten(1).sum(1) > self.offset, 1.0, -1.0)
        return torch.stack([-side, side], 1)


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """(a perceptron, 24 digits that it reads, their labels)."""
    net = perceptron(6)
    x, y = load("digits", "test").batch(slice(0, 60))
    right = (net(x).argmax(1) == y).nonzero()[:24, 0]
    return net, x[right], y[right]


def labels_only(net: nn.Module) -> models.BlackBox:
    return models.BlackBox(lambda x: net(x).argmax(1), classes=10, labels=True)


def broken(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x).argmax(1) != y


@pytest.mark.parametrize(("norm", "distance"), [("l2", 2 / 4), ("linf", 2 / 16)])
def test_it_finds_the_distance_to_a_plane(norm: str, distance: float) -> None:
    """||x - plane|| = 2 / sqrt(16) in l2 and 2 / 16 in linf for x with sum 6 and a plane at 8 in 16 dimensions."""
    x = torch.full((3, 1, 4, 4), 6 / 16) + 0.02 * torch.linspace(-1, 1, 48).view(3, 1, 4, 4).round(decimals=2)
    x = x - (x.flatten(1).sum(1) - 6).view(-1, 1, 1, 1) / 16
    attack = HopSkipJump(Ball(norm, 0.1), queries=3000)
    found = attack.closest(Plane(8.0), x, torch.zeros(3, dtype=torch.long))
    assert (found.flatten(1).sum(1) > 8).all()
    reached = attack.ball.distance(found, x)
    assert (reached >= distance * (1 - 1e-5)).all()
    assert (reached <= distance * 1.1).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_comes_near_to_what_gradients_find(norm: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Within 1.15 times the smallest radius of a grid at which PGD succeeds, in the median; from labels alone."""
    net, x, y = digits
    found = HopSkipJump(Ball(norm, 0.1), queries=3000).closest(labels_only(net), x, y)
    assert broken(net, found, y).all()
    ours = Ball(norm, 0.1).distance(found, x)
    least = torch.full_like(ours, torch.inf)
    for radius in torch.linspace(0.02, 0.4, 20).tolist():
        ball = Ball(norm, radius * (5 if norm == "l2" else 1))
        fell = broken(net, PGD(ball, 40, payoff="cw")(net, x, y), y)
        least = torch.where(fell & least.isinf(), ball.radius, least)
    assert least.isfinite().all()
    assert float((ours / least).median()) < 1.15


@pytest.mark.parametrize(("norm", "radius"), [("l2", 1.0), ("linf", 0.15)])
def test_in_a_ball_it_beats_noise_by_far(norm: str, radius: float, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    ball = Ball(norm, radius)
    moved = HopSkipJump(ball, queries=2000)(labels_only(net), x, y)
    assert ball.contains(moved, x).all()
    keys = chance.example_keys(x, 0)
    noise = torch.stack([broken(net, ball.sample(x, chance.fold(keys, n)), y) for n in range(100)]).any(0)
    assert broken(net, moved, y).sum() >= noise.sum() + len(x) // 2


def test_towards_a_target_from_a_pool(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    target = (y + 1) % 10
    pool, _ = load("digits", "train").batch(slice(0, 60))
    found = HopSkipJump(Ball("l2", 1.0), queries=1500, pool=pool).closest(labels_only(net), x, y, target)
    assert torch.equal(net(found).argmax(1), target)
    nearest = torch.stack(
        [(pool[net(pool).argmax(1) == t] - x[n]).flatten(1).norm(dim=1).min() for n, t in enumerate(target)]
    )
    assert float(((found - x).flatten(1).norm(dim=1) / nearest).median()) < 0.6


@pytest.mark.parametrize("queries", [60, 400])
def test_it_keeps_to_its_queries(queries: int) -> None:
    net = Plane(8.0)
    x = torch.rand(4, 1, 4, 4) * 0.4
    HopSkipJump(Ball("l2", 1e-3), queries=queries)(net, x, torch.zeros(4, dtype=torch.long))
    extra = 6 * 4 + 64  # the wrapper's own questions: what kind of network, the clean inputs, the last check
    assert net.asked <= queries * 4 + extra
    assert queries < 100 or net.asked >= queries * 4 * 0.7


def test_each_example_has_its_own_luck(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    attack = HopSkipJump(Ball("l2", 1.0), queries=300)
    together = attack.closest(labels_only(net), x[:5], y[:5])
    alone = attack.closest(labels_only(net), x[3:4], y[3:4])
    torch.testing.assert_close(together[3:4], alone, rtol=1e-5, atol=1e-6)


def test_where_nothing_is_wrong_nothing_is_found() -> None:
    x = torch.rand(2, 1, 4, 4)
    y = torch.zeros(2, dtype=torch.long)
    attack = HopSkipJump(Ball("linf", 0.1), queries=200)
    assert attack.closest(Plane(math.inf), x, y).isnan().all()
    assert torch.equal(attack(Plane(math.inf), x, y), x)


def test_what_is_refused() -> None:
    with pytest.raises(StackelbergError, match="defined for linf and l2, got norm 'l1'"):
        HopSkipJump(Ball("l1", 1.0))
    with pytest.raises(StackelbergError, match="at least 1, got 0, 100 and 40"):
        HopSkipJump(Ball("l2", 1.0), queries=0)
