"""Whole grey levels that never leave the ball, whatever its norm and radius."""

import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.poison.grid import Grid
from stackelberg.threat import Ball, chance

BALLS = [
    Ball("linf", 8 / 255), Ball("linf", 0.0321), Ball("linf", 0.3), Ball("linf", 1 / 255), Ball("l2", 0.5),
    Ball("l2", 3.0), Ball("l1", 2.0), Ball("l1", 40.0), Ball("l0", 5),
]  # fmt: skip


def images(n: int = 6) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 3, 8, 8), generator=draw).float() / 255


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_rounded_image_is_in_ball_and_box(ball: Ball, seed: int) -> None:
    x = images()
    moved = ball.sample(x, chance.example_keys(x, seed))
    back = Grid(ball).bytes(moved, x).double() / 255
    assert ball.contains(back, (x * 255).round().double() / 255).all()


def test_in_linf_it_is_the_nearest_grid_point_that_the_ball_allows() -> None:
    ball, x = Ball("linf", 2.6 / 255), torch.full((1, 1, 1, 4), 100 / 255)
    moved = torch.tensor([100.4, 101.6, 102.6, 97.4]).view(1, 1, 1, 4) / 255
    assert Grid(ball).bytes(moved, x).flatten().tolist() == [100, 102, 102, 98]
    assert Grid(ball).levels == 2


def test_a_radius_of_whole_levels_is_used_in_full() -> None:
    for levels in (1, 4, 8, 16, 76):
        assert Grid(Ball("linf", levels / 255)).levels == levels


def test_the_gradient_passes_straight_through() -> None:
    x = images(1)
    moved = (x + 0.01).clamp(0, 1).requires_grad_()
    rounded = Grid(Ball("linf", 8 / 255)).straight(moved, x)
    torch.testing.assert_close((rounded * 255).round(), rounded * 255, atol=1e-4, rtol=0)
    (slope,) = torch.autograd.grad((rounded * torch.arange(rounded.numel()).view_as(rounded)).sum(), moved)
    assert torch.equal(slope.flatten(), torch.arange(slope.numel()).float())


@pytest.mark.parametrize(
    ("ball", "sentence"),
    [
        (Ball("linf", 0), "radius 0 allows no change"),
        (Ball("linf", 0.003), "moves by at least 1/255; for 8 grey levels pass 8/255"),
        (Ball("l0", 0), "at least one pixel value"),
        (Ball("linf", 0.1, -1, 1), "got a ball with low=-1, high=1"),
    ],
)
def test_a_ball_without_another_image_is_refused(ball: Ball, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        Grid(ball)
