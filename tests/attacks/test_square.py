"""Square: needs no gradient, spends its whole budget, and forgets an example once it has fallen."""

import pytest
import torch

from stackelberg.attacks import Hunt, Oracle, Square, untouched
from stackelberg.attacks.square import _pattern, _shrink, _side, _stripes, _tiles, _transfer, _window
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import margin


@pytest.mark.parametrize("ball", [Ball("linf", 0.2), Ball("l2", 1.2)], ids=lambda b: b.norm)
def test_it_breaks_and_more_queries_break_more(digits, ball):
    net, x, y = digits
    left = [int((net(Square(ball, q)(net, x, y)).argmax(1) == y).sum()) for q in (1, 30, 300)]
    assert left[0] >= left[1] >= left[2]
    assert left[2] < left[0] - 20


def test_it_asks_for_no_gradient_and_counts_its_queries(digits):
    net, x, y = digits
    with untouched(net):
        hunt = Hunt(Oracle(net, "float32", view="fast"), Ball("linf", 0.001), x, y, chance.example_keys(x, 0))
        hunt.open()
        standing = len(hunt.standing())
        Square(hunt.ball, 7).search(hunt)
    assert hunt.oracle.backwards == 0
    assert hunt.oracle.forwards == len(x) + 7 * standing


def test_the_score_never_falls(digits):
    net, x, y = digits
    few = margin(net(Square(Ball("linf", 0.02), 20)(net, x, y)), y)
    assert (few >= margin(net(x), y) - 1e-5).all()


def sheets(channels: int = 2, height: int = 9, width: int = 11):
    sheet = torch.rand(4, channels, height, width, generator=torch.Generator().manual_seed(0))
    return sheet, chance.example_keys(sheet, 0)


def test_stripes_are_columns_of_full_size():
    sheet, keys = sheets()
    delta = _stripes(sheet, keys, Ball("linf", 0.1)) - sheet
    torch.testing.assert_close(delta.abs(), torch.full_like(delta, 0.1))
    torch.testing.assert_close(delta, delta[:, :, :1].expand_as(delta))


def test_a_window_is_one_rectangle_of_full_size():
    sheet, keys = sheets()
    delta = _window(sheet, sheet, keys, (3, 4), Ball("linf", 0.1)) - sheet
    changed = delta[:, 0].abs() > 0.05
    assert changed.flatten(1).sum(1).tolist() == [12] * 4
    assert changed.any(2).sum(1).tolist() == [3] * 4
    assert changed.any(1).sum(1).tolist() == [4] * 4
    torch.testing.assert_close(delta[:, 0][changed].abs(), torch.full((48,), 0.1))


@pytest.mark.parametrize("side", [(1, 1), (2, 2), (3, 3), (6, 6), (1, 5)])
def test_the_l2_pattern_has_two_halves_and_norm_one(side):
    pattern = _pattern(side, torch.device("cpu"))
    assert float(pattern.norm()) == pytest.approx(1)
    if side[1] > 1:
        assert (pattern[:, : side[1] // 2] > 0).all()
        assert (pattern[:, side[1] // 2 :] < 0).all()


def test_l2_proposals_spend_the_whole_budget():
    sheet, keys = sheets()
    ball = Ball("l2", 0.7)
    moved = _tiles(sheet, keys, ball)
    torch.testing.assert_close(ball.distance(moved, sheet), torch.full((4,), 0.7))
    for step, side in enumerate([(5, 5), (3, 3), (2, 2), (1, 1)]):
        moved = _transfer(moved, sheet, chance.fold(keys, step), side, ball)
        torch.testing.assert_close(ball.distance(moved, sheet), torch.full((4,), 0.7), rtol=1e-4, atol=0)


def test_windows_shrink_as_published():
    """Halved after 10, 50, 200, ..., 8000 of 10,000 queries, in proportion for other budgets."""
    assert [_shrink(q, 10_000) for q in (10, 11, 51, 201, 8001)] == [1, 0.5, 0.25, 0.125, 2**-9]
    assert [_shrink(q, 1000) for q in (1, 2, 6, 21, 801)] == [1, 0.5, 0.25, 0.125, 2**-9]


def test_window_sides():
    assert _side((32, 32), 0.8) == (29, 29)
    assert _side((32, 32), 1e-9) == (1, 1)
    assert _side((4, 16), 1.0) == (3, 8)
    assert _side((1, 20), 0.25) == (1, 5)


@pytest.mark.parametrize("norm", ["l1", "l0"])
def test_other_norms_are_refused(norm):
    with pytest.raises(StackelbergError, match=f"square is defined for linf and l2, got norm '{norm}'"):
        Square(Ball(norm, 1))


@pytest.mark.parametrize("options", [{"queries": 0}, {"restarts": 0}, {"area": 0.0}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(StackelbergError, match="queries and restarts must be at least 1 and area in"):
        Square(Ball("linf", 0.1), **options)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_several_proposals_at_once_are_about_as_strong_for_as_many_queries(digits, norm):
    net, x, y = digits
    ball = Ball(norm, {"linf": 0.15, "l2": 1.0}[norm])
    asked = []

    class Counted(torch.nn.Module):
        def forward(self, x):
            asked.append(len(x))
            return net(x)

    fallen = {}
    for at_once in (1, 5):
        moved = Square(ball, 400, at_once=at_once, stop=False)(net, x, y)
        fallen[at_once] = int((net(moved).argmax(1) != y).sum())
    assert fallen[5] >= 0.9 * fallen[1] - 2
    Square(ball, 401, at_once=5, stop=False)(Counted(), x[:1], y[:1])
    assert 5 in asked


def test_at_once_must_be_positive():
    with pytest.raises(StackelbergError, match="at_once must be at least 1, got 0"):
        Square(Ball("linf", 0.1), at_once=0)
