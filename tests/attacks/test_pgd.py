"""PGD and FGSM: exact on a linear model, and stronger with more radius and more steps."""

import math

import pytest
import torch

from stackelberg.attacks import FGSM, PGD, Oracle, ascend
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy, margin


def test_fgsm_by_hand(linear):
    net = linear(2, 5)
    x = torch.full((1, 5), 0.5, dtype=torch.float64)
    x[0, 0] = 0.55
    y = net(x).argmax(1)
    moved = FGSM(Ball("linf", 0.1), stop=False)(net, x, y)
    direction = (net.weight[1 - y] - net.weight[y]).detach()
    torch.testing.assert_close(moved, x + 0.1 * direction.sign())


def optimum(norm: str, slope: torch.Tensor, x: torch.Tensor, radius: float) -> float:
    """max <slope, d> over the ball where the box does not bind."""
    dual = {"linf": 1, "l2": 2, "l1": math.inf}[norm]
    return radius * float(torch.linalg.vector_norm(slope, ord=dual))


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.05), ("l2", 0.2), ("l1", 0.3)])
def test_pgd_finds_the_optimum_of_a_linear_model(linear, norm, radius):
    net = linear(2, 12)
    x = 0.4 + 0.2 * torch.rand(6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    moved = PGD(Ball(norm, radius), 200, step=radius / 10, payoff="cw", stop=False)(net, x, y)
    gained = (margin(net(moved), y) - margin(net(x), y)).detach()
    for i in range(6):
        slope = (net.weight[1 - y[i]] - net.weight[y[i]]).detach()
        assert float(gained[i]) == pytest.approx(optimum(norm, slope, x[i], radius), rel=2e-2 if norm == "l1" else 1e-3)


def test_an_upper_bound_falls_as_the_radius_grows(digits, ball):
    net, x, y = digits
    standing = []
    for share in (0.0, 0.25, 0.5, 1.0, 2.0):
        radius = max(1, round(share * ball.radius)) if ball.norm == "l0" else share * ball.radius
        moved = PGD(ball.with_radius(radius), 10)(net, x, y)
        standing.append(int((net(moved).argmax(1) == y).sum()))
    assert standing == sorted(standing, reverse=True)
    assert standing[-1] < standing[0]


def test_the_best_iterate_is_returned(digits):
    net, x, y = digits
    ball = Ball("linf", 0.02)
    short = margin(net(PGD(ball, 5, step=0.008, stop=False, precision="float32")(net, x, y)), y)
    long = margin(net(PGD(ball, 10, step=0.008, stop=False, precision="float32")(net, x, y)), y)
    assert (long >= short - 1e-5).all()
    assert (long > short).any()


def test_restarts_only_add(digits):
    net, x, y = digits
    one = margin(net(PGD(Ball("l2", 0.3), 5, stop=False, precision="float32")(net, x, y)), y)
    three = margin(net(PGD(Ball("l2", 0.3), 5, restarts=3, stop=False, precision="float32")(net, x, y)), y)
    assert (three >= one - 1e-5).all()
    assert (three > one).any()


def test_ascend_climbs(digits):
    net, x, y = digits
    ball = Ball("linf", 0.1)
    oracle = Oracle(net, "float32")
    moved = ascend(oracle, x, x, lambda z: cross_entropy(z, y), ball, 5, 0.03)
    assert (cross_entropy(net(moved), y) > cross_entropy(net(x), y)).all()
    assert ball.contains(moved, x).all()
    assert oracle.backwards == 5 * len(x)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps and restarts must be at least 1, got steps=0, restarts=1"),
        ({"restarts": 0}, "steps and restarts must be at least 1"),
        ({"payoff": "clw"}, "unknown payoff 'clw': did you mean 'cw'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, sentence):
    with pytest.raises(StackelbergError, match=sentence):
        PGD(Ball("linf", 0.1), **options)


def test_names():
    ball = Ball("linf", 0.1)
    assert [FGSM(ball).name, PGD(ball).name, PGD(ball, 20, restarts=5, payoff="cw").name] == [
        "fgsm",
        "pgd-10",
        "pgd-20x5-cw",
    ]
