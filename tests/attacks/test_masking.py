"""Each sign of masked gradients fires on a model built to show it, and on no honest one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg.attacks import APGD, FGSM, PGD, Square, Suite, masking, suite
from stackelberg.data import load
from stackelberg.threat import Ball

BALL = Ball("linf", 0.08)
SHORT = Suite(BALL, (FGSM(BALL), PGD(BALL, 10, payoff="cw"), APGD(BALL, 20, loss="cw")))


class Around(nn.Module):
    """A net between something before it and something after it."""

    def __init__(self, net, before=lambda x: x, after=lambda z: z) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


class Voting(nn.Module):
    """Three nets, or one that sees three brightnesses, each with one vote."""

    def __init__(self, net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return sum(F.one_hot(self.net(share * x).argmax(1), 10).float() for share in (0.9, 0.95, 1.0))


class Led(torch.autograd.Function):
    """The identity, with a gradient of another's making, which no torch operation betrays."""

    @staticmethod
    def forward(ctx, x, astray):
        ctx.astray = astray
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return ctx.astray(gradients[0], ctx.saved_tensors[0]), None


def led(x, astray):
    """No trace, either: a trace would not meet the other's gradient."""
    return Led.apply(x if float(x.amax()) < 9 else -x, astray)


def without_gradient(x):
    with torch.no_grad():
        return 1.0 * x


def by_hand(z):
    e = (30 * (z - z.amax(1, keepdim=True))).exp()
    return e / e.sum(1, keepdim=True)


DISGUISES = {
    "x1000": ({"after": lambda z: 1000 * z}, set()),
    "x1e-3": ({"after": lambda z: 1e-3 * z}, set()),
    "temperature": ({"after": lambda z: z / 100}, set()),
    "softmax": ({"after": lambda z: z.softmax(1)}, {"softmax"}),
    "softmax-30": ({"after": lambda z: (30 * z).softmax(1)}, {"softmax"}),
    "softmax-by-hand": ({"after": by_hand}, {"probabilities"}),
    "sigmoid": ({"after": lambda z: torch.sigmoid(0.3 * z)}, {"sigmoid"}),
    "stopped": ({"before": lambda x: x.detach()}, {"stopped gradient"}),
    "half stopped": ({"before": lambda x: 2 * x.detach() - x}, {"stopped gradient"}),
    "no_grad": ({"before": without_gradient}, {"stopped gradient"}),
    "clipped": ({"after": lambda z: F.relu(z - z.amax(1, keepdim=True) + 0.5)}, {"clipping"}),
    "softsign": ({"after": lambda z: F.softsign(1e3 * z)}, {"clipping"}),
    "clipped softmax": (
        {"after": lambda z: (30 * z).softmax(1).clamp(1e-7, 1).half().float()},
        {"softmax", "clipping"},
    ),
    "logarithm": ({"after": lambda z: ((50 * z).softmax(1) + 1e-12).log()}, {"softmax"}),
    "one-hot": ({"after": lambda z: F.one_hot(z.argmax(1), 10).float()}, {"labels alone"}),
    "looked up": ({"after": lambda z: torch.eye(10)[z.argmax(1)]}, {"labels alone"}),
    "marked": ({"after": lambda z: torch.zeros_like(z).scatter(1, z.argmax(1, keepdim=True), 1.0)}, {"labels alone"}),
    "numpy": ({"before": lambda x: torch.from_numpy(x.detach().numpy())}, {"stopped gradient", "trip out of torch"}),
}


@pytest.fixture(scope="module")
def few(digits):
    net, x, y = digits
    return net, x[:50], y[:50], SHORT.run(net, x[:50], y[:50])


def test_an_honest_net_shows_no_sign(few):
    _, _, _, plain = few
    assert set(plain.signs) == {
        "zero-gradient",
        "one-step-beats-many",
        "no-rise",
        "moves-between-seeds",
        "large-radius",
    }
    assert all(asked > 5 for _, asked in plain.signs.values())
    assert not plain.masked
    assert plain.mends == frozenset()
    assert 5 < plain.robust < plain.clean_right - 5


@pytest.mark.parametrize("disguise", list(DISGUISES))
def test_a_disguised_net_gets_its_true_number(few, disguise):
    net, x, y, plain = few
    around, mends = DISGUISES[disguise]
    result = SHORT.run(Around(net, **around).eval(), x, y)
    assert result.mends == mends
    assert abs(result.robust - plain.robust) <= 1
    assert result.clean_right == plain.clean_right
    assert not result.masked


WAYS = {
    "round": lambda x: (15 * x).round() / 15,
    "cast": lambda x: (15 * x).to(torch.uint8) / 15,
    "whole division": lambda x: (x // 0.0625) / 16,
    "buckets": lambda x: torch.bucketize(x.contiguous(), torch.linspace(0, 1, 17)) / 16,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_rounding_is_passed_straight_through(few, way):
    net, x, y, _ = few
    hidden = Around(net, way).eval()
    result = SHORT.run(hidden, x, y)
    patient = Square(BALL, 200)(hidden, x, y)
    assert result.mends == {"rounding"}
    assert result.signs["zero-gradient"][0] == 0
    assert result.robust <= int((hidden(patient).argmax(1) == y).sum())


def test_a_comparison_and_a_vote_pass_the_gradient_straight_through(few):
    net, x, y, plain = few
    apart = Around(net, lambda x: (x > 0.5).float()).eval()
    near = x.clamp(0.45, 0.55)  # both sides of the threshold are in reach
    result = SHORT.run(apart, near, y)
    assert result.mends == {"threshold"}
    assert result.robust < result.clean_right / 2
    result = SHORT.run(Voting(net).eval(), x, y)
    assert result.mends == {"labels alone"}
    assert not masking.fires("zero-gradient", result.signs)
    assert result.robust <= plain.robust + 3


@pytest.mark.parametrize("after", [lambda z: z, lambda z: (30 * z).softmax(1)], ids=["logits", "softmax"])
def test_a_random_net_is_judged_by_most_of_its_answers(few, after):
    net, x, y, plain = few
    noisy = Around(net, lambda x: x + 0.02 * torch.randn_like(x), after).eval()
    state = torch.get_rng_state()
    short = Suite(BALL, (FGSM(BALL), PGD(BALL, 10, payoff="cw")))
    result = short.run(noisy, x[:25], y[:25])
    assert torch.equal(state, torch.get_rng_state())
    assert result.random
    assert torch.equal(short.run(noisy, x[:25], y[:25]).broken_by, result.broken_by)
    truth = net(result.x_adv).argmax(1) == y[:25]
    assert abs(int(truth.sum()) - result.robust) <= 2
    assert abs(result.robust - int((plain.broken_by[:25] == -1).sum())) <= 2


def test_random_resizing_is_random_and_still_broken(few):
    net, x, y, _ = few

    def resized(x):
        side = int(torch.randint(6, 9, ()))
        left = int(torch.randint(0, 9 - side, ()))
        small = F.interpolate(x, size=(side, side), mode="bilinear")
        return F.pad(small, (left, 8 - side - left, 0, 8 - side))

    result = Suite(BALL, (FGSM(BALL), PGD(BALL, 10, payoff="cw"))).run(Around(net, resized).eval(), x[:25], y[:25])
    assert result.random
    assert result.robust < result.clean_right


def _grid_only(g, x):
    """The true gradient on the grid of sixteenths, its opposite off it."""
    off = ((16 * x).frac() != 0).flatten(1).any(1).view(-1, 1, 1, 1)
    return torch.where(off, -g, g)


def test_a_gradient_of_ones_own_making_is_undone_where_the_net_can_be_traced(few):
    net, x, y, plain = few
    result = SHORT.run(Around(net, lambda z: Led.apply(z, lambda g, x: 0 * g)).eval(), x, y)
    assert result.robust == plain.robust
    assert not result.masked


ASTRAY = {
    "zero-gradient": lambda g, x: 0 * g,
    "no-rise": lambda g, x: -g,
    "large-radius": lambda g, x: -g,
    "one-step-beats-many": _grid_only,
}


@pytest.mark.parametrize("sign", list(ASTRAY))
def test_a_gradient_led_astray_shows_its_sign(few, sign):
    net, x, y, plain = few
    x = (x * 16).round() / 16  # one step begins here, many steps leave the grid
    hidden = Around(net, lambda z: led(z, ASTRAY[sign])).eval()
    result = SHORT.run(hidden, x, y)
    assert masking.fires(sign, result.signs), result.signs
    assert result.masked
    assert sign == "one-step-beats-many" or result.robust > plain.robust


def test_search_by_scores_beats_gradients_led_astray_and_then_all_is_tried(few):
    net, x, y, _ = few
    suite = Suite(BALL, (FGSM(BALL), PGD(BALL, 10, payoff="cw", within=0.9), Square(BALL, 100, gates=((10, 0.9),))))
    result = suite.run(Around(net, lambda z: led(z, lambda g, x: -g)).eval(), x, y)
    assert masking.fires("black-box-beats-gradients", result.signs)
    assert [step.name for step in result.steps] == ["fgsm", "pgd-10-cw", "square-200", "square-200-worst"]
    assert result.steps[2].passed_over == 0


class Winners(nn.Module):
    """Only the largest tenth of a layer's numbers answer, so a small move changes which (Xiao et al. 2020)."""

    def forward(self, x):
        best = x.topk(x.shape[1] // 10, 1)
        return torch.zeros_like(x).scatter(1, best.indices, best.values)


def test_a_net_of_k_winners_is_seen_through_its_jumps(digits):
    _, x, y = digits
    seen, labels = load("digits", "train").batch(torch.arange(900))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Flatten(), nn.Linear(64, 256), Winners(), nn.Linear(256, 256), Winners(), nn.Linear(256, 10)
        net = nn.Sequential(*layers)
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(net(seen), labels).backward()
            optimizer.step()
    result = suite(Ball("linf", 0.08), "fast", patience=1000).run(net.eval(), x, y)
    assert masking.fires("black-box-beats-gradients", result.signs)
    by_gradients = min(step.robust_after for step in result.steps if not step.name.startswith("square"))
    assert result.robust < by_gradients
    assert result.steps[-1].name == "square-2000-worst"
    assert result.steps[-1].passed_over == 0


def test_results_that_move_with_the_seed_are_seen(few):
    net, x, y, _ = few

    def coin(g, x):
        """The true gradient for half of all starts, by a digit of one pixel, which stays as it is."""
        still = torch.ones_like(g)
        still[..., 0, 0] = 0
        heads = ((1e4 * x[:, :, :1, :1]).long() % 2 == 0).to(g.dtype)
        return g * still * (2 * heads - 1)

    result = SHORT.run(Around(net, lambda z: led(z, coin)).eval(), 0.5 + (x - 0.5) / 1.2, y)
    assert masking.fires("moves-between-seeds", result.signs), result.signs


def test_what_is_passed_over_is_said(few):
    net, x, y, _ = few
    suite = Suite(BALL, (FGSM(BALL), PGD(BALL, 10, payoff="cw"), APGD(BALL, 20, loss="cw", within=0.3)))
    result = suite.run(net, x, y)
    last = result.steps[-1]
    assert 0 < last.passed_over < result.steps[-2].robust_after


def test_without_examples_asked_nothing_fires():
    assert not any(masking.fires(code, {}) for code in masking.LIMITS)


def test_where_nothing_can_move_nothing_is_asked_and_nothing_is_masked(digits):
    net, x, y = digits
    result = suite(Ball("linf", 0.0), "fast").run(net, x, y)
    right = net(x).argmax(1) == y
    assert torch.equal(result.broken_by == -1, right)
    assert torch.equal(result.x_adv, x)
    assert result.signs == {}
    assert [(step.forwards, step.backwards, step.passed_over) for step in result.steps] == [
        (0, 0, int(right.sum()))
    ] * len(result.steps)
