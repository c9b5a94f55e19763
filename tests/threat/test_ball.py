"""Balls: the projection is the nearest point of ball and box together, and every other operation stays inside."""

import math
import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance, parse_radius

NORMS = ["linf", "l2", "l1", "l0"]
CONVEX = ["linf", "l2", "l1"]


def points(seed: int, spread: float, shape: tuple[int, ...] = (5, 3, 4, 2), dtype=torch.float64):
    """(x in the box with some coordinates exactly on its faces, moved anywhere) of `shape`."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator, dtype=dtype)
    x = ((x * 1.4) - 0.2).clamp(0, 1)
    return x, x + spread * torch.randn(shape, generator=generator, dtype=dtype)


def radius_for(norm: str, share: float, x: torch.Tensor) -> float:
    """A radius that binds for `share` of a unit move."""
    size = x[0].numel()
    return {
        "linf": 0.9 * share,
        "l2": share * math.sqrt(size) / 2,
        "l1": share * size / 4,
        "l0": 1 + int(share * size),
    }[norm]


@pytest.mark.parametrize("norm", CONVEX)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.9), spread=st.sampled_from([0.05, 0.5, 3.0]))
def test_projection_is_the_nearest_point_by_a_solver(norm, seed, share, spread):
    x, moved = points(seed, spread, (2, 7))
    radius = radius_for(norm, share, x)
    ours = Ball(norm, radius).project(moved, x)
    order = {"linf": "inf", "l2": 2, "l1": 1}[norm]
    for row in range(len(x)):
        z = cp.Variable(x.shape[1])
        inside = [cp.norm(z - x[row].numpy(), order) <= radius, z >= 0, z <= 1]
        problem = cp.Problem(cp.Minimize(cp.sum_squares(z - moved[row].numpy())), inside)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": then it is no judge
            problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10)
        assume(problem.status == "optimal")
        np.testing.assert_allclose(ours[row].numpy(), np.asarray(z.value), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 6))
def test_l0_projection_beats_every_other_choice_of_coordinates(seed, count):
    x, moved = points(seed, 0.7, (1, 6))
    ours = Ball("l0", count).project(moved, x)
    clipped = moved.clamp(0, 1)
    best = min(
        float(((torch.where(torch.tensor([bool(mask >> j & 1) for j in range(6)]), clipped, x) - moved) ** 2).sum())
        for mask in range(64)
        if mask.bit_count() <= count
    )
    assert float(((ours - moved) ** 2).sum()) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 0.9), spread=st.sampled_from([0.0, 0.05, 0.5, 3.0]))
def test_projection_lands_inside_and_stays(norm, dtype, seed, share, spread):
    x, moved = points(seed, spread, dtype=dtype)
    ball = Ball(norm, radius_for(norm, share, x))
    once = ball.project(moved, x)
    assert once.dtype == dtype
    assert ball.contains(once, x).all()
    torch.testing.assert_close(ball.project(once, x), once, rtol=0, atol=1e-6 if dtype is torch.float32 else 1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_at_image_size_is_exact_to_rounding(norm):
    """The optimality conditions in float64 on the float32 answer, at the size of a colour image."""
    x, moved = points(3, 0.3, (8, 3, 32, 32), torch.float32)
    ball = Ball(norm, {"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 30}[norm])
    ours = ball.project(moved, x)
    truth = ball.project(moved.double(), x.double())
    torch.testing.assert_close(ours.double(), truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.9))
def test_projection_moves_with_permutation_and_with_scale(norm, seed, share):
    x, moved = points(seed, 0.5, (3, 12))
    radius = radius_for(norm, share, x)
    ours = Ball(norm, radius).project(moved, x)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(Ball(norm, radius).project(moved[:, order], x[:, order]), ours[:, order])
    scaled = Ball(norm, radius if norm == "l0" else 3 * radius, low=-1.0, high=2.0)
    torch.testing.assert_close(scaled.project(3 * moved - 1, 3 * x - 1), 3 * ours - 1)


@pytest.mark.parametrize("norm", NORMS)
def test_points_inside_are_left_alone(norm):
    x, _ = points(0, 0.0)
    ball = Ball(norm, radius_for(norm, 0.2, x))
    inside = ball.sample(x, chance.example_keys(x, 0))
    assert ball.contains(inside, x).all()
    torch.testing.assert_close(ball.project(inside, x), inside, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_radius_zero_moves_nothing(norm):
    x, moved = points(1, 0.5)
    assert torch.equal(Ball(norm, 0).project(moved, x), x)
    torch.testing.assert_close(Ball(norm, 0).sample(x, chance.example_keys(x, 0)), x)


@pytest.mark.parametrize("norm", NORMS)
def test_sample_fills_the_ball_and_belongs_to_the_example(norm):
    x = torch.full((2000, 3), 0.5)
    keys = torch.arange(2000)
    ball = Ball(norm, 2 if norm == "l0" else 0.2)
    drawn = ball.sample(x, keys)
    assert ball.contains(drawn, x).all()
    assert torch.equal(ball.sample(x[7:9], keys[7:9]), drawn[7:9])
    delta = drawn - x
    assert delta.mean(0).abs().max() < (0.03 if norm == "l0" else 0.01)
    if norm != "l0":
        # in three dimensions half of the volume lies within 2^(-1/3) of the radius
        within = ball.distance(drawn, x) <= 0.2 * 0.5 ** (1 / 3)
        assert abs(float(within.double().mean()) - 0.5) < 0.05


@pytest.mark.parametrize("norm", CONVEX)
def test_ascent_is_the_best_unit_step(norm):
    gradient = torch.tensor([[3.0, -4.0, 0.0, 1.0]])
    step = Ball(norm, 1 if norm != "linf" else 0.5).ascent(gradient, torch.full((1, 4), 0.5))
    dual = {"linf": 8.0, "l2": math.sqrt(26), "l1": 4.0}[norm]
    assert float((gradient * step).sum()) == pytest.approx(dual)
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    assert float(torch.linalg.vector_norm(step, ord=order)) == pytest.approx(1)


@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
def test_ascent_wastes_nothing_on_coordinates_at_the_wall(norm):
    gradient, moved = torch.tensor([[5.0, 1.0, -7.0]]), torch.tensor([[1.0, 0.5, 0.0]])
    step = Ball(norm, 1).ascent(gradient, moved)
    assert torch.equal(step, torch.tensor([[0.0, 1.0, 0.0]]))


def test_ascent_takes_one_number_of_coordinates_for_all_or_one_each():
    gradient = torch.tensor([[4.0, -3.0, 2.0, 1.0]]).repeat(2, 1)
    ball, moved = Ball("l1", 1.0), torch.full((2, 4), 0.5)
    each = ball.ascent(gradient, moved, torch.tensor([1, 4]))
    assert torch.equal(each, torch.tensor([[1.0, 0, 0, 0], [0.25, -0.25, 0.25, 0.25]]))
    assert torch.equal(ball.ascent(gradient, moved, 4)[1], each[1])


@pytest.mark.parametrize("norm", NORMS)
def test_a_zero_gradient_gives_a_zero_step(norm):
    zero = torch.zeros(2, 5)
    assert torch.equal(Ball(norm, 1 if norm != "linf" else 0.1).ascent(zero, zero + 0.5), zero)


@pytest.mark.parametrize("norm", NORMS)
def test_contains_refuses_what_left_ball_or_box(norm):
    x = torch.full((3, 4), 0.5)
    ball = Ball(norm, 1 if norm == "l0" else 0.3)
    step = torch.tensor([0.3, 0, 0, 0])
    moved = torch.stack([x[0] + step, x[1] + step + torch.tensor([0, 0.3, 0, 0]), x[2]])
    moved[2, 0] = 1.2
    expected = [True, norm == "linf", False]
    assert ball.contains(moved, x).tolist() == expected


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.3", 0.3), (0.5, 0.5), ("12", 12.0)])
def test_radius_is_a_number_or_a_fraction(text, value):
    assert parse_radius(text) == value


@pytest.mark.parametrize("text", ["8/0", "eps", "1/2/3", ""])
def test_radius_that_is_no_number_is_refused(text):
    with pytest.raises(StackelbergError, match="radius must be a number or a fraction like 8/255"):
        parse_radius(text)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("linf", -0.03), "radius must be a number >= 0 in input units, got -0.03; for 8 grey levels pass 8/255"),
        (("l2", math.nan), "radius must be a number >= 0"),
        (("linf", 1.0), "covers the whole input range"),
        (("linf", 8.0), "covers the whole input range"),
        (("l3", 0.1), "unknown norm 'l3'"),
        (("l2", 0.5, 1.0, 0.0), "low must be below high"),
    ],
)
def test_a_ball_that_makes_no_sense_is_refused(arguments, sentence):
    with pytest.raises(StackelbergError, match=sentence):
        Ball(*arguments)


def test_with_radius_keeps_the_rest():
    assert Ball("l2", 0.5, -1, 1).with_radius(2) == Ball("l2", 2, -1, 1)
