"""Attacks on clouds keep their budgets, beat chance, and leave the network as it was."""

import pytest
import torch
from torch import Tensor, nn

from stackelberg import attacks, models
from stackelberg.attacks import PGD, PointAdd, PointDrop, PointPerturb, PricedPGD
from stackelberg.attacks.cloud_attack import CloudAttack
from stackelberg.attacks.frequency import high_adversary, low_adversary, sensitivity
from stackelberg.attacks.point_drop import dropped_at_random, saliency
from stackelberg.attacks.priced_pgd import slope
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.clouds import chamfer, hausdorff, squared_to_nearest
from stackelberg.threat.payoff import cross_entropy, margin
from stackelberg.threat.spectrum import spectrum

BALL = Ball("linf", 0.1, -1, 1)
BUDGETS = [PointPerturb(radius=0.15, steps=8), PointAdd(count=6, steps=8), PointDrop(count=8, rounds=4)]


def shapes(count: int = 48) -> tuple[Tensor, Tensor]:
    """Flat, long and round clouds: three classes that a small network learns in a moment."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 40, 3, generator=generator)
    x = x / x.norm(dim=2, keepdim=True)
    y = torch.arange(count) % 3
    stretch = torch.tensor([[1.0, 1.0, 0.2], [0.3, 0.3, 1.0], [0.7, 0.7, 0.7]])
    return (x * stretch[y][:, None]).clamp(-1, 1), y


@pytest.fixture(scope="module")
def net() -> nn.Module:
    x, y = shapes()
    torch.manual_seed(0)  # of the dropout
    model = models.build("pointnet", 3, (40, 3), width=4, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(x), y).mean().backward()
        optimizer.step()
    return model.eval()


def right(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def test_the_network_of_these_tests_is_good(net: nn.Module) -> None:
    assert right(net, *shapes()) > 0.9


@pytest.mark.parametrize("attack", BUDGETS, ids=lambda attack: type(attack).__name__)
def test_budgets_hold_and_the_network_is_left_alone(attack: CloudAttack, net: nn.Module) -> None:
    x, y = shapes()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    moved = attack(net, x, y)
    assert attack.allowed(moved, x).all()
    assert attack.allowed(attack.idle(x), x).all()
    with torch.no_grad():
        assert margin(net(moved), y).mean() > margin(net(attack.idle(x)), y).mean()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(attack(net, x, y), moved)  # the same seed, the same clouds


@pytest.mark.parametrize("attack", BUDGETS, ids=lambda attack: type(attack).__name__)
def test_what_is_not_allowed_is_seen(attack: CloudAttack) -> None:
    x, _ = shapes(4)
    wrong = attack.idle(x).clone()
    wrong[1, 3] += 0.5
    assert attack.allowed(wrong, x).tolist() == [True, False, True, True]


def test_perturbed_points_stay_near_and_the_damage_grows_with_the_radius(net: nn.Module) -> None:
    x, y = shapes()
    values = []
    for radius in (0.0, 0.05, 0.15):
        moved = PointPerturb(radius=radius, steps=6)(net, x, y)
        assert ((moved - x).norm(dim=2) <= radius + 1e-5).all()
        with torch.no_grad():
            values.append(float(margin(net(moved), y).mean()))
    assert values[0] < values[1] < values[2]


def test_added_points_leave_the_others_where_they_were(net: nn.Module) -> None:
    x, y = shapes()
    moved = PointAdd(count=6, radius=0.3)(net, x, y)
    assert torch.equal(moved[:, :40], x)
    assert moved.shape == (48, 46, 3)
    assert (squared_to_nearest(moved[:, 40:], x).sqrt() <= 0.3 + 1e-4).all()


def test_dropping_by_saliency_beats_dropping_at_random(net: nn.Module) -> None:
    x, y = shapes()
    attack = PointDrop(count=12, rounds=6)
    with torch.no_grad():
        by_chance = float(margin(net(dropped_at_random(x, 12)), y).mean())
        ours = float(margin(net(attack(net, x, y)), y).mean())
    assert ours > by_chance
    with pytest.raises(StackelbergError, match="below the 40 points of a cloud, got 40"):
        PointDrop(count=40)(net, x, y)


def test_saliency_is_the_slope_towards_the_centre() -> None:
    """For L = sum_i |x_i - c|^2 the slope in r_i is 2 r_i, so that s_i = -2 r_i^2 (power 0: -(dL/dr) r)."""
    x, _ = shapes(2)
    outward = x - x.median(dim=1, keepdim=True).values
    found = saliency(2 * outward, x, 0.0)
    torch.testing.assert_close(found, -2 * outward.square().sum(2))


@pytest.mark.parametrize(("price", "weight"), [("chamfer", 2000.0), ("hausdorff", 20.0)])
def test_a_price_makes_the_success_cheaper(price: str, weight: float, net: nn.Module) -> None:
    x, y = shapes()
    distance = {"chamfer": chamfer, "hausdorff": hausdorff}[price]
    free = PricedPGD(BALL, price, 0.0, stop=False)(net, x, y)
    paid = PricedPGD(BALL, price, weight, stop=False)(net, x, y)
    assert BALL.contains(paid, x).all()
    assert float(distance(paid, x).mean()) < float(distance(free, x).mean())
    assert right(net, paid, y) < right(net, x, y)


def test_the_slope_of_a_price_is_its_gradient() -> None:
    x, _ = shapes(2)
    moved = x + 0.01
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b = x.double(), moved.double()
    along = float((chamfer(b + 1e-6 * direction, a) - chamfer(b - 1e-6 * direction, a)).sum()) / 2e-6
    assert float((slope(chamfer, b, a) * direction).sum()) == pytest.approx(along, rel=1e-4)


def test_attacks_for_images_take_clouds_in_their_box(net: nn.Module) -> None:
    x, y = shapes(12)
    moved = PGD(BALL)(net, x, y)
    assert BALL.contains(moved, x).all()
    assert right(net, moved, y) < right(net, x, y)
    with pytest.raises(StackelbergError, match=r"inputs must lie in \[0, 1\].*give the ball their box"):
        PGD(Ball("linf", 0.1))(net, x, y)
    with pytest.raises(StackelbergError, match=r"needs clouds \[B, P, 3\], got inputs of the shape \[2, 1, 4, 4\]"):
        PointAdd()(net, torch.zeros(2, 1, 4, 4), y[:2])


def test_frequency_adversaries_stay_in_their_band_and_radius(net: nn.Module) -> None:
    x, y = shapes()
    band = spectrum(x, 8).low(6)
    oracle = attacks.Oracle(net, "float32")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    high = high_adversary(oracle, x, y, band, 0.5, 5, noise) - x
    low = low_adversary(oracle, x, y, band, 0.5, 5) - x
    assert (band.part(high).flatten(1).norm(dim=1) < 1e-4).all()
    assert (band.rest(low).flatten(1).norm(dim=1) < 1e-4).all()
    for move in (high, low):
        assert (move.flatten(1).norm(dim=1) <= 0.5 + 1e-5).all()
        with torch.no_grad():
            assert float(cross_entropy(net(x + move), y).mean()) > float(cross_entropy(net(x), y).mean())


def test_sensitivities_add_up_to_the_jacobian(net: nn.Module) -> None:
    x, _ = shapes(6)
    point = x.clone().requires_grad_()
    total = torch.zeros(6)
    for k in range(3):
        (row,) = torch.autograd.grad(net(point)[:, k].sum(), point)
        total += row.square().sum((1, 2))
    found = sensitivity(net, x, 8, batch_size=4)
    assert found.shape == (40,)
    assert float(found.square().sum()) == pytest.approx(float(total.mean()), rel=1e-3)
