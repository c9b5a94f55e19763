"""For a classifier that is not constant: the theorem's data, label and adversary at every example, in every norm."""

import math

import pytest
import torch
from torch import nn

from stackelberg import memorize, models
from stackelberg.attacks import inevitable
from stackelberg.attacks.reading import classes_of
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball

X = torch.rand(80, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    return models.build("mlp", 3, (1, 4, 4), width=24, seed=1).eval()


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    said = classes_of(net(), X)
    assert len(said.unique()) > 1
    return said


@pytest.mark.parametrize(("norm", "radius"), [("linf", 1e-3), ("l2", 1e-3), ("l1", 1e-2), ("l0", 1)])
def test_every_example_is_right_and_has_an_adversary_within_the_radius(norm: str, radius: float, labels) -> None:
    ball = Ball(norm, radius)
    found = inevitable(net(), X, labels, ball)
    assert found.accuracy(net()).value == 1
    assert found.adversaries(net()).value == 1
    assert (found.distance <= radius).all()
    assert ball.contains(found.moved, found.x).all()
    apart = ball.distance(found.end, found.start)
    most = torch.tensor([max(0, math.ceil(math.log2(float(d) / radius) - 1e-6)) for d in apart])
    assert (found.halvings <= most + (norm == "l0")).all()  # an odd number of coordinates has no half


def test_on_a_line_the_boundary_is_found_where_it_is() -> None:
    """C(x) = [sum x > 8]: on the segment from a to b the crossing is known."""
    half = nn.Linear(16, 2)
    with torch.no_grad():
        half.weight.copy_(torch.stack([torch.zeros(16), torch.ones(16)]))
        half.bias.copy_(torch.tensor([0.0, -8.0]))
    model = nn.Sequential(nn.Flatten(), half).eval()
    a, b = torch.full((1, 1, 4, 4), 0.25), torch.full((1, 1, 4, 4), 1.0)
    found = inevitable(model, a, torch.tensor([0]), Ball("linf", 1e-4), b)
    assert float(found.x.max()) <= 0.5 < float(found.moved.max())
    assert found.halvings.tolist() == [math.ceil(math.log2(0.75 / 1e-4))]


def test_another_network_is_right_around_all_of_it(labels) -> None:
    found = inevitable(net(), X, labels, Ball("linf", 1e-3))
    apart = memorize.separation(found.x, found.y, norm="linf").value
    assert apart > 2e-3
    other = memorize.optimal(found.x, found.y, norm="linf")
    assert other.radius >= 1e-3
    assert (other.predict(found.moved) == found.y).all()


def test_what_is_read_wrongly_is_left_out_and_the_seed_decides_the_ends(labels) -> None:
    wrong = labels.clone()
    wrong[:5] = (labels[:5] + 1) % 3
    found = inevitable(net(), X, wrong, Ball("l2", 0.01), seed=3)
    assert found.index.min() >= 5
    again = inevitable(net(), X, wrong, Ball("l2", 0.01), seed=3)
    assert torch.equal(found.x, again.x)
    assert not torch.equal(found.x, inevitable(net(), X, wrong, Ball("l2", 0.01), seed=4).x)
    assert (found.fell_to != found.y).all()


def test_a_constant_classifier_escapes_and_a_radius_below_rounding_is_refused(labels) -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([1.0, 0.0, 0.0]).expand(len(x), 3)

    with pytest.raises(StackelbergError, match="does not give one class to all"):
        inevitable(Constant(), X, torch.zeros(80, dtype=torch.long), Ball("linf", 0.01))
    with pytest.raises(StackelbergError, match=r"radius must be at least 9\.54e-07 in linf"):
        inevitable(net(), X, labels, Ball("linf", 1e-8))
