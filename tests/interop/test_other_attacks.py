"""Attacks of other tools inside our suite, and ours as theirs."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackelberg import models
from stackelberg.attacks import PGD, ForArt, Foreign, suite
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball

BALL = Ball("linf", 0.1)


def far(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A cheat: the same picture of noise for every example, anywhere."""
    return torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(0)).expand_as(x) * 9 - 4


def own_step(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The fast gradient sign method, written down here."""
    x = x.requires_grad_()
    nn.functional.cross_entropy(model(x), y, reduction="sum").backward()
    assert x.grad is not None
    return x + 0.1 * x.grad.sign()


def test_what_another_attack_returns_is_projected_and_asked_again(net: nn.Module, digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 100))
    moved = Foreign(BALL, far)(net, x, y)
    assert BALL.contains(moved, x).all()
    with torch.no_grad():
        fell = (net(moved).argmax(1) != y) & (net(x).argmax(1) == y)
        wrong = net(BALL.project(far(net, x, y), x)).argmax(1) != y
    assert torch.equal(fell, wrong & (net(x).argmax(1) == y))
    assert (moved[~fell] != x[~fell]).flatten(1).any(1).sum() <= (~fell).sum()


def test_another_attack_is_the_last_member_of_a_suite(net: nn.Module, digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 60))
    tiny = Ball("linf", 0.02)
    alone = suite(tiny, "fast", patience=20).run(net, x, y)

    def knows(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return PGD(tiny, 200, restarts=3)(model, x, y)

    both = suite(tiny, "fast", patience=20, extra=[knows, Foreign(tiny, far, "noise")]).run(net, x, y)
    assert [step.name for step in both.steps][-2:] == ["knows", "noise"]
    assert both.robust <= alone.robust
    assert torch.equal(both.broken_by[alone.broken_by >= 0], alone.broken_by[alone.broken_by >= 0])
    with torch.no_grad():
        assert (net(both.x_adv[both.broken_by >= 0]).argmax(1) != y[both.broken_by >= 0]).all()


def test_it_meets_our_own_step(net: nn.Module, digits: Dataset) -> None:
    from stackelberg.attacks import FGSM

    x, y = digits.batch(slice(0, 100))
    with torch.no_grad():
        theirs = net(Foreign(BALL, own_step)(net, x, y)).argmax(1) == y
        ours = net(FGSM(BALL)(net, x, y)).argmax(1) == y
    assert torch.equal(theirs, ours)
    assert 0 < int(ours.sum()) < 100


def test_a_black_box_is_asked_by_those_that_need_no_gradient(net: nn.Module, digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 10))
    box = models.BlackBox(lambda z: net(z).detach(), 10)
    extra = [Foreign(BALL, far, "noise", gradients=False), Foreign(BALL, own_step, "step")]
    found = suite(BALL, "fast", patience=20, extra=extra).run(box, x, y)
    assert {step.name: step.skipped is None for step in found.steps if step.name in ("noise", "step")} == {
        "noise": True,
        "step": False,
    }


def test_answers_of_another_shape_and_targets_are_refused(net: nn.Module, digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 4))
    with pytest.raises(StackelbergError, match=r"returned the shape \[1, 8, 8\] for inputs \[\d, 1, 8, 8\]"):
        Foreign(BALL, lambda model, x, y: x[0], "short")(net, x, y)
    with pytest.raises(StackelbergError, match="untargeted"):
        Foreign(BALL, far)(net, x, y, target=(y + 1) % 10)
    lost = Foreign(BALL, lambda model, x, y: x * float("nan"), "lost")(net, x, y)
    assert torch.equal(lost, x)


@pytest.mark.filterwarnings("default")  # of the other tool, whatever it has to say
def test_foolbox_inside_a_suite(net: nn.Module, digits: Dataset) -> None:
    foolbox = pytest.importorskip("foolbox", reason="needs foolbox, which is not installed here")
    x, y = digits.batch(slice(0, 30))
    attack = Foreign.foolbox(BALL, foolbox.attacks.LinfPGD(steps=40))
    found = suite(BALL, "fast", patience=20, extra=[attack]).run(net, x, y)
    assert found.steps[-1].name == "foolbox-linfprojectedgradientdescentattack"
    moved = attack(net, x, y)
    assert BALL.contains(moved, x).all()
    with torch.no_grad():
        assert (net(moved).argmax(1) != y).sum() > (net(x).argmax(1) != y).sum()


@pytest.mark.filterwarnings("default")  # of the other tool, whatever it has to say
def test_art_inside_a_suite_and_ours_inside_art(net: nn.Module, digits: Dataset) -> None:
    pytest.importorskip("art", reason="needs the adversarial-robustness-toolbox, which is not installed here")
    from art.attacks.evasion import FastGradientMethod  # pyright: ignore[reportMissingImports]
    from art.estimators.classification import PyTorchClassifier  # pyright: ignore[reportMissingImports]

    x, y = digits.batch(slice(0, 30))
    estimator = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0))
    attack = Foreign.art(BALL, FastGradientMethod(estimator, eps=0.1))
    assert BALL.contains(attack(net, x, y), x).all()
    moved = ForArt(PGD(BALL, 5), net).generate(x.numpy(), np.eye(10)[y.numpy()])
    assert (estimator.predict(moved).argmax(1) != y.numpy()).mean() > 0.3


def test_ours_answers_to_generate(net: nn.Module, digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 30))
    attack = PGD(BALL, 5)
    ours = attack(net, x, y).numpy()
    theirs = ForArt(attack, net)
    assert np.array_equal(theirs.generate(x.numpy(), y.numpy()), ours)
    assert np.array_equal(theirs.generate(x.double().numpy(), np.eye(10)[y.numpy()], mask=None), ours)
    with torch.no_grad():
        guessed = net(x).argmax(1)
    assert np.array_equal(theirs.generate(x.numpy()), attack(net, x, guessed).numpy())
    assert np.array_equal(ForArt(suite(BALL, "fast", patience=20), net).generate(x.numpy(), y.numpy()).shape, x.shape)
