"""Do the certified games pay for a true bound, and does training in them make networks that can be proved?"""

import pytest
import torch

from stackelberg import data, games, models
from stackelberg.attacks import PGD, Oracle
from stackelberg.certify import crown, interval, interval_gaps, linear_gaps
from stackelberg.errors import StackelbergError
from stackelberg.games.certified import worst_cross_entropy
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy, margin

BALL = Ball("linf", 0.1)
EASY = Ball("linf", 0.05)


@pytest.fixture(scope="module")
def batch():
    digits = data.load("digits", "test")
    return digits.batch(slice(0, 64))


@pytest.fixture
def net():
    return models.build("small-cnn", 10, (1, 8, 8), width=4, seed=0).eval()


def test_the_quick_bounds_are_the_proved_ones_without_the_rounding(net, batch):
    x, y = batch
    quick = interval_gaps(net, x.double(), y, BALL).scatter(1, y[:, None], torch.inf).amin(1)
    proved = interval(net, x, y, BALL).margin
    assert (proved <= quick).all()
    torch.testing.assert_close(proved, quick, rtol=1e-3, atol=1e-3)


def test_the_payoff_is_above_every_attack(net, batch):
    x, y = batch
    moved = PGD(BALL, 20, stop=False)(net, x, y)
    paid = games.IntervalBound(BALL).losses(net, x, y, x)
    assert (paid >= cross_entropy(net(moved), y)).all()


def test_at_no_radius_it_is_the_cross_entropy(net, batch):
    x, y = batch
    point = Ball("linf", 0.0)
    for game in (games.IntervalBound(point), games.SmallBoxes(point)):
        torch.testing.assert_close(game.payoffs(net, x, y), cross_entropy(net(x), y), rtol=1e-4, atol=1e-5)


def test_a_share_of_one_is_interval_bound_training(net, batch):
    x, y = batch
    small, whole = games.SmallBoxes(BALL, share=1.0), games.IntervalBound(BALL, kappa=0.0)
    torch.testing.assert_close(small.payoffs(net, x, y), whole.payoffs(net, x, y))


def test_small_boxes_lie_inside_the_ball(net, batch):
    x, y = batch
    game = games.SmallBoxes(BALL, share=0.4)
    for share in (1.0, 0.5):
        moved = game.answer(games.Play(Oracle(net), share=share), x, y)
        assert float((moved - x).abs().max()) <= 0.6 * share * 0.1 + 1e-6


def test_the_clean_term_gives_way_as_the_radius_rises(net, batch):
    x, y = batch
    game = games.IntervalBound(BALL, kappa=0.25)

    def paid(share):
        return game.payoffs(net, x, y, games.Play(Oracle(net), share=share))

    clean = cross_entropy(net(x), y)
    torch.testing.assert_close(paid(0.0), clean)
    half = 0.625 * clean + 0.375 * worst_cross_entropy(interval_gaps(net, x, y, Ball("linf", 0.05)), y)
    torch.testing.assert_close(paid(0.5), half)


def test_the_linear_bounds_lie_between_intervals_and_the_proof(net, batch):
    """CROWN with interval bounds inside is never better than CROWN, here better than intervals; and sound."""
    x, y = batch[0][:16], batch[1][:16]
    ball = Ball("linf", 0.03)

    def least(gaps):
        return gaps.scatter(1, y[:, None], torch.inf).amin(1)

    linear, plain = least(linear_gaps(net, x, y, ball)), least(interval_gaps(net, x, y, ball))
    assert (linear <= crown(net, x, y, ball).margin + 1e-4).all()
    assert (linear > plain).float().mean() > 0.9
    moved = PGD(ball, 20, stop=False)(net, x, y)
    assert (linear <= -margin(net(moved), y) + 1e-5).all()


def test_linear_bounds_give_way_to_intervals(net, batch):
    x, y = batch[0][:16], batch[1][:16]
    ball = Ball("linf", 0.03)
    game = games.LinearBound(ball, beta=0.25)
    half = Ball("linf", 0.015)
    mixed = 0.625 * linear_gaps(net, x, y, half) + 0.375 * interval_gaps(net, x, y, half)
    paid = game.payoffs(net, x, y, games.Play(Oracle(net), share=0.5))
    torch.testing.assert_close(paid, 0.5 * cross_entropy(net(x), y) + 0.5 * worst_cross_entropy(mixed, y))


@pytest.fixture(scope="module")
def trained():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    found = {}
    recipe = {"radius_warmup": 0.5, "learning_rate": 0.01, "clip": 10.0, "batch_size": 64, "progress": False}
    for name in ("at", "ibp", "crown-ibp", "sabr"):
        net = models.build("small-cnn", 10, (1, 8, 8), width=4, seed=0)
        found[name] = games.solve(games.named(name, EASY, steps=3), net, train, 7, test=test, **recipe)
    return found


def test_training_by_bounds_makes_networks_that_can_be_proved(trained):
    proved = {name: run.test["certified"] for name, run in trained.items() if name != "at"}
    assert min(proved.values()) > 0.3
    assert proved["crown-ibp"] > proved["ibp"]  # where the training is short, linear bounds hold it together
    x, y = data.load("digits", "test").batch(slice(None))
    attacked = float(interval(trained["at"].best, x, y, EASY).certified.float().mean())
    assert attacked < min(proved.values()) - 0.2


def test_what_is_certified_stands_under_attack_and_chooses_the_best_epoch(trained):
    for name in ("ibp", "crown-ibp", "sabr"):
        run = trained[name]
        assert run.test["certified"] <= run.test["robust"] <= run.test["clean"]
        scores = [record["certified"] for record in run.history]
        assert scores[run.best_epoch - 1] == max(scores)
    assert all(record["certified"] is None for record in trained["at"].history)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: games.IntervalBound(BALL, kappa=1.5), r"kappa must lie in \[0, 1\], got 1.5"),
        (lambda: games.SmallBoxes(BALL, share=-1.0), r"share must lie in \[0, 1\], got -1"),
        (lambda: games.LinearBound(BALL, beta=2.0), r"beta must lie in \[0, 1\], got 2"),
        (lambda: games.SmallBoxes(Ball("l2", 1.0)), "SmallBoxes plays in linf, got norm 'l2'"),
        (lambda: games.SmallBoxes(BALL, steps=0), "steps must be at least 1"),
    ],
)
def test_bad_fields_of_certified_games(make, sentence):
    with pytest.raises(StackelbergError, match=sentence):
        make()
