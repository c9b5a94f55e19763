"""What half spaces leave of an interval: the linear program's value, never more."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from stackelberg.certify.boxing import boxed
from stackelberg.certify.clipping import Functions, clipped, of_neurons, shrunk
from stackelberg.certify.graph import graph_of
from stackelberg.certify.region import Region


def drawn(seed: int, count: int, inputs: int) -> Functions:
    draw = torch.Generator().manual_seed(seed)
    slopes = torch.randn(count, inputs, generator=draw)
    return Functions(slopes, torch.randn(count, generator=draw, dtype=torch.float64) * inputs**0.5)


def least(function: Functions, number: int, cuts: list[Functions], part: int) -> float | None:
    """min of a function over the cube cut by half spaces, by a linear program; None where nothing is left."""
    rows = np.stack([cut.slopes[part].double().numpy() for cut in cuts])
    sides = np.array([-float(cut.middle[part]) for cut in cuts])
    solved = linprog(function.slopes[number].double().numpy(), rows, sides, bounds=(-1, 1), method="highs")
    return None if solved.x is None else float(solved.fun) + float(function.middle[number])


def everywhere(low: Tensor) -> Tensor:
    return torch.ones_like(low, dtype=torch.bool)


def wide(count: int, parts: int) -> tuple[Tensor, Tensor]:
    return torch.full((parts, count), -1e3), torch.full((parts, count), 1e3)


@pytest.mark.parametrize("inputs", [3, 60])
def test_one_half_space_leaves_what_the_linear_program_says_and_two_never_more(inputs: int) -> None:
    below, above = drawn(0, 12, inputs), drawn(1, 12, inputs)
    cuts = [drawn(2, 8, inputs), drawn(3, 8, inputs)]
    low, high = wide(12, 8)
    one, both = (
        clipped(below, above, low, high, cuts[:1], everywhere(low)),
        clipped(below, above, low, high, cuts, everywhere(low)),
    )
    close = gained = 0
    for part in range(8):
        for number in range(12):
            for function, single, pair in zip((below, above), (one[0], -one[1]), (both[0], -both[1]), strict=True):
                plain = float(function.middle[number] - function.slopes[number].abs().sum())
                exact, tighter = (least(function, number, cuts[:n], part) for n in (1, 2))
                assert exact is None or float(single[part, number]) <= exact
                assert tighter is None or float(pair[part, number]) <= tighter
                assert float(pair[part, number]) >= float(single[part, number]) - 1e-4
                close += exact is not None and float(single[part, number]) >= exact - 0.02 * (exact - plain) - 1e-3
                gained += exact is not None and float(single[part, number]) > plain + 0.1
    assert close >= 180  # of at most 192
    assert gained >= 40


def test_intervals_of_one_sign_or_not_asked_for_stay_as_they_are() -> None:
    below, above, cuts = drawn(0, 3, 5), drawn(1, 3, 5), [drawn(2, 1, 5)]
    low, high = torch.tensor([[0.5, -1e3, -1e3]]), torch.full((1, 3), 1e3)
    found = clipped(below, above, low, high, cuts, torch.tensor([[True, False, True]]))
    assert torch.equal(found[0][0, :2], low[0, :2])
    assert torch.equal(found[1][0, :2], high[0, :2])
    assert found[0][0, 2] > -1e3
    assert found[1][0, 2] < 1e3


def test_a_half_space_that_misses_the_box_leaves_nothing() -> None:
    below = Functions(torch.tensor([[1.0, 1.0]]), torch.tensor([0.0]).double())
    above = Functions(torch.tensor([[-1.0, -1.0]]), torch.tensor([0.0]).double())
    never = Functions(torch.tensor([[1.0, -1.0]]), torch.tensor([2.5]).double())
    low, high = torch.tensor([[-2.0]]), torch.tensor([[2.0]])
    low, high = clipped(below, above, low, high, [never], everywhere(low))
    assert bool((low > high).all())


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@torch.no_grad()
def test_the_functions_of_neurons_are_below_them(residual_net, precision: torch.dtype) -> None:
    """As the network in either precision computes them, at random points of the box."""
    net, x = residual_net
    graph = graph_of(net.to(precision), (1, 6, 6))
    region = Region((x[:1] - 0.1).double(), (x[:1] + 0.1).double())
    boxes = boxed(graph, region, 1 << 30)
    places = graph.activations
    numbers = tuple(torch.arange(20) for _ in places)
    below, above = of_neurons(graph, region, boxes, places, numbers)
    draw = torch.Generator().manual_seed(0)
    t = 2 * torch.rand(200, 1, 6, 6, generator=draw, dtype=torch.float64) - 1
    values = graph.to(precision).values((region.centre + region.radius * t).to(precision))
    befores = [graph.nodes[place].inputs[0] for place in places]  # pyright: ignore[reportAttributeAccessIssue]
    seen = torch.cat([values[b].flatten(1)[:, n] for b, n in zip(befores, numbers, strict=True)], 1).double()
    under, over = (t.flatten(1) @ f.slopes.double().T + f.middle for f in (below, above))
    assert bool((under <= seen + 1e-6).all())
    assert bool((over <= -seen + 1e-6).all())
    assert float((seen - under).min()) < 0.1


def test_a_box_shrinks_to_what_some_open_row_leaves_of_it() -> None:
    draw = torch.Generator().manual_seed(0)
    slopes = torch.randn(30, 2, 3, generator=draw, dtype=torch.float64)
    low, high = torch.full((30, 3), -1.0).double(), torch.full((30, 3), 2.0).double()
    proved = torch.rand(30, 2, generator=draw) < 0.3
    proved[proved.all(1), 0] = False
    points = -1 + 3 * torch.rand(4000, 3, generator=draw, dtype=torch.float64)
    values = torch.einsum("bmi,ni->bmn", slopes, points)
    constant = -values.quantile(0.02, dim=2)
    failing = ((values + constant[:, :, None] <= 0) & ~proved[:, :, None]).any(1)
    below, above = shrunk(low, high, slopes, constant, proved)
    inside = ((points >= below[:, None]) & (points <= above[:, None])).all(2)
    assert int(failing.sum()) >= 30 * 80
    assert bool((inside | ~failing).all())
    assert float((above - below).prod(1).mean()) < 0.6 * 27
    smaller = ((points >= below[:, None] + 0.1) & (points <= above[:, None] - 0.1)).all(2)
    assert not bool((smaller | ~failing).all())
