"""The clean-label trigger: its two parts, its budget, its shortcut net."""

import pytest
import torch
import torch.nn.functional as F

from stackelberg import data, models
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison import load_trigger
from stackelberg.poison.two_part import TwoPart, noisier, shortcut_net, two_part
from stackelberg.threat import Ball

BUDGET = 16 / 255


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train").take(200)


@pytest.fixture(scope="module")
def trigger(digits: Dataset) -> TwoPart:
    surrogate = models.build("mlp", 10, digits.shape, 16, seed=0).eval()
    return two_part(digits, Ball("linf", BUDGET), 3, surrogate, images=200, epochs=20)


@pytest.mark.parametrize("side", [8, 10, 11, 28, 32])
def test_the_local_gradient_is_the_whole_net_s(side: int) -> None:
    net, x = shortcut_net(3, side, side, 0), torch.rand(4, 3, side, side, requires_grad=True)
    logits = net(x)
    (whole,) = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), x)
    half = side // 2
    found = noisier(net, x.detach())
    torch.testing.assert_close(found[:, :, :half, :half], whole[:, :, :half, :half], rtol=1e-4, atol=1e-6)
    assert found[:, :, half:].abs().sum() == found[:, :, :, half:].abs().sum() == 0
    loss = F.cross_entropy(net(x), torch.zeros(4, dtype=torch.long), reduction="sum")
    (slope,) = torch.autograd.grad(loss, x)
    inside = slope[:, :, :half, :half]
    assert (inside.sign() == -found[:, :, :half, :half].sign())[inside.abs() > 1e-6].all()


def test_each_part_keeps_to_its_place_and_both_to_the_budget(digits: Dataset, trigger: TwoPart) -> None:
    x, y = digits.batch(range(50))
    moved = trigger(x, y)
    assert (moved - x).abs().max() <= BUDGET + 1e-6
    assert 0 <= moved.min() <= moved.max() <= 1
    first = trigger.removed(x, y)
    assert (first - x)[:, :, :4, :4].abs().max() == 0 < (first - x).abs().max()
    alone = TwoPart(3, 10, BUDGET, trigger.surrogate, trigger.shortcut, "shortcut")(x, y)
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[:4, :4] = False
    assert (alone - x)[:, :, outside].abs().max() == 0 < (alone - x).abs().max()


def test_the_first_part_takes_the_class_away_and_the_second_shows_the_net_what_it_looks_for(
    digits: Dataset, trigger: TwoPart
) -> None:
    x, y = digits.batch(range(150, 200))
    first = trigger.removed(x, y)
    loss = F.cross_entropy
    assert loss(trigger.surrogate(first), y) > loss(trigger.surrogate(x), y)
    assert trigger.shortcut is not None
    noisy = trigger.shortcut(trigger(x, y)).argmax(1)
    assert (noisy == 0).float().mean() > 0.8
    assert (trigger.shortcut(x).argmax(1) == 1).float().mean() > 0.8


def test_without_labels_the_surrogate_s_own_are_used(digits: Dataset, trigger: TwoPart) -> None:
    x, _ = digits.batch(range(20))
    assert torch.equal(trigger(x), trigger(x, trigger.surrogate(x).argmax(1)))


def test_the_trigger_is_kept_in_a_file(digits: Dataset, trigger: TwoPart, tmp_path: pytest.TempPathFactory) -> None:
    x, y = digits.batch(range(20))
    trigger.save(str(tmp_path))
    again = load_trigger(str(tmp_path))
    assert torch.equal(again(x, y), trigger(x, y))
    assert (again.target, again.kind) == (3, "two-part")


def test_a_foreign_surrogate_cannot_be_kept(digits: Dataset, tmp_path: pytest.TempPathFactory) -> None:
    foreign = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    lone = two_part(digits, Ball("linf", BUDGET), 0, foreign, "adversarial")
    with pytest.raises(StackelbergError, match=r"pass one of models.build"):
        lone.save(str(tmp_path))
    with pytest.raises(StackelbergError, match="unknown part 'shortcuts': did you mean 'shortcut'"):
        two_part(digits, Ball("linf", BUDGET), 0, foreign, "shortcuts")
