"""Sets of weights: every projection ends inside, rounding included; nothing outside the budget moves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stackelberg.errors import StackelbergError
from stackelberg.threat import WeightBall


def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(7, 5, generator=draw) * 10.0 ** float(torch.randint(-3, 3, (1,), generator=draw))
    weight[0, :2] = 0
    return weight, weight + torch.randn(7, 5, generator=draw) * weight.norm() * 0.3


@given(
    seed=st.integers(0, 10_000), norm=st.sampled_from(["linf", "l2", "l0"]), size=st.sampled_from([0.001, 0.01, 0.3])
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_kept_exactly_after_a_projection(seed: int, norm: str, size: float) -> None:
    ball = WeightBall(norm, size)
    weight, moved = pair(seed)
    inside = ball.project(moved, weight)
    assert ball.spent(inside, weight) <= size
    assert torch.equal(ball.project(inside, weight), inside)
    draw = torch.Generator().manual_seed(seed)
    assert ball.spent(ball.sample(weight, draw), weight) <= size
    assert ball.spent(ball.shuffled(inside, weight, draw), weight) <= size * (1 + 1e-12)


def test_projections_are_the_nearest_points() -> None:
    weight, moved = pair(0)
    l2 = WeightBall("l2", 0.1).project(moved, weight)
    torch.testing.assert_close(l2, weight + 0.1 * weight.norm() * (moved - weight) / (moved - weight).norm())
    linf = WeightBall("linf", 0.1).project(moved, weight)
    torch.testing.assert_close(linf, moved.clamp(weight - 0.1 * weight.abs(), weight + 0.1 * weight.abs()))
    assert torch.equal(linf[0, :2], weight[0, :2])  # zero weights cannot move
    l0 = WeightBall("l0", 0.1).project(moved, weight)
    changed = l0 != weight
    assert changed.sum() == 3
    assert (moved - weight).abs()[changed].min() >= (moved - weight).abs()[~changed].max()
    assert torch.equal(l0[changed], moved[changed])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_changes_are_as_large_as_allowed_and_shuffled_ones_as_the_attack(norm: str) -> None:
    weight, moved = pair(3)
    ball, draw = WeightBall(norm, 0.02), torch.Generator().manual_seed(0)
    assert ball.spent(ball.sample(weight, draw), weight) == pytest.approx(0.02, rel=1e-3)
    inside = ball.project(moved, weight)
    other = ball.shuffled(inside, weight, draw)
    assert not torch.equal(other, inside)
    assert float((other - weight).norm()) == pytest.approx(float((inside - weight).norm()), rel=1e-3)


def test_shuffled_sparse_changes_are_the_same_numbers_elsewhere() -> None:
    weight, moved = pair(5)
    ball = WeightBall("l0", 0.1)
    inside = ball.project(moved, weight)
    other = ball.shuffled(inside, weight, torch.Generator().manual_seed(1))
    assert ball.spent(other, weight) == ball.spent(inside, weight)
    torch.testing.assert_close((other - weight).sum(), (inside - weight).sum())


@pytest.mark.parametrize(
    ("norm", "size", "words"), [("l1", 0.1, "norm of the weights"), ("l2", 1.0, r"lie in \[0, 1\)")]
)
def test_what_is_no_budget_is_refused(norm: str, size: float, words: str) -> None:
    with pytest.raises(StackelbergError, match=words):
        WeightBall(norm, size)
