"""Parts of a region: no counterexample is ever outside those that are open."""

import math

import pytest
import torch
from torch import Tensor, nn

from stackelberg.certify.boxing import boxed
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.linear import DEEP
from stackelberg.certify.region import Region
from stackelberg.certify.splitting import Parts, Phases


def parts_of(net: nn.Module, low: Tensor, high: Tensor, offset: float) -> tuple[Graph, Phases]:
    """The search for a point of the box with z_0 - z_1 + offset <= 0."""
    shape = tuple(low.shape)
    graph = graph_of(net, shape)
    region = Region(low[None].double(), high[None].double())
    boxes = boxed(graph, region, DEEP)
    goal = torch.zeros(graph.nodes[-1].shape[0], dtype=torch.float64)
    goal[0], goal[1] = 1.0, -1.0
    return graph, Phases(graph, region, boxes, goal[None], torch.tensor([offset]).double(), math.inf)


def held(graph: Graph, phases: Phases, points: Tensor) -> Tensor:
    """Which points lie in some open part, by the values before their activations [P]."""
    values = graph.values(points.double())
    before = {p: values[graph.nodes[p].inputs[0]][:, None] for p in phases.neurons.places}  # pyright: ignore[reportAttributeAccessIssue]
    own, parts = phases.neurons.gathered(before)[:, None], phases.waiting.all
    assert parts is not None
    inside = (own >= parts.low - 1e-6) & (own <= parts.high + 1e-6) & (own * parts.sign >= -1e-6)
    return inside.all(2).any(1)


def perceptron(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.LeakyReLU(0.1), nn.Linear(12, 3)).eval()
    return net, torch.full((6,), -1.0), torch.ones(6)


def narrower(phases: Phases, whole: Parts) -> int:
    """Intervals that are open still, and were clipped."""
    parts = phases.waiting.all
    assert parts is not None
    clipped = parts.high - parts.low < 0.99 * (whole.high - whole.low)[:1]
    return int((clipped & (parts.low < 0) & (parts.high > 0)).sum())


@pytest.mark.parametrize("kind", ["perceptron", "residual"])
def test_no_counterexample_leaves_the_open_parts(kind: str, residual_net) -> None:
    if kind == "perceptron":
        net, low, high = perceptron(3)
    else:
        net, x = residual_net
        low, high = x[0] - 0.3, x[0] + 0.3
    points = low + (high - low) * torch.rand(20_000, *low.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gap = (net(points) @ torch.eye(3)[:, :2]).diff(dim=1)[:, 0].neg()
    offset = -float(gap.quantile(0.01))
    counterexamples = points[gap + offset < -1e-4]
    assert len(counterexamples) > 100
    graph, phases = parts_of(net, low, high, offset)
    whole, lost = phases.waiting.all, 0
    assert whole is not None
    for _ in range(8):
        phases.step()
        assert phases.count
        lost += int((~held(graph, phases, counterexamples)).sum())
    assert len(phases.waiting) > 8
    assert narrower(phases, whole) > 20
    assert lost == 0
