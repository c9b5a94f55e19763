"""What every attack must do, whoever wrote it: stay inside, change nothing, believe nobody, belong to the example."""

import pytest
import torch
from torch import nn

from stackelberg.attacks import (
    APGD,
    FAB,
    FGSM,
    JSMA,
    MIFGSM,
    PGD,
    Attack,
    CarliniWagner,
    DeepFool,
    Square,
    bim,
    suite,
)
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin


class Wild(Attack):
    """An attack of somebody else's that steps out of ball and box."""

    def search(self, hunt):
        index = hunt.standing()
        if len(index):
            hunt.look(index, 3 * hunt.x[index] - 1)


MAKERS = {
    "fgsm": FGSM,
    "pgd": lambda ball: PGD(ball, 6, restarts=2),
    "pgd-cw-all-the-way": lambda ball: PGD(ball, 6, payoff="cw", stop=False),
    "apgd-ce": lambda ball: APGD(ball, 8),
    "apgd-dlr": lambda ball: APGD(ball, 8, loss="dlr"),
    "apgd-targeted": lambda ball: APGD(ball, 8, loss="dlr-targeted", targets=2),
    "bim": lambda ball: bim(ball, 6),
    "mi-fgsm": lambda ball: MIFGSM(ball, 6),
    "fab": lambda ball: FAB(ball, 8, restarts=2, targets=2),
    "fab-nearest-of-all": lambda ball: FAB(ball, 8, targets=2, targeted=False),
    "deepfool": lambda ball: DeepFool(ball, 8),
    "carlini-wagner": lambda ball: CarliniWagner(ball, steps=20, searches=3),
    "jsma": JSMA,
    "jsma-gap": lambda ball: JSMA(ball, rule="gap"),
    "square": lambda ball: Square(ball, 30),
    "wild": lambda ball: Wild(ball=ball),
    "suite": lambda ball: suite(ball, "fast", patience=30),
}


@pytest.fixture(params=list(MAKERS))
def attack(request, ball):
    """Every attack in every norm where it is defined."""
    try:
        return MAKERS[request.param](ball)
    except StackelbergError as error:
        assert "is defined for" in str(error)  # noqa: PT017
        return None


def images(n: int = 6):
    generator = torch.Generator().manual_seed(5)
    return ((torch.rand(n, 2, 8, 8, generator=generator) * 1.4) - 0.2).clamp(0, 1), torch.arange(n) % 4


def test_it_stays_inside_and_never_helps(attack, batched):
    if attack is None:
        return
    x, y = images()
    y = batched(x).argmax(1)
    moved = attack(batched, x, y)
    assert moved.dtype == x.dtype
    assert attack.ball.contains(moved, x).all()
    before, after = margin(batched(x), y), margin(batched(moved), y)
    assert (after >= before - 1e-2).all()
    assert (after > before).any() or isinstance(attack, Wild)


def test_the_model_comes_back_as_it_was(attack, batched):
    if attack is None:
        return
    x, y = images()
    batched.train()
    batched.norm.eval()
    batched(x).sum().backward()
    batched.head.bias.requires_grad_(False)
    before = {k: v.clone() for k, v in batched.state_dict().items()}
    gradient = batched.conv.weight.grad.clone()
    attack(batched, x, y)
    assert all(torch.equal(before[k], v) for k, v in batched.state_dict().items())
    assert torch.equal(batched.conv.weight.grad, gradient)
    assert [m.training for m in batched.modules()] == [True, True, False, True, True]
    assert [p.requires_grad for p in batched.parameters()] == [True] * 5 + [False]
    assert x.grad is None
    assert not x.requires_grad


def test_an_example_gets_the_same_answer_in_any_batch_and_order(attack, linear):
    if attack is None:
        return
    net = linear(4, 10)
    x = torch.rand(9, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = net(x).argmax(1)
    together = attack(net, x, y)
    order = torch.tensor([3, 8, 0, 5, 1, 7, 2, 6, 4])
    torch.testing.assert_close(attack(net, x[order], y[order]), together[order], rtol=0, atol=1e-9)
    alone = torch.cat([attack(net, x[i : i + 1], y[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-9)


def test_a_run_repeats_itself_and_torch_keeps_its_generator(attack, batched):
    if attack is None:
        return
    x, y = images()
    torch.manual_seed(3)
    first = attack(batched, x, y)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(attack(batched, x, y), first)


def test_an_example_wrong_unmoved_comes_back_unmoved(attack, batched):
    if attack is None or not getattr(attack, "stop", True):
        return
    x, _ = images()
    wrong = (batched(x).argmax(1) + 1) % 4
    assert torch.equal(attack(batched, x, wrong), x)


def test_an_empty_batch_is_no_error(attack, batched):
    if attack is None:
        return
    x, y = images()
    assert attack(batched, x[:0], y[:0]).shape == (0, 2, 8, 8)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (1, 4, 6)])
def test_few_classes_and_any_shape(attack, linear, classes, shape):
    if attack is None:
        return
    x = torch.rand(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    net = linear(classes, x[0].numel())
    y = net(x).argmax(1)
    moved = attack(net, x, y)
    assert moved.shape == x.shape
    assert attack.ball.contains(moved, x).all()


BAD = {
    "above the box": (lambda x, y: (x + 0.5, y), r"inputs must lie in \[0, 1\].*Normalized\(net, mean, std\)"),
    "not a number": (lambda x, y: (torch.cat([x[:2], x[2:] / 0 * 0]), y), "input 2 of the batch holds NaN or infinity"),
    "label too large": (lambda x, y: (x, y + 4), r"labels must lie in 0..3 \(the model has 4 outputs\), got 4..7 in y"),
    "label negative": (lambda x, y: (x, y - 4), r"labels must lie in 0..3 .* got -4..-1 in y"),
    "too few labels": (lambda x, y: (x, y[:3]), "x and y must have the same length, got 6 inputs and 3 labels"),
}


@pytest.mark.parametrize("case", list(BAD))
@pytest.mark.parametrize("name", ["pgd", "suite"])
def test_bad_input_gets_its_sentence(case, name, batched):
    x, y = images()
    y = torch.tensor([0, 3, 1, 2, 0, 1])
    spoil, sentence = BAD[case]
    with pytest.raises(StackelbergError, match=sentence):
        MAKERS[name](Ball("linf", 0.1))(batched, *spoil(x, y))


def test_a_target_that_is_no_class_is_refused(batched):
    x, y = images()
    with pytest.raises(StackelbergError, match=r"labels must lie in 0..3 .* got 9..9 in target"):
        PGD(Ball("linf", 0.1))(batched, x, y, torch.full_like(y, 9))


@pytest.mark.parametrize("net", [nn.Flatten(0), nn.Sequential(nn.Flatten(), nn.Linear(128, 1))])
def test_a_model_of_another_kind_is_refused(net):
    x, y = images()
    with pytest.raises(StackelbergError, match=r"the model must return logits \[B, K\] with K >= 2, got shape"):
        FGSM(Ball("linf", 0.1))(net, x, y)


def test_a_model_without_gradient_gets_one_sentence(batched):
    class Cut(nn.Module):
        def forward(self, x):
            ranks = x.flatten(1).argsort(1).argsort(1)
            return batched(ranks.view_as(x).float() / ranks.shape[1])

    x, y = images()
    y = Cut()(x).argmax(1)
    for attack in (FGSM(Ball("linf", 0.1)), PGD(Ball("l1", 1.0)), APGD(Ball("l2", 0.1))):
        with pytest.raises(StackelbergError, match=r"remove no_grad\(\)/detach\(\) .* or use attacks.Square"):
            attack(Cut(), x, y)
    assert Ball("linf", 0.1).contains(Square(Ball("linf", 0.1), 20)(Cut(), x, y), x).all()


@pytest.mark.parametrize(
    "maker",
    [lambda b: PGD(b, 20, payoff="cw"), lambda b: APGD(b, 20), lambda b: Square(b, 400)],
    ids=["pgd", "apgd", "square"],
)
def test_a_target_is_reached_where_it_can_be(maker, linear):
    net = linear(4, 10)
    x = torch.rand(30, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = net(x).argmax(1)
    target = (y + 1) % 4
    moved = maker(Ball("linf", 0.6))(net, x, y, target)
    assert (net(moved).argmax(1) == target).double().mean() > 0.9
