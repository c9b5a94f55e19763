"""The exact minimum: against enumeration of all ReLU patterns, points of the box, and the float32 network."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from stackelberg.certify import Unsupported, interval
from stackelberg.certify.graph import graph_of
from stackelberg.certify.linear import differences
from stackelberg.certify.milp import Program, exact, program
from stackelberg.certify.region import input_region
from stackelberg.certify.zonotope import zonotope
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import margin


def perceptron(seed: int, *widths: int, slope: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(widths):
            parts += [nn.Linear(before, after), nn.LeakyReLU(slope) if slope else nn.ReLU()]
        net = nn.Sequential(*parts[:-1])
        for part in net:
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=1.5 / part.in_features**0.5)
    return net.eval()


class Mixed(nn.Module):
    """Convolution, max pool, batch norm and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.pool = nn.BatchNorm2d(3), nn.MaxPool2d(2)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.pool(torch.relu(x + self.norm(self.second(x))))
        return self.head(x.flatten(1))


def mixed() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = Mixed()
        net.norm.running_var = 0.5 + torch.rand(3)
    return net.eval()


def by_enumeration(net: nn.Sequential, low: np.ndarray, high: np.ndarray, row: np.ndarray) -> float:
    """min of row . net over the box: one linear program for each pattern of signs."""
    layers = [
        (part.weight.detach().double().numpy(), part.bias.detach().double().numpy())
        for part in net
        if isinstance(part, nn.Linear)
    ]
    units = sum(len(b) for _, b in layers[:-1])
    best = np.inf
    for signs in itertools.product((0.0, 1.0), repeat=units):
        matrix, constant, rows, limits, at = np.eye(len(low)), np.zeros(len(low)), [], [], 0
        for weight, bias in layers[:-1]:
            on = np.array(signs[at : at + len(bias)])
            at += len(bias)
            before, held = weight @ matrix, weight @ constant + bias
            side = np.where(on > 0, -1.0, 1.0)  # on: -(W x + c) <= 0
            rows.append(side[:, None] * before)
            limits.append(-side * held)
            matrix, constant = on[:, None] * before, on * held
        weight, bias = layers[-1]
        found = linprog(
            row @ weight @ matrix, np.concatenate(rows), np.concatenate(limits), bounds=np.stack([low, high], 1)
        )
        if found.status == 0:
            best = min(best, float(found.fun) + float(row @ (weight @ constant + bias)))
    return best


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.45))
def test_the_minimum_is_that_of_all_relu_patterns(seed: int, radius: float) -> None:
    net = perceptron(seed, 3, 4, 3, 2)
    x = torch.rand(3, generator=torch.Generator().manual_seed(seed))
    low, high = (x - radius).clamp(0, 1).double(), (x + radius).clamp(0, 1).double()
    row = np.array([1.0, -1.0])
    truth = by_enumeration(net, low.numpy(), high.numpy(), row)
    found = program(graph_of(net, (3,)), low, high).minimum(row, 0.25, 20.0)
    assert found.status == "optimal"
    assert found.bound <= truth + 0.25 + 1e-9
    assert found.bound == pytest.approx(truth + 0.25, abs=5e-5 * max(1, abs(truth)))
    assert found.point is not None
    value = graph_of(net, (3,)).forward(found.point[None])[0]
    assert float(value[0] - value[1]) == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize(
    ("build", "radius"), [(mixed, 0.05), (lambda: perceptron(1, 16, 8, 6, 3, slope=0.2), 0.15)], ids=["mixed", "leaky"]
)
@torch.no_grad()
def test_no_point_is_below_the_bound_and_one_is_on_it(build: Callable[[], nn.Module], radius: float) -> None:
    net, ball = build(), Ball("linf", radius)
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    found, points = exact(net, x, y, ball, 20.0)
    assert ball.contains(points, x).all()
    met = -margin(net(points), y).double()
    assert (found.margin <= met).all()
    torch.testing.assert_close(found.margin, met, atol=2e-3, rtol=0)
    for number in range(50):
        inside = ball.sample(x, chance.fold(chance.example_keys(x, 0), number))
        assert (-margin(net(inside), y) >= found.margin).all()
    assert (interval(net, x, y, ball).margin <= found.margin + 1e-9).all()
    assert (zonotope(net, x, y, ball).margin <= found.margin + 1e-4).all()


@torch.no_grad()
def test_classes_passed_over_could_not_have_been_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer programs than classes, and the margin of all of them."""
    net, ball = perceptron(4, 16, 12, 8), Ball("linf", 0.05)
    x = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y, solved = net(x).argmax(1), []
    whole = Program.minimum
    monkeypatch.setattr(Program, "minimum", lambda self, *a: solved.append(a) or whole(self, *a))
    found, _ = exact(net, x, y, ball, 20.0)
    assert len(solved) < 4 * 7
    graph = graph_of(net, (1, 4, 4))
    for point, label, margin_found in zip(x, y.tolist(), found.margin.tolist(), strict=True):
        region = input_region(point[None], ball)
        built = program(graph, region.low[0], region.high[0])
        rows = differences(torch.tensor([label]), 8)[0].numpy()
        every = [whole(built, row, 0.0, 20.0).bound - float(np.abs(row) @ built.error) for row in rows]
        assert margin_found == pytest.approx(min(every), abs=5e-5)
        assert (built.rough(rows) <= np.array(every) + 5e-5 + 2 * built.error.max()).all()


@torch.no_grad()
def test_a_bound_cut_off_by_time_is_still_a_bound() -> None:
    net, ball = perceptron(3, 16, 30, 30, 3), Ball("linf", 0.4)
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    short, _ = exact(net, x, y, ball, 0.2)
    for number in range(200):
        inside = ball.sample(x, chance.fold(chance.example_keys(x, 0), number))
        assert (-margin(net(inside), y) >= short.margin).all()


def test_rounding_of_the_float32_network_is_taken_off() -> None:
    """In reals z_0 - z_1 = x_0 >= 0.8; in float32 (x_0 + 2^24) - 2^24 loses it: nothing may be certified."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0**25, -(2.0**25)], [0.0, 0.0, 0.0]]))
        layer.bias.zero_()
    net = nn.Sequential(nn.Flatten(), layer)
    x, y, ball = torch.tensor([0.9, 1.0, 1.0]).view(1, 1, 1, 3), torch.tensor([0]), Ball("linf", 0.0)
    assert not exact(net, x, y, ball)[0].certified.any()
    assert not zonotope(net, x, y, ball).certified.any()


@torch.no_grad()
def test_a_network_without_units_is_a_linear_program() -> None:
    net, x = perceptron(0, 4, 3), torch.full((4,), 0.5)
    rows = np.array([1.0, -1.0, 0.0])
    found = program(graph_of(net, (4,)), x - 0.25, x + 0.25).minimum(rows, 0.0, 5.0)
    weight = next(part.weight for part in net if isinstance(part, nn.Linear))
    value = net(x[None])[0]
    exact_value = float(value[0] - value[1] - 0.25 * (weight[0] - weight[1]).abs().sum())
    assert found.bound == pytest.approx(exact_value, abs=5e-5)


def test_smooth_activations_are_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))
    x, y, ball = torch.rand(1, 1, 2, 2), torch.tensor([0]), Ball("linf", 0.1)
    with pytest.raises(Unsupported, match="knows ReLU and leaky ReLU only, this network has sigmoid"):
        exact(net, x, y, ball)


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Tanh, nn.ReLU, lambda: nn.LeakyReLU(0.1)])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@torch.no_grad()
def test_zonotopes_hold_every_point_and_beat_intervals(kind: Callable[[], nn.Module], norm: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), kind(), nn.Linear(12, 12), kind(), nn.Linear(12, 3))
    ball = Ball(norm, {"linf": 0.1, "l2": 0.3, "l1": 0.8}[norm])
    x = 0.3 + 0.4 * torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    proved = zonotope(net, x, y, ball).margin
    for number in range(200):
        inside = ball.sample(x, chance.fold(chance.example_keys(x, 0), number))
        assert (-margin(net(inside), y) >= proved).all()
    assert (proved > interval(net, x, y, ball).margin).all()
