"""Branch and bound says what brute force says: over boxes, over signs, and at its leaves."""

import itertools
import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stackelberg.certify import alpha_crown
from stackelberg.certify.branch import complete, decide
from stackelberg.certify.graph import graph_of
from stackelberg.threat import Ball


def chain(seed: int, sizes: tuple[int, ...]) -> tuple[nn.Sequential, list[nn.Linear]]:
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    parts: list[nn.Module] = []
    for layer in layers:
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval(), layers


@pytest.mark.parametrize("inputs", [3, 14], ids=["boxes", "signs"])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=3, deadline=None)
def test_it_decides_as_enumeration_of_all_patterns_does(inputs: int, seed: int, exact_minimum) -> None:
    net, layers = chain(seed, (inputs, 4, 3, 2))
    low, high = torch.full((inputs,), -1.0), torch.full((inputs,), 1.0)
    goal = torch.tensor([[1.0, -1.0]])
    least, place = exact_minimum(layers, low, high, goal[0])
    graph = graph_of(net, (inputs,))
    at = graph.forward(torch.as_tensor(place)[None])[0] @ goal[0].double()
    assert math.isclose(float(at), least, abs_tol=1e-6)
    gap = 1e-3
    above = decide(graph, low, high, goal, torch.tensor([gap - least]), seconds=60)
    assert above.verdict == "proved"
    assert above.point is None
    assert 0 < above.bound <= gap + 1e-6
    below = decide(graph, low, high, goal, torch.tensor([-gap - least]), seconds=60)
    assert below.verdict == "broken"
    assert below.point is not None
    assert bool((below.point >= low).all() & (below.point <= high).all())
    assert float(graph.forward(below.point[None])[0] @ goal[0].double()) - gap - least <= 0


def test_every_row_must_hold() -> None:
    graph = graph_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval(), (2,))
    low, high = torch.zeros(2), torch.ones(2)
    goal = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert decide(graph, low, high, goal, torch.tensor([1.0, 0.1])).verdict == "proved"
    assert decide(graph, low, high, goal, torch.tensor([-1.0, 0.1])).verdict == "broken"


def test_what_is_tight_to_the_last_bit_stays_open() -> None:
    """|a| - |a| = 0 is never above the rounding of the float network, so nothing may be proved about it."""
    net, (first, last) = chain(0, (20, 4, 1))
    with torch.no_grad():
        first.weight[2:] = -first.weight[:2]
        first.bias.zero_()
        last.weight.fill_(1.0)
        last.bias.zero_()
    graph = graph_of(net, (20,))
    low, high = torch.full((20,), -1.0), torch.full((20,), 1.0)
    tiny = decide(graph, low, high, torch.ones(1, 1), torch.tensor([1e-9]), seconds=20)
    assert tiny.verdict == "open"
    assert decide(graph, low, high, torch.ones(1, 1), torch.tensor([1e-3]), seconds=20).verdict == "proved"


def test_time_ends_the_search(residual_net) -> None:
    net, x = residual_net[0], residual_net[1][:5]
    y = net(x).argmax(1)
    ball = Ball("linf", 0.2)
    none = complete(net, x, y, ball, seconds=0)
    assert torch.equal(none.certified, alpha_crown(net, x, y, ball).certified)
    assert bool(none.margin.isfinite().all())


def test_a_residual_convolutional_net_gains_over_optimised_bounds(residual_net, monkeypatch) -> None:
    monkeypatch.setattr(time, "monotonic", time.process_time)  # what others do on the machine is no matter
    net, x = residual_net[0], residual_net[1][:5]
    y = net(x).argmax(1)
    ball = Ball("linf", 0.2)
    before, after = alpha_crown(net, x, y, ball).certified, complete(net, x, y, ball, seconds=5).certified
    assert bool((after | ~before).all())
    assert int(after.sum()) > int(before.sum())


def test_an_l2_ball_is_split_too(residual_net) -> None:
    net, x = residual_net
    y = net(x).argmax(1)
    proof = complete(net, x[:3], y[:3], Ball("l2", 0.2), seconds=5)
    assert proof.method == "branch and bound"
    assert bool(proof.certified.any())
