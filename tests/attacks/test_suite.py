"""The suite: every break verified, every example's own worst point, and a record that adds up."""

import sys
from functools import partial

import pytest
import torch
from torch import nn

from stackelberg.attacks import APGD, PGD, Oracle, Square, Suite, masking, suite
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin

make = partial(suite, patience=300)  # queries at most: these are small networks, and the test of patience has its own


def test_the_record_adds_up(digits, ball):
    net, x, y = digits
    seen = []
    result = make(ball, "fast").run(net, x, y, progress=seen.append)
    right = net(x).argmax(1) == y
    broken = net(result.x_adv).argmax(1) != y
    assert torch.equal(result.broken_by == -2, ~right)
    assert torch.equal(result.broken_by == -1, ~broken)
    assert torch.equal(result.x_adv[~right], x[~right])
    assert ball.contains(result.x_adv, x).all()
    assert tuple(seen) == result.steps
    assert result.clean_right == int(right.sum())
    standing = result.clean_right
    for number, step in enumerate(result.steps):
        standing -= int((result.broken_by == number).sum())
        assert step.robust_after == standing
        assert step.seconds >= 0
        assert step.skipped is None
    assert result.robust == standing == int((~broken).sum())
    assert 0 < standing < result.clean_right


def test_it_is_no_weaker_than_any_of_its_attacks(digits, ball):
    net, x, y = digits
    chosen = make(ball, "fast")
    worst = (net(chosen(net, x, y)).argmax(1) == y).sum()
    for attack in chosen.attacks:
        assert worst <= (net(attack(net, x, y)).argmax(1) == y).sum() + 1  # by another random start


def test_a_standing_example_shows_its_largest_margin(digits):
    net, x, y = digits
    ball = Ball("linf", 0.03)
    result = make(ball, "fast").run(net, x, y)
    left = result.broken_by == -1
    reached = margin(net(result.x_adv), y)[left]
    assert (reached > margin(net(x), y)[left]).all()
    few = margin(net(PGD(ball, 10, stop=False)(net, x, y)), y)[left]
    assert (reached >= few - 0.05 - 0.03 * few.abs()).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_two_classes_of_a_linear_model_are_decided_exactly(linear, norm):
    net = linear(2, 12)
    x = 0.3 + 0.4 * torch.rand(60, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    radius = {"linf": 0.05, "l2": 0.2, "l1": 0.29}[norm]
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    slope = torch.linalg.vector_norm((net.weight[0] - net.weight[1]).detach(), ord=dual)
    room = (margin(net(x), y).detach() + radius * slope) / slope
    clear = room.abs() > 1e-3 * radius
    result = make(Ball(norm, radius), "fast").run(net, x, y)
    assert torch.equal((result.broken_by >= 0)[clear], (room > 0)[clear])
    assert 0 < (room > 0).sum() < 60


class Scaled(nn.Module):
    """The same answers with other logits."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x):
        return self.scale * self.net(x)


class Rounded(torch.autograd.Function):
    """Steps of 1/16 with a gradient of zero, written so that no torch operation betrays it."""

    @staticmethod
    def forward(ctx, x):
        return (16 * x).round() / 16

    @staticmethod
    def backward(ctx, *gradients):
        return torch.zeros_like(gradients[0])


class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return -gradients[0]


class Masked(nn.Module):
    """Steps of 1/16 on the input: right answers, no gradient."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(Rounded.apply(x if float(x.amax()) < 9 else -x))  # and no trace


@pytest.mark.parametrize("disguise", ["x1000", "x1e-6", "softmax"])
def test_a_disguise_of_the_logits_does_not_help(digits, disguise):
    net, x, y = digits
    hidden = {
        "x1000": Scaled(net, 1000),
        "x1e-6": Scaled(net, 1e-6),
        "softmax": nn.Sequential(Scaled(net, 3), nn.Softmax(1)),
    }
    ball = Ball("linf", 0.05)
    plain = make(ball, "fast").run(net, x, y)
    result = make(ball, "fast").run(hidden[disguise], x, y)
    assert abs(result.robust - plain.robust) <= 1
    assert result.mends == ({"softmax"} if disguise == "softmax" else set())
    assert not result.masked


def test_masked_gradients_leave_their_signs(digits):
    net, x, y = digits
    ball = Ball("linf", 0.1)
    plain = make(ball, "fast").run(net, x, y)
    assert not plain.masked
    assert plain.signs["one-step-beats-many"][1] > 0
    result = make(ball, "fast", patience=400).run(Masked(net), x, y)
    assert result.signs["zero-gradient"] == (result.clean_right, result.clean_right)
    assert result.signs["black-box-beats-gradients"][0] > 20
    assert [step.name for step in result.steps[-2:]] == ["square-800", "square-800-worst"]  # twice as long, and again


def test_an_example_is_not_given_up_where_the_gradients_mislead(digits):
    net, x, y = digits[0], digits[1][:40], digits[2][:40]

    class Misled(nn.Module):
        def forward(self, x):
            return net(
                Backwards.apply(x if float(x.amax()) < 9 else -x)
            )  # the same logits; every gradient points the other way

    result = make(Ball("linf", 0.1), "fast", patience=1000).run(Misled(), x, y)
    patient = Square(Ball("linf", 0.1), 2000)(Misled(), x, y)
    assert result.signs["zero-gradient"][0] == 0
    assert masking.fires("no-rise", result.signs)
    assert result.signs["black-box-beats-gradients"][0] > 3
    assert result.robust <= int((net(patient).argmax(1) == y).sum()) + 1


def test_without_any_gradient_only_the_scores_are_left(digits):
    net, x, y = digits

    class Cut(nn.Module):
        def forward(self, x):
            return net(((16 * x).round() > torch.arange(1, 17).view(-1, 1, 1, 1, 1)).sum(0) / 16)

    result = make(Ball("linf", 0.1), "fast", patience=300).run(Cut(), x, y)
    assert [step.skipped is None for step in result.steps] == ["square" in step.name for step in result.steps]
    assert "do not depend differentiably" in str(result.steps[0].skipped)
    assert result.robust < result.clean_right - 20
    with pytest.raises(StackelbergError, match="do not depend differentiably"):
        make(Ball("l1", 2.0), "fast").run(Cut(), x, y)


def test_more_examples_than_a_chunk_change_nothing(linear, monkeypatch):
    net = linear(4, 10)
    x = torch.rand(30, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = net(x).argmax(1)
    whole = make(Ball("linf", 0.05), "fast").run(net, x, y)
    monkeypatch.setattr(sys.modules["stackelberg.attacks.suite"], "CHUNK", 7)
    parts = make(Ball("linf", 0.05), "fast").run(net, x, y)
    assert torch.equal(whole.broken_by, parts.broken_by)
    torch.testing.assert_close(whole.x_adv, parts.x_adv, rtol=0, atol=1e-9)


def test_effort_and_norm_choose_the_attacks():
    linf = {effort: suite(Ball("linf", 0.1), effort).attacks for effort in ("fast", "standard", "max")}
    squares = {effort: [a for a in attacks if isinstance(a, Square)] for effort, attacks in linf.items()}
    assert {effort: len(found) for effort, found in squares.items()} == {"fast": 1, "standard": 2, "max": 2}
    assert all(a.within is None and not getattr(a, "gates", ()) for a in linf["max"] if a.precision == "auto")
    names = [a.name for a in linf["standard"]]
    assert len(set(names)) == len(names)
    assert not any(isinstance(a, Square) for a in suite(Ball("l1", 1.0)).attacks)
    assert not any(isinstance(a, APGD | Square) for a in suite(Ball("l0", 5)).attacks)


def test_an_unknown_effort_is_refused():
    with pytest.raises(StackelbergError, match="unknown effort 'standart': did you mean 'standard'"):
        suite(Ball("linf", 0.1), "standart")


def test_a_suite_of_ones_own(digits):
    net, x, y = digits
    ball = Ball("l2", 0.4)
    result = Suite(ball, (PGD(ball, 5), APGD(ball, 10))).run(net, x, y)
    assert [step.name for step in result.steps] == ["pgd-5", "apgd-ce-10"]
    assert sum(step.backwards for step in result.steps) > 0


def test_forwards_and_backwards_are_those_of_the_oracles(digits, monkeypatch):
    net, x, y = digits
    asked = [0]

    def counting(self, points, objective, original=Oracle.gradient):
        asked[0] += len(points)
        return original(self, points, objective)

    monkeypatch.setattr(Oracle, "gradient", counting)
    ball = Ball("linf", 0.05)
    result = Suite(ball, (PGD(ball, 5), APGD(ball, 10))).run(net, x, y)
    assert sum(step.backwards for step in result.steps) == asked[0]


def test_a_network_of_one_answer_is_right_on_its_first_class_alone() -> None:
    x, y = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    result = suite(Ball("linf", 0.1), "fast").run(net, x, y)
    assert result.clean_right == 2  # argmax of equal logits is the first class
    assert (result.broken_by == -2).tolist() == (y != 0).tolist()
