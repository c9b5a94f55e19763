"""Goals: blind to the logits' scale, and towards a target where one is given."""

import pytest
import torch

from stackelberg.attacks import Hunt, Oracle
from stackelberg.attacks.goal import goal_for, goal_towards
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy, margin, targeted_dlr


def hunt_with(value: float, target=None) -> Hunt:
    x = torch.rand(3, 4)
    hunt = Hunt(Oracle(torch.nn.Linear(4, 5)), Ball("linf", 0.1), x, torch.tensor([0, 1, 2]), torch.arange(3), target)
    hunt.value = torch.full((3,), value)
    return hunt


Z = torch.tensor([[5.0, 1, 0, -1, 2], [0, 4, 1, 3, 2], [1, 2, 9, 0, 3]])
ALL = torch.arange(3)


def test_ordinary_logits_meet_the_plain_cross_entropy():
    torch.testing.assert_close(goal_for("ce", hunt_with(-3.0))(Z, ALL), cross_entropy(Z, torch.tensor([0, 1, 2])))


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e30])
def test_huge_logits_still_have_a_gradient(scale):
    z = (Z * scale).requires_grad_(True)
    plain = torch.autograd.grad(cross_entropy(z, torch.tensor([0, 1, 2])).sum(), z)[0]
    assert not plain.any()
    goal = goal_for("ce", hunt_with(-3.0 * scale))
    ours = torch.autograd.grad(goal(z, ALL).sum(), z)[0]
    assert ours.flatten(1).any(1).all()


def test_the_index_picks_the_labels():
    goal = goal_for("cw", hunt_with(-1.0))
    torch.testing.assert_close(goal(Z[[2]], torch.tensor([2])), margin(Z[[2]], torch.tensor([2])))


def test_a_target_turns_the_payoff_round():
    target = torch.tensor([4, 4, 4])
    goal = goal_for("cw", hunt_with(-1.0, target))
    torch.testing.assert_close(goal(Z, ALL), -margin(Z, target))


def test_towards_a_class_by_ratio_or_by_difference():
    targets = torch.tensor([3, 3, 3])
    hunt = hunt_with(-1.0)
    torch.testing.assert_close(goal_towards(targets, hunt)(Z, ALL), targeted_dlr(Z, torch.tensor([0, 1, 2]), targets))
    few = Z[:, :3]
    targets = torch.tensor([1, 0, 0])
    difference = torch.stack([few[0, 1] - few[0, 0], few[1, 0] - few[1, 1], few[2, 0] - few[2, 2]])
    torch.testing.assert_close(goal_towards(targets, hunt)(few, ALL), difference)


def test_two_classes_have_no_ratio():
    z = Z[:, :2].clone().requires_grad_(True)
    goal = goal_for("dlr", hunt_with(-1.0))
    gradient = torch.autograd.grad(goal(z[:2], torch.tensor([0, 1])).sum(), z)[0]
    assert gradient[:2].flatten(1).any(1).all()


def test_an_unknown_payoff_is_refused():
    with pytest.raises(StackelbergError, match="unknown payoff 'cew': did you mean 'cw'"):
        goal_for("cew", hunt_with(-1.0))
