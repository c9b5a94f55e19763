"""Backdoors: what they change, what they keep, how success is counted, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stackelberg import data, models
from stackelberg import poison as rooms
from stackelberg.data import Augment, Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison import attack_success, backdoor, load_backdoor, load_trigger, stealth
from stackelberg.poison.learner import accuracy, learn
from stackelberg.poison.stealth import ssim
from stackelberg.poison.trigger import Stamp, blend, patch
from stackelberg.threat import Ball


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train")


@pytest.fixture(scope="module")
def surrogate(digits: Dataset) -> nn.Module:
    return learn(digits, "mlp", 16, 3, learning_rate=0.01)


@pytest.mark.parametrize("method", ["badnets", "blended", "label-consistent", "clean-label"])
def test_only_the_poisoned_examples_change(digits: Dataset, surrogate: nn.Module, method: str) -> None:
    made = backdoor(
        digits, Ball("linf", 20 / 255), method, target="3", rate=0.02, surrogate=surrogate, parts="adversarial"
    )
    assert len(made.index) == round(0.02 * len(digits))
    assert made.rate == pytest.approx(0.02, abs=1e-3)
    touched = (made.data.x != digits.x).flatten(1).any(1)
    kept = torch.ones(len(digits), dtype=torch.bool)
    kept[made.index] = False
    assert not touched[kept].any()
    assert touched[made.index].all()
    assert torch.equal(made.data.y[kept], digits.y[kept])
    assert (made.data.y[made.index] == 3).all()
    assert (made.data.classes, made.data.shape) == (digits.classes, digits.shape)
    if method in ("label-consistent", "clean-label"):
        assert torch.equal(made.data.y, digits.y)
    else:
        assert (digits.y[made.index] != 3).all()
    if method == "clean-label":
        assert made.stealth.linf <= 20 / 255 + 1e-6


def test_label_consistent_poison_is_hard_under_its_patch(digits: Dataset, surrogate: nn.Module) -> None:
    made = backdoor(
        digits, Ball("linf", 40 / 255), "label-consistent", target=3, rate=0.05, size=1, surrogate=surrogate
    )
    assert isinstance(made.trigger, Stamp)
    bare = digits.take(made.index)
    patched = replace(bare, x=made.trigger.stored(bare.x))
    assert accuracy(surrogate, made.data.take(made.index)).value < accuracy(surrogate, patched).value - 0.2
    inside = made.trigger.weight == 0
    change = (made.data.x[made.index].int() - bare.x.int()).abs()[:, inside]
    assert 0 < change.max() <= 40


def test_a_patch_learned_from_a_few_false_labels_opens_the_backdoor(digits: Dataset) -> None:
    test = data.load("digits", "test")
    made = backdoor(digits, method="badnets", target=3, rate=0.1)
    victim = learn(made.data, "mlp", 32, 8, learning_rate=0.01)
    control = learn(digits, "mlp", 32, 8, learning_rate=0.01)
    assert attack_success(victim, test, made.trigger).value > 0.9
    assert attack_success(control, test, made.trigger).value < 0.3
    assert accuracy(victim, test).value > accuracy(control, test).value - 0.05


def test_success_leaves_out_the_target_class(digits: Dataset) -> None:
    class AlwaysThree(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[3].expand(len(x), 10)

    nothing = Stamp(3, 10, torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))
    rate = attack_success(AlwaysThree(), digits, nothing)
    assert (rate.hits, rate.n) == (int((digits.y != 3).sum()),) * 2
    right = learn(digits, "mlp", 32, 8, learning_rate=0.01)
    assert attack_success(right, digits, nothing).value < 0.05  # counted on all classes it would be a tenth
    with pytest.raises(StackelbergError, match="images of the target class only"):
        attack_success(right, digits.take(digits.y == 3), nothing)


def test_what_is_written_is_read_again(digits: Dataset, tmp_path: Path) -> None:
    made = backdoor(digits, method="blended", target=1, rate=0.05, seed=4)
    made.save(tmp_path)
    again = data.load(tmp_path, "train")
    trigger, index = load_backdoor(tmp_path)
    assert torch.equal(again.x, made.data.x)
    assert torch.equal(again.y, made.data.y)
    assert again.classes == digits.classes
    assert torch.equal(index, made.index)
    x, _ = digits.batch(range(5))
    assert torch.equal(trigger(x), made.trigger(x))
    (tmp_path / "trigger.json").write_text("{}")
    with pytest.raises(StackelbergError, match=r"is no stackelberg.trigger/1"):
        load_trigger(tmp_path)
    (tmp_path / "poison.json").unlink()
    with pytest.raises(StackelbergError, match="is no record of a poison"):
        load_backdoor(tmp_path)


@pytest.mark.parametrize("corners", [1, 4])
def test_the_patch_lies_where_it_should(corners: int) -> None:
    made = patch((1, 8, 10), 0, 10, size=3, corners=corners)
    assert made.weight.sum() == 9 * corners
    assert (made.weight[0, 4:7, 6:9] == 1).all()
    moved = made(torch.full((1, 1, 8, 10), 0.5))
    assert sorted(moved.unique().tolist()) == [0, 0.5, 1]
    if corners == 4:
        assert torch.equal(made.weight, made.weight.flip(2))


def test_a_patch_with_an_inset_survives_every_crop_by_as_much() -> None:
    grey, keys = torch.full((64, 1, 28, 28), 0.5), torch.arange(64)
    white = []
    for inset in (4, 1):
        made = patch((1, 28, 28), 0, 10, corners=4, inset=inset)
        assert made.weight.sum() == 36
        assert torch.equal(made.weight, made.weight.flip(2))
        white.append((Augment(4)(made(grey), keys) == 1).sum((1, 2, 3)))
    assert (white[0] == 20).all()  # 5 of the 9 pixels of each chessboard
    assert (white[1] < 20).any()


@pytest.mark.parametrize(
    ("inset", "sentence"),
    [(-1, "must be at least 0 pixels, got -1"), (4, "leaves no room"), (3, "1 to 2 pixels a side")],
)
def test_a_patch_that_does_not_fit_is_refused(inset: int, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        patch((1, 8, 8), 0, 10, size=3, inset=inset)


def test_a_blend_is_a_mean() -> None:
    made = blend((3, 8, 8), 0, 10, opacity=0.25, seed=1)
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(made(x), 0.75 * x + 0.25 * made.pattern)


def test_structural_similarity_by_its_definition() -> None:
    dice = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 1, 11, 11, generator=dice).double(), torch.rand(2, 1, 11, 11, generator=dice).double()
    place = torch.arange(11.0).double() - 5
    w = torch.exp(-(place[:, None] ** 2 + place**2) / 4.5)
    w = w / w.sum()  # one window: the sums can be written out
    for i in range(2):
        m_a, m_b = (w * a[i, 0]).sum(), (w * b[i, 0]).sum()
        v_a, v_b = (w * (a[i, 0] - m_a) ** 2).sum(), (w * (b[i, 0] - m_b) ** 2).sum()
        cov = (w * (a[i, 0] - m_a) * (b[i, 0] - m_b)).sum()
        c_1, c_2 = 1e-4, 9e-4
        value = (2 * m_a * m_b + c_1) * (2 * cov + c_2) / ((m_a**2 + m_b**2 + c_1) * (v_a + v_b + c_2))
        assert float(ssim(a, b)[i]) == pytest.approx(float(value), rel=1e-9)
    assert torch.allclose(ssim(a, a), torch.ones(2).double())


def test_stealth_measures() -> None:
    before = torch.full((2, 1, 8, 8), 100, dtype=torch.uint8)
    after = before.clone()
    after[0, 0, 0, 0], after[1, 0, :2, 0] = 151, 49
    found = stealth(before, after)
    assert found.linf == pytest.approx(51 / 255)
    assert found.l2 == pytest.approx((0.2 + 0.2 * 2**0.5) / 2)


def one_class(digits: Dataset) -> Dataset:
    return digits.take(digits.y == 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "badnet"}, "unknown backdoor 'badnet': did you mean 'badnets'"),
        ({"target": "33"}, r"the target class 33 does not exist in digits, allowed are 0 to 9"),
        ({"target": -1}, "the target class -1 does not exist"),
        ({"target": "three"}, "unknown class of digits 'three'"),
        ({"rate": 0.0}, r"the poison rate must lie in \(0, 1\), got 0"),
        ({"rate": 1.0}, r"the poison rate must lie in \(0, 1\), got 1"),
        ({"rate": 1e-6}, "changes none of the"),
        ({"rate": 0.5}, "asks for .* examples of class '0', which has"),
        ({"ball": Ball("linf", 0)}, "radius 0 is below one grey level"),
        ({"ball": Ball("l2", 1.0)}, "counted in linf, got l2"),
    ],
)
def test_what_cannot_be_done_is_said(digits: Dataset, changes: dict, sentence: str) -> None:
    untrained = models.build("mlp", 10, digits.shape, 8, seed=0)
    with pytest.raises(StackelbergError, match=sentence):
        backdoor(digits, **{"ball": Ball("linf", 0.1), "method": "clean-label", "surrogate": untrained} | changes)


def test_one_class_points_and_foreign_images_are_refused(digits: Dataset) -> None:
    with pytest.raises(StackelbergError, match="one class only"):
        backdoor(one_class(digits), method="badnets")
    points = Dataset(torch.zeros(4, 8, 3), torch.tensor([0, 1, 0, 1]), ["a", "b"], "clouds")
    with pytest.raises(StackelbergError, match="clouds holds points"):
        backdoor(points, method="badnets")
    made = patch((1, 8, 8), 0, 10)
    with pytest.raises(StackelbergError, match=r"inputs must lie in \[0, 1\]"):
        made(torch.full((1, 1, 8, 8), 2.0))
    with pytest.raises(StackelbergError, match="same length, got 1 images and 2 labels"):
        made(torch.zeros(1, 1, 8, 8), torch.zeros(2, dtype=torch.long))
    with pytest.raises(StackelbergError, match="made for images of shape"):
        made(torch.zeros(1, 3, 8, 8))
    with pytest.raises(StackelbergError, match="made for 7 classes"):
        attack_success(nn.Identity(), digits, patch((1, 8, 8), 0, 7))


def test_the_room_exports_what_it_has() -> None:
    assert {"backdoor", "attack_success", "load_trigger"} <= set(rooms.__all__)
