"""Too narrow: the witnesses, the collision, the maximum principle by three methods, and the search that fails."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from stackelberg.certify import exact
from stackelberg.errors import StackelbergError
from stackelberg.memorize import rational
from stackelberg.memorize.narrow import Stack, points_of_balls, search
from stackelberg.memorize.width import collision, escape, refute, shell, simplex
from stackelberg.threat import Ball


def narrow(dimension: int, widths: list[int], seed: int, centre: float = 0.3) -> nn.Sequential:
    """A random network with F(0) = centre."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    before = dimension
    for width in widths:
        layers += [nn.Linear(before, width, dtype=torch.float64), nn.ReLU()]
        before = width
    last = nn.Linear(before, 1, dtype=torch.float64)
    net = nn.Sequential(*layers, last)
    with torch.no_grad():
        last.bias += centre - net(torch.zeros(1, dimension, dtype=torch.float64))[0]
    return net


@pytest.mark.parametrize(("dimension", "cells"), [(1, 4), (2, 4), (3, 4), (2, 8), (4, 2)])
def test_the_shell_is_closed_and_one_away(dimension: int, cells: int) -> None:
    witness = shell(dimension, cells)
    assert len(witness.x) == 1 + (cells + 1) ** dimension - (cells - 1) ** dimension
    assert np.abs(witness.x[1:]).max(1).tolist() == [1.0] * (len(witness.x) - 1)  # the separation
    chance = np.random.default_rng(0).uniform(-1, 1, (2000, dimension))
    surface = chance / np.abs(chance).max(1, keepdims=True)
    nearest = np.abs(surface[:, None] - witness.x[None, 1:]).max(2).min(1)
    assert nearest.max() <= witness.radius
    assert nearest.max() > 0.6 * witness.radius or dimension == 1  # at a smaller radius the shell has holes


@pytest.mark.parametrize("dimension", [2, 3, 6, 12])
def test_a_narrow_first_layer_makes_two_balls_meet(dimension: int) -> None:
    chance, witness = np.random.default_rng(dimension), simplex(dimension)
    for height in (1, dimension - 1):
        for weight in (chance.normal(size=(height, dimension)), chance.integers(-2, 3, (height, dimension))):
            found = collision(weight)
            exactly = rational.matrix(weight)
            assert rational.times(exactly, found.a) == rational.times(exactly, found.b)
            for point, place in ((found.a, found.index), (found.b, 0)):
                assert max(abs(v - Fraction(w)) for v, w in zip(point, witness.x[place], strict=True)) <= Fraction(1, 4)
            assert (witness.y[found.index], witness.y[0]) == (0, 1)
            floats = collision(weight, exact=False)
            a, b = (np.array([float(v) for v in point]) for point in (floats.a, floats.b))
            assert np.abs(weight @ (a - b)).max() < 1e-12
            assert np.abs(a - witness.x[floats.index]).max() <= 0.25 + 1e-15
            assert np.abs(b).max() <= 0.25 + 1e-15


def test_a_full_first_layer_has_no_collision_and_no_two_points_below_a_quarter_meet() -> None:
    with pytest.raises(StackelbergError, match="rank 3 keeps all points apart"):
        collision(np.eye(3))
    with pytest.raises(StackelbergError, match="rank 3 keeps all points apart"):
        collision(np.eye(3), exact=False)
    assert collision(np.array([[1, 1, 0], [2, 2, 0], [0, 0, 1]])).index in (1, 2)
    weight, least = np.ones((1, 2)), []  # an independent program: the least radius at which e_j's ball and 0's meet
    for j in range(2):
        body = [[s * (i == k) for k in range(2)] + [0, 0, -1] for i in range(2) for s in (1, -1)]
        body += [[0, 0] + [s * (i == k) for k in range(2)] + [-1] for i in range(2) for s in (1, -1)]
        right = [s * float(i == j) for i in range(2) for s in (1, -1)] + [0.0] * 4
        same = [[*weight[0], *-weight[0], 0]]
        least.append(
            linprog([0, 0, 0, 0, 1], A_ub=body, b_ub=right, A_eq=same, b_eq=[0], bounds=[(None, None)] * 5).fun
        )
    assert min(least) == pytest.approx(0.25, abs=1e-9)


@pytest.mark.parametrize(
    ("dimension", "widths"),
    [(2, [2]), (2, [2, 2]), (2, [2, 2, 2, 2]), (2, [1, 2]), (3, [3, 3]), (3, [3, 2, 3]), (3, [2])],
)
def test_every_narrow_network_is_refuted_exactly(dimension: int, widths: list[int]) -> None:
    witness = shell(dimension)
    for seed in range(12):
        net = narrow(dimension, widths, seed)
        found = refute(net, witness)
        assert found.index > 0
        assert found.value > 0
        assert rational.evaluated(rational.affine_layers(net), found.point) == [found.value]
        off = max(abs(v - Fraction(w)) for v, w in zip(found.point, witness.x[found.index], strict=True))
        assert off <= Fraction(witness.radius)
        point = torch.tensor([[float(v) for v in found.point]], dtype=torch.float64)
        assert float(net(point).detach()) == pytest.approx(float(found.value), abs=1e-9)
    assert refute(narrow(dimension, widths, 0, centre=-0.1), witness).index == 0


@pytest.mark.parametrize(("dimension", "widths"), [(2, [2, 2]), (3, [3, 3])])
def test_the_maximum_lies_on_the_surface_by_mixed_integer_programs(dimension: int, widths: list[int]) -> None:
    """max over the cube = max over its facets, both by programs that know nothing of the proof."""
    for seed in range(3):
        net = narrow(dimension, widths, seed)
        inside = most(net, np.zeros(dimension), np.ones(dimension))
        facets = []
        for axis in range(dimension):
            for side in (-1.0, 1.0):
                centre, half = np.zeros(dimension), np.ones(dimension)
                centre[axis], half[axis] = side, 0.0
                facets.append(most(net, centre, half))
        assert inside <= max(facets) + 1e-4


def most(net: nn.Sequential, centre: np.ndarray, half: np.ndarray) -> float:
    """An upper bound of F over a box, tight to 1e-5, by a mixed-integer program: least margin of class 1 of (F, 0)."""
    first, last = net[0], net[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    scaled = nn.Linear(first.in_features, first.out_features, dtype=torch.float64)
    pair = nn.Linear(last.in_features, 2, dtype=torch.float64)
    with torch.no_grad():
        scaled.weight.copy_(first.weight * torch.from_numpy(half))
        scaled.bias.copy_(first.bias + first.weight @ torch.from_numpy(centre))
        pair.weight.copy_(torch.cat([last.weight, torch.zeros_like(last.weight)]))
        pair.bias.copy_(torch.cat([last.bias, torch.zeros_like(last.bias)]))
    model = nn.Sequential(scaled, *list(net)[1:-1], pair)
    x = torch.zeros(1, len(half), dtype=torch.float64)
    return -float(exact(model, x, torch.tensor([1]), Ball("linf", 1.0, low=-1.0))[0].margin[0])


def excess(count: int, width: int, depth: int) -> torch.Tensor:
    """By how much the maximum inside passes that on the boundary, less what the boundary's grid may miss, [S]."""
    stack = Stack(count, 2, width, depth, seed=3).double()
    with torch.no_grad():
        for bias in stack.biases:
            bias.mul_(2)
        ticks, fine = torch.linspace(-1, 1, 41, dtype=torch.float64), torch.linspace(-1, 1, 4001, dtype=torch.float64)
        inner = torch.cartesian_prod(ticks[1:-1], ticks[1:-1])
        one = torch.ones_like(fine)
        outer = torch.cat([torch.stack(pair, 1) for s in (1, -1) for pair in ((s * one, fine), (fine, s * one))])
        slope = torch.ones(count, dtype=torch.float64)
        for weight in stack.weights:
            slope *= weight.abs().sum(1).amax(1)
        return stack(inner).amax(1) - stack(outer).amax(1) - slope * (fine[1] - fine[0]) / 2


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_no_random_network_of_width_two_peaks_inside_the_square(depth: int) -> None:
    assert int((excess(400, 2, depth) > 0).sum()) == 0


def test_wider_ones_do() -> None:
    assert int((excess(200, 6, 2) > 0).sum()) > 0


def test_the_path_climbs_up_to_the_slope() -> None:
    net = rational.affine_layers(narrow(2, [2, 2], 4))
    start = [Fraction(1, 3), Fraction(-1, 5)]
    before = rational.evaluated(net, start)[0]
    for power in (8, 16, 32):
        slope = Fraction(1, 2**power)
        leaky = escape(net, start, slope)
        assert max(abs(v) for v in leaky) == 1
        assert rational.evaluated(net, leaky, slope)[0] > rational.evaluated(net, start, slope)[0]
        assert rational.evaluated(net, leaky)[0] > before - 20 * slope


def test_training_finds_no_network_of_width_two_but_many_of_width_three() -> None:
    witness = shell(2)
    two = search(witness, 2, 3, 0.25, nets=32, steps=300)
    three = search(witness, 3, 3, 0.25, nets=32, steps=300)
    assert int(two.broken.min()) > 0
    assert int((three.broken == 0).sum()) > 2
    for place in range(0, 32, 4):
        found = refute(two.stack.member(place), witness)
        assert (found.value > 0) == (found.index > 0)
    assert refute(two.stack.member(two.best), witness).index > 0
    x = torch.from_numpy(witness.x)
    certificate, _ = exact(
        three.stack.member(three.best, outputs=2), x, torch.from_numpy(witness.y), Ball("linf", 0.25, -2.0, 2.0)
    )
    assert bool((certificate.margin > 0).all())  # the same training, one neuron more: proved


def test_a_stack_is_its_members() -> None:
    stack = Stack(5, 3, 2, 3, seed=1).double()
    x = torch.randn(7, 3, dtype=torch.float64)
    together = stack(x)
    for place in range(5):
        assert torch.allclose(together[place], stack.member(place)(x)[:, 0], atol=1e-12)
        assert torch.allclose(together[place], stack.member(place, outputs=2)(x)[:, 1], atol=1e-12)
    every, ball = points_of_balls(shell(2), 0.25, 3)
    assert np.abs(every - shell(2).x[ball]).max() == 0.25


def test_bad_input_is_named() -> None:
    with pytest.raises(StackelbergError, match="width 2 or less, as the data has dimensions"):
        refute(narrow(2, [3], 0), shell(2))
    with pytest.raises(StackelbergError, match=r"do not cover the surface; it takes 0\.25"):
        refute(narrow(2, [2], 0), shell(2), radius=0.2)
    with pytest.raises(StackelbergError, match="layer 1 must be ReLU, got Tanh"):
        refute(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)), shell(2))
    with pytest.raises(StackelbergError, match="last layer must be Linear"):
        refute(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), shell(2))
    with pytest.raises(StackelbergError, match="one output or two, got 3"):
        refute(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3)), shell(2))
    with pytest.raises(StackelbergError, match="NaN or infinite"):
        collision(np.array([[np.nan, 1.0]]))
    with pytest.raises(StackelbergError, match="cells must be even"):
        shell(2, 3)
    with pytest.raises(StackelbergError, match="dimension must be 1 or more, got 0"):
        simplex(0)
    with pytest.raises(StackelbergError, match=r"radius must lie in \(0, 0\.5\)"):
        search(shell(2), 2, 2, 0.5)
    with pytest.raises(StackelbergError, match="nets must be positive, got 0"):
        search(shell(2), 2, 2, 0.25, nets=0)
