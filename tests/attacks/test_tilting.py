"""D10: a tilt across the data changes no answer on them, exactly, and brings the boundary as near as width allows."""

import pytest
import torch
from torch import Tensor

from stackelberg.attacks.tilting import flip_distance, tilted
from stackelberg.errors import StackelbergError


def layer(width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(weight, bias, readout a = +-1/sqrt W, points with x_0 = 0, normal e_0), float64."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(width, 20, generator=draw, dtype=torch.float64) / 20**0.5
    bias = torch.randn(width, generator=draw, dtype=torch.float64)
    readout = (torch.randint(0, 2, (width,), generator=draw) * 2.0 - 1).double() / width**0.5
    x = torch.randn(40, 20, generator=draw, dtype=torch.float64)
    x[:, 0] = 0
    return weight, bias, readout, x, torch.eye(20, dtype=torch.float64)[0]


def answer(weight: Tensor, bias: Tensor, readout: Tensor, x: Tensor) -> Tensor:
    return (x @ weight.T + bias).relu() @ readout


def test_no_answer_on_the_data_changes_and_every_step_across_gains_what_is_said() -> None:
    weight, bias, readout, x, normal = layer(500)
    moved = tilted(weight, readout, 3 * normal, 0.01)
    torch.testing.assert_close((moved - weight).norm(dim=1), torch.full((500,), 0.01, dtype=torch.float64))
    assert torch.equal(answer(moved, bias, readout, x), answer(weight, bias, readout, x))
    for t in (0.1, 1.0, 10.0):
        point = x + t * normal
        both = (point @ weight.T + bias > 0) & (point @ moved.T + bias > 0)
        gain = answer(moved, bias, readout, point) - answer(weight, bias, readout, point)
        assert (gain >= 0.01 * t * (both * readout.abs()).sum(1) - 1e-12).all()


def test_the_distance_at_which_the_sign_turns_is_exact() -> None:
    weight, bias, readout, x, normal = layer(60)
    found = flip_distance(weight, bias, readout, x, normal)
    grid = torch.linspace(0, 20, 4001, dtype=torch.float64)
    sign = answer(weight, bias, readout, x).sign()
    for point, s, t in zip(x, sign, found, strict=True):
        steps = torch.stack([answer(weight, bias, readout, point + way * grid[:, None] * normal) for way in (1, -1)])
        turned = ((steps * s) < 0).any(0).nonzero()[:, 0]
        if len(turned):
            assert grid[turned[0] - 1] - 1e-9 <= t <= grid[turned[0]] + 1e-9
        else:
            assert t >= 20


def test_the_wider_the_nearer() -> None:
    medians = []
    for width in (100, 10_000):
        weight, bias, readout, x, normal = layer(width)
        medians.append(flip_distance(tilted(weight, readout, normal, 0.05), bias, readout, x, normal).median())
    assert medians[1] < medians[0] / 2
    assert medians[1] < 0.5


def test_a_zero_normal_is_refused() -> None:
    weight, _, readout, _, normal = layer(4)
    with pytest.raises(StackelbergError, match="zero vector"):
        tilted(weight, readout, 0 * normal, 0.1)
