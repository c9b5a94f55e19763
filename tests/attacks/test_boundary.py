"""The nearest point of a hyperplane in the box: feasible, and no other feasible point is nearer."""

import pytest
import torch

from stackelberg.attacks.boundary import dual_size, to_boundary
from stackelberg.threat import Ball

BALLS = [Ball("linf", 0.5), Ball("l2", 0.5), Ball("l1", 0.5)]


def case(n: int = 40, size: int = 7):
    generator = torch.Generator().manual_seed(2)
    slope = torch.randn(n, size, generator=generator, dtype=torch.float64)
    slope[:5, :3] = 0
    point = torch.rand(n, size, generator=generator, dtype=torch.float64)
    point[5:9] = point[5:9].round()
    gap = torch.randn(n, generator=generator, dtype=torch.float64) * 0.5
    gap[:8] *= 40
    return slope, gap, point


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_it_lands_on_the_boundary_wherever_the_box_reaches_it(ball):
    slope, gap, point = case()
    step = to_boundary(slope, gap, point, ball)
    left = gap + (slope * step).sum(1)
    help_ = -gap.sign()[:, None] * slope.sign()
    reach = (slope.abs() * torch.where(help_ > 0, 1 - point, point)).sum(1)
    possible = reach > gap.abs()
    assert 20 < possible.sum() < 40
    assert (left[possible].abs() < 1e-9).all()
    torch.testing.assert_close(left[~possible].abs(), (gap.abs() - reach)[~possible])
    assert ((point + step) >= -1e-12).all()
    assert ((point + step) <= 1 + 1e-12).all()


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_no_other_point_of_the_boundary_is_nearer(ball):
    slope, gap, point = (part[8:] for part in case())
    slope, point, gap = slope.abs() + 1e-3, point.clamp(0.1, 0.9), -gap.abs() * 0.2
    size = ball.distance(to_boundary(slope, gap, point, ball), torch.zeros_like(point))
    generator = torch.Generator().manual_seed(3)
    for _ in range(300):
        other = torch.rand(point.shape, generator=generator, dtype=torch.float64) * (1 - point)
        scale = (-gap / (slope * other).sum(1))[:, None]
        other = other * scale
        feasible = (point + other <= 1).all(1)
        assert (ball.distance(other, torch.zeros_like(other)) >= size - 1e-9)[feasible].all()
    assert (size >= -gap / dual_size(slope, ball.norm) - 1e-9).all()


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_where_the_box_is_far_the_distance_is_the_gap_over_the_dual_norm(ball):
    slope, gap, _ = (part[8:] for part in case())
    middle = torch.full_like(slope, 0.5)
    gap = gap * 0.1
    step = to_boundary(slope, gap, middle, ball)
    free = ((middle + step) > 0).all(1) & ((middle + step) < 1).all(1)
    assert free.sum() > 20
    wanted = gap.abs() / dual_size(slope, ball.norm)
    torch.testing.assert_close(ball.distance(step, torch.zeros_like(step))[free], wanted[free])
