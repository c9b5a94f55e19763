"""Randomised smoothing: exact on linear classifiers, right as often as it says, the same in any batch."""

import math

import pytest
import torch
from torch import nn

from stackelberg.certify.smoothing import ABSTAIN, lower_bound, smooth
from stackelberg.errors import StackelbergError


def linear(seed: int = 0, dimensions: int = 12, classes: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(dimensions, classes))


def exact_radius(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Of two classes: the distance to the plane, which smoothing does not move (Cohen et al. 2019, appendix B)."""
    layer = next(part for part in net.modules() if isinstance(part, nn.Linear))
    apart = (layer.weight[0] - layer.weight[1]).double()
    logits = net(x).double()
    return (logits[:, 0] - logits[:, 1]).abs() / apart.norm()


def inputs(count: int, dimensions: int = 12, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, 1, dimensions, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_linear_classifier_gets_its_distance_to_the_plane() -> None:
    net, x = linear(), inputs(40)
    y = net(x).argmax(1)
    found, exact = smooth(net, x, y, 0.3, n=5000), exact_radius(net, x)
    told = found.predicted != ABSTAIN
    assert told.sum() > 30
    assert (found.radius[told] <= exact[told]).all()
    assert (found.predicted[told] == y[told]).all()
    # sampling error of p at level alpha: 3.1 standard errors, in units of the radius
    far = exact[told] / 0.3
    slack = 0.3 * 8 * torch.sqrt(torch.special.ndtr(far) * (1 - torch.special.ndtr(far)) / 5000)
    slack = slack / (torch.exp(-(far**2) / 2) / math.sqrt(2 * math.pi))
    near = far < 2
    assert near.sum() > 10
    assert (exact[told] - found.radius[told] <= slack)[near].all()


@torch.no_grad()
def test_a_statement_is_wrong_no_more_often_than_alpha() -> None:
    """2000 independent certificates of one point at alpha = 0.1: the radius exceeds the exact one in at most 10 %."""
    net = linear(seed=3)
    x = inputs(1, seed=5).expand(2000, -1, -1, -1) + 0.0
    # equal examples would share a key: a shift along the plane changes the key and no probability
    layer = next(part for part in net.modules() if isinstance(part, nn.Linear))
    apart = layer.weight[0] - layer.weight[1]
    along = torch.randn(2000, 12, generator=torch.Generator().manual_seed(2))
    along = along - (along @ apart)[:, None] * apart / apart.dot(apart)
    x = x + along.view_as(x)
    y = net(x).argmax(1)
    found = smooth(net, x, y, 0.5, n0=20, n=200, alpha=0.1)
    wrong = int(((found.radius > exact_radius(net, x) + 1e-6) | ((found.predicted != y) & (found.radius > 0))).sum())
    assert 100 <= wrong <= 200 + 4 * math.sqrt(2000 * 0.09)  # above, and not by standing far below


@torch.no_grad()
def test_an_example_gets_the_same_in_any_batch_and_another_by_another_seed() -> None:
    net, x = linear(), inputs(6)
    y = net(x).argmax(1)
    whole = smooth(net, x, y, 0.3, n0=30, n=300)
    alone = smooth(net, x[2:4], y[2:4], 0.3, n0=30, n=300)
    assert torch.equal(whole.radius[2:4], alone.radius)
    other = smooth(net, x, y, 0.3, n0=30, n=300, seed=1)
    assert not torch.equal(whole.radius, other.radius)


@torch.no_grad()
def test_a_point_on_the_boundary_abstains_and_a_wrong_label_is_never_held() -> None:
    net = linear()
    x = inputs(3)
    layer = next(part for part in net.modules() if isinstance(part, nn.Linear))
    apart = layer.weight[0] - layer.weight[1]
    shift = (net(x)[:, 0] - net(x)[:, 1]) / apart.dot(apart)
    edge = x - (shift[:, None] * apart).view_as(x)
    found = smooth(net, edge, torch.zeros(3, dtype=torch.long), 0.3, n=1000)
    assert found.predicted.tolist() == [ABSTAIN] * 3
    assert found.radius.tolist() == [0, 0, 0]
    wrong = 1 - net(x).argmax(1)
    assert not smooth(net, x, wrong, 0.05, n=500).holds_within(0.0).any()


def test_the_bound_of_only_hits_is_the_root_of_alpha() -> None:
    assert lower_bound(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000), rel=1e-9)
    assert lower_bound(0, 10, 0.001) == 0


def test_the_model_comes_back_and_no_example_is_fine() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3)).train()
    smooth(net, inputs(2), torch.tensor([0, 1]), 0.1, n=64)
    assert net.training
    assert len(smooth(net, inputs(0), torch.zeros(0, dtype=torch.long), 0.1).radius) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sigma": 0.0}, "sigma must be a number > 0"),
        ({"sigma": 0.1, "n": 0}, "n0 and n must be at least 1"),
        ({"sigma": 0.1, "alpha": 0.6}, r"alpha must lie in \(0, 0.5\)"),
    ],
)
def test_values_out_of_range_are_named(options: dict, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        smooth(linear(), inputs(1), torch.tensor([0]), **options)
