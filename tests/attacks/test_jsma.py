"""JSMA: the published pair at every step, saturated pixels out, and a budget that is kept."""

import copy

import pytest
import torch

from stackelberg.attacks import JSMA
from stackelberg.attacks.jsma import best_pair
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball


def test_the_best_pair_is_that_of_two_loops():
    generator = torch.Generator().manual_seed(0)
    up, down = torch.randn(30, 9, generator=generator), torch.randn(30, 9, generator=generator) + 0.5
    free = torch.rand(30, 9, generator=generator) < 0.7
    found = best_pair(up, down, free)
    for row in range(30):
        best, pair = 0.0, [-1, -1]
        for p in range(9):
            for q in range(p + 1, 9):
                a, b = float(up[row, p] + up[row, q]), float(down[row, p] + down[row, q])
                if free[row, p] and free[row, q] and a > 0 > b and -a * b > best:
                    best, pair = -a * b, [p, q]
        assert found[row].tolist() == pair


@pytest.mark.parametrize("slant", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("grid", [False, True])
def test_no_pair_is_better_than_the_best_of_those_weighed(slant, grid):
    """Against all pairs at once, also where slopes agree, oppose each other or are equal."""
    generator = torch.Generator().manual_seed(1)
    up, noise = torch.randn(40, 60, generator=generator), torch.randn(40, 60, generator=generator)
    down = slant * up + 0.3 * noise if slant else noise
    up, down = (up.round(), down.round()) if grid else (up, down)
    free = torch.rand(40, 60, generator=generator) < 0.5
    open_pair = (free[:, :, None] & free[:, None]).triu(1)
    gain, loss = up[:, :, None] + up[:, None], down[:, :, None] + down[:, None]
    worth = torch.where(open_pair & (gain > 0) & (loss < 0), -gain * loss, 0.0).flatten(1).amax(1)
    p, q = best_pair(up, down, free).T
    row = torch.arange(40)
    found = torch.where(p >= 0, -gain[row, p, q] * loss[row, p, q], 0.0)
    torch.testing.assert_close(found, worth)
    assert open_pair[row, p, q][p >= 0].all()


def test_without_a_helping_pair_there_is_none():
    assert best_pair(-torch.ones(1, 4), -torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool)).tolist() == [[-1, -1]]


def test_on_probabilities_the_pair_is_the_published_one(digits):
    net, x, y = digits
    target = (y + 3) % 10
    moved = JSMA(Ball("l0", 2), rule="probability", precision="float32")(net, x[:20], y[:20], target[:20])
    points = x[:20].double().requires_grad_(True)
    p = copy.deepcopy(net).double()(points).softmax(1)
    slopes = torch.stack(
        [torch.autograd.grad(p[:, k].sum(), points, retain_graph=True)[0].flatten(1) for k in range(10)]
    )
    for row in range(20):
        t, free = int(target[row]), x[row].flatten() < 1
        up, down = slopes[t, row], slopes[:, row].sum(0) - slopes[t, row]
        pair = best_pair((1e30 * up)[None], (1e30 * down)[None], free[None])[0]
        changed = (moved[row] != x[row]).flatten().nonzero()[:, 0]
        assert set(changed.tolist()) in ({int(i) for i in pair}, set())


@pytest.mark.parametrize("rule", ["saliency", "probability", "gap"])
def test_targets_are_reached_by_few_pixels(digits, rule):
    net, x, y = digits
    target = (y + 3) % 10
    moved = JSMA(Ball("l0", 30), rule=rule)(net, x, y, target)
    reached = net(moved).argmax(1) == target
    assert reached.double().mean() > 0.75
    changed = (moved != x).flatten(1).sum(1)
    assert changed.max() <= 30
    if rule != "gap":  # theta = 1 only raises
        assert (moved >= x).all()
        assert (moved[moved != x] == 1).all()


def test_the_other_rule_needs_fewer_pixels(digits):
    net, x, y = digits
    target = (y + 3) % 10
    counts = {}
    for rule in ("saliency", "probability", "gap"):
        moved = JSMA(Ball("l0", 40), rule=rule)(net, x, y, target)
        reached = net(moved).argmax(1) == target
        counts[rule] = (moved != x).flatten(1).sum(1)[reached].double().mean()
    assert counts["gap"] < counts["probability"] < counts["saliency"]


def test_downwards_it_only_darkens(digits):
    net, x, y = digits
    moved = JSMA(Ball("l0", 20), theta=-1.0)(net, x, y)
    assert (moved <= x).all()
    assert (net(moved).argmax(1) != y).double().mean() > 0.5


def test_small_steps_may_return_to_a_pixel(digits):
    net, x, y = digits
    moved = JSMA(Ball("l0", 40), theta=0.25)(net, x, y)
    assert ((moved - x).abs() > 0.3).any()


def test_other_norms_and_no_step_are_refused():
    with pytest.raises(StackelbergError, match="jsma is defined for l0, got norm 'linf'"):
        JSMA(Ball("linf", 0.1))
    with pytest.raises(StackelbergError, match="theta must not be 0 and rule be one of saliency, probability, gap"):
        JSMA(Ball("l0", 4), theta=0.0)
