"""Radii of the curve, and the radius at which all inputs can be made alike."""

import pytest
import torch

from stackelberg.report.radii import even_radius, radii_for
from stackelberg.threat import Ball, Norm

SHAPE = (3, 4, 4)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_at_the_even_radius_every_input_reaches_mid_grey_and_below_it_some_do_not(norm: Norm) -> None:
    radius = even_radius(Ball(norm, 0.1), SHAPE)
    ball = Ball(norm, radius)
    corner = torch.zeros(1, *SHAPE)
    grey = torch.full_like(corner, 0.5)
    assert ball.contains(grey, corner).all()
    assert not ball.with_radius(radius * 0.99).contains(grey, corner).any()


@pytest.mark.parametrize("ball", [Ball("linf", 8 / 255), Ball("linf", 0.4), Ball("l2", 0.5), Ball("l0", 3.0)], ids=str)
def test_radii_rise_from_zero_through_the_balls_own(ball: Ball) -> None:
    radii = radii_for(ball, SHAPE)
    assert radii[0] == 0
    assert ball.radius in radii
    assert list(radii) == sorted(set(radii))
    assert radii[-1] <= max(ball.radius, even_radius(ball, SHAPE))
    assert ball.norm != "l0" or all(radius == int(radius) for radius in radii)
