"""What is measured along a path of SGD: gradients one by one, and L and beta where they are known."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg import data
from stackelberg.bounds import walk
from stackelberg.bounds.sgd_path import per_sample_gradients
from stackelberg.errors import StackelbergError
from stackelberg.exhibits.stability_fails import Linear, climbing
from stackelberg.threat import Ball

DIGITS = data.load("digits", "train").take(200)
FRESH = data.load("digits", "test").take(100)


def test_gradients_of_single_examples_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
    x, y = DIGITS.batch(slice(0, 5))
    found = per_sample_gradients(net, x, y)
    assert net.training
    net.eval()
    for i in range(5):
        loss = F.cross_entropy(net(x[i : i + 1]), y[i : i + 1])
        one = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
        torch.testing.assert_close(found[i], one, atol=1e-5, rtol=1e-4)


def test_softmax_regression_is_no_steeper_and_no_more_bent_than_is_known() -> None:
    """L <= sqrt(2 (|x|^2 + 1)) and beta <= (|x|^2 + 1) / 2: the Hessian of softmax has no eigenvalue above 1/2."""
    path = walk(Linear(DIGITS), DIGITS, 40, 0.05, FRESH, 10, every=4, visit=(1, 40))
    longest = float(DIGITS.batch(slice(None))[0].flatten(1).square().sum(1).max()) + 1
    assert 0.3 * math.sqrt(2 * longest) < path.lipschitz <= math.sqrt(2 * longest)
    assert 0.02 * longest < path.smoothness <= longest / 2
    assert [visit.step for visit in path.visits] == [1, 40]
    assert path.mixed == 0
    for step in path.steps:
        assert step.mean <= step.steepest
        assert step.noise <= step.steepest


def test_bounds_grow_and_lie_above_the_gap() -> None:
    path = walk(Linear(DIGITS), DIGITS, 60, 0.05, FRESH, 10, every=5, visit=(10, 30, 60))
    for values in (path.convex(), path.on_average(True), path.nonconvex(), path.on_average(False)):
        assert len(values) == 60
        assert all(a <= b for a, b in pairwise(values))
        assert all(values[visit.step - 1] >= visit.gap for visit in path.visits)
    assert path.visits[-1].train < path.visits[0].train


def test_an_adversary_is_met_and_costs() -> None:
    mover = climbing(Ball("linf", 0.1), 2)
    plain = walk(Linear(DIGITS), DIGITS, 20, 0.05, FRESH, 10, visit=(20,))
    moved = walk(Linear(DIGITS), DIGITS, 20, 0.05, FRESH, 10, visit=(20,), mover=mover, radius=0.1)
    assert moved.mixed > 0
    assert moved.visits[-1].train > plain.visits[-1].train
    assert moved.on_average(True)[-1] > plain.on_average(True)[-1]
    x, y = DIGITS.batch(slice(0, 8))
    net = Linear(DIGITS)
    weight, _ = net.parameters()
    nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
    at = mover(net, x, y)
    assert float((at - x).abs().max()) <= 0.1 + 1e-6
    assert bool((F.cross_entropy(net(at), y) > F.cross_entropy(net(x), y)).item())


def test_falling_rates_and_the_same_seed() -> None:
    one, two = (walk(Linear(DIGITS), DIGITS, 6, 0.6, falling=True, seed=3) for _ in range(2))
    assert [step.rate for step in one.steps] == pytest.approx([0.6 / t for t in range(1, 7)])
    assert one == two


def test_a_loss_that_is_not_finite_is_named() -> None:
    net = Linear(DIGITS)
    _, bias = net.parameters()
    with torch.no_grad():
        bias[0] = torch.nan
    with pytest.raises(StackelbergError, match=r"the loss became nan along the path; lower the rate, 0\.1"):
        walk(net, DIGITS, 5, 0.1)
