"""The training game's follower over a data set, attacked data sets, and least squares on random features."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from stackelberg import data
from stackelberg.attacks import FGSM
from stackelberg.bounds import random_features
from stackelberg.bounds.follower import play
from stackelberg.bounds.off_sample import off_sample_worst_case
from stackelberg.bounds.scenarios import attacked
from stackelberg.errors import StackelbergError
from stackelberg.games import StatisticallyRobust, WassersteinDRO, kl_worst_case
from stackelberg.models import build
from stackelberg.threat import Ball


@pytest.fixture(scope="module")
def linear() -> tuple[nn.Module, data.Dataset]:
    """Least squares on 300 digits, as a network; the digits it did not see."""
    train, test = data.load("digits", "train").take(300), data.load("digits", "test").take(120)
    x, y = train.batch(slice(None))
    with_one = torch.cat((x.flatten(1), torch.ones(len(x), 1)), 1).double()
    theta = torch.linalg.solve(
        with_one.T @ with_one + torch.eye(65), with_one.T @ nn.functional.one_hot(y, 10).double()
    )
    layer = nn.Linear(64, 10)
    layer.load_state_dict({"weight": theta[:64].T.float() * 8, "bias": theta[64].float() * 8})
    return nn.Sequential(nn.Flatten(), layer).eval(), test


def test_the_follower_is_that_of_training(linear: tuple[nn.Module, data.Dataset]) -> None:
    model, test = linear
    game = WassersteinDRO(Ball("linf", 0.05), steps=3)
    played = play(game, model, test, gamma=0.1, clip=50.0)
    assert (played.losses >= played.clean).all()
    assert played.clean.mean() < played.losses.mean() < played.on_sample < played.off_sample
    weights = kl_worst_case(played.losses, 0.1)
    assert played.on_sample == pytest.approx(float((weights * played.losses).sum()))
    assert played.off_sample == pytest.approx(off_sample_worst_case(played.losses, 0.1, 50.0).value)
    x, y = test.batch(slice(None))
    trained = float(StatisticallyRobust(game, 0.1).objective(model, x, y).detach())
    assert played.on_sample == pytest.approx(trained, rel=0.03)  # other random starts
    errors = play(game, model, test, gamma=0.05)
    assert errors.highest == 1
    assert set(errors.losses.unique().tolist()) <= {0.0, 1.0}
    assert play(WassersteinDRO(Ball("linf", 0.0), steps=1), model, test, 0.0).off_sample == pytest.approx(
        float(errors.clean.mean())
    )
    with pytest.raises(StackelbergError, match="clip must be > 0"):
        play(game, model, test, 0.1, clip=0.0)


def test_an_attacked_data_set_stays_in_the_ball(linear: tuple[nn.Module, data.Dataset]) -> None:
    model, test = linear
    for levels in (3.0, 10.5):
        moved = attacked(model, test, FGSM(Ball("linf", levels / 255)))
        apart = (moved.x.int() - test.x.int()).abs()
        assert int(apart.max()) == int(levels)
        assert torch.equal(moved.y, test.y)
    right = [float((model(d.batch(slice(None))[0]).argmax(1) == d.y).float().mean()) for d in (test, moved)]
    assert right[1] < right[0] - 0.1
    assert build("mlp", 10, (1, 8, 8), 8) is not None


def test_least_norm_least_squares() -> None:
    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(40, 5)), chance.integers(0, 3, 40)
    targets = np.eye(3)[y] - 1 / 3
    for width in (10, 40, 200):
        fit = random_features.fitted(x, y, width, 3, seed=4)
        phi = random_features.features(x, fit.directions, fit.offsets)
        least = np.linalg.lstsq(phi, targets, rcond=1e-10)[0]
        assert fit.scores(x) == pytest.approx(phi @ least, abs=1e-6)
        assert fit.size == pytest.approx(float(np.linalg.norm(least)), rel=1e-4)
        gradient = phi.T @ (phi @ fit.coefficients - targets)
        assert np.abs(gradient).max() < 1e-6
        assert (fit.residual < 1e-9) == (width >= 40)
    wide, narrow = (random_features.fitted(x, y, width, 3, seed=4) for width in (200, 10))
    assert (wide.directions[:, :10] == narrow.directions).all()
    assert random_features.fitted(x, y, 200, 3).error(x, y) == 0


def test_the_test_error_descends_twice() -> None:
    """Noisy labels of a smooth rule: worst near n features, better on both sides."""
    chance, errors = np.random.default_rng(0), {}
    for width in (8, 60, 2000):
        runs = []
        for seed in range(6):
            x, fresh = chance.normal(size=(60, 6)), chance.normal(size=(500, 6))
            y = (x[:, 0] > 0).astype(int)
            noisy = np.where(chance.random(60) < 0.15, 1 - y, y)
            fit = random_features.fitted(x, noisy, width, 2, seed)
            runs.append(fit.error(fresh, (fresh[:, 0] > 0).astype(int)))
        errors[width] = float(np.mean(runs))
    assert errors[60] > errors[8] + 0.03
    assert errors[60] > errors[2000] + 0.03
    assert not math.isnan(errors[8])
    with pytest.raises(StackelbergError, match="width must be 1 or more"):
        random_features.fitted(np.zeros((3, 2)), np.zeros(3, dtype=np.int64), 0, 2)
