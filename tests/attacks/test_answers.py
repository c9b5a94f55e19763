"""A model that only answers: by scores or labels it is broken all the same, and the report says what could not run."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from stackelberg import models
from stackelberg.attacks import HopSkipJump, Square, suite
from stackelberg.attacks.oracle import NoGradient
from stackelberg.data import Dataset, load
from stackelberg.report import audit
from stackelberg.threat import Ball

pytestmark = pytest.mark.usefixtures("brief_searches")


class Scores:
    """A linear classifier of digits as plain code on arrays: the nearest of ten means."""

    def __init__(self) -> None:
        train = load("digits", "train")
        x, y = train.batch(slice(None))
        self.means = np.stack([x[y == k].flatten(1).mean(0).numpy() for k in range(10)])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        rows = np.asarray(x).reshape(len(x), -1)
        return 20 * (rows @ self.means.T - 0.5 * (self.means**2).sum(1))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", "test")


@pytest.fixture(scope="module")
def scores() -> Scores:
    return Scores()


def as_torch(scores: Scores) -> nn.Module:
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(20 * scores.means))
        layer.bias.copy_(torch.from_numpy(-10 * (scores.means**2).sum(1)))
    return nn.Sequential(nn.Flatten(), layer).eval()


def test_a_callable_on_arrays_is_audited_by_its_scores(scores: Scores, digits: Dataset) -> None:
    black = models.BlackBox(scores, arrays=True)
    report = audit(black, digits, Ball("linf", 0.1), n=24, effort="fast", radii=())
    ran = [row.name for row in report.attacks if row.skipped is None]
    assert all(name.startswith("square") for name in ran)
    assert "black box that gives scores and no gradients" in str([row.skipped for row in report.attacks])
    assert "no-gradient" in [caveat.code for caveat in report.warnings]
    white = audit(as_torch(scores), digits, Ball("linf", 0.1), n=24, effort="fast", radii=())
    assert white.clean == report.clean
    assert white.robust.upper.hits <= report.robust.upper.hits <= white.robust.upper.hits + 3
    assert report.robust.upper.hits < report.clean.hits - 4


def test_labels_alone_get_decisions_alone(scores: Scores, digits: Dataset) -> None:
    def labels(x: torch.Tensor) -> np.ndarray:
        return scores(x.numpy()).argmax(1)

    report = audit(labels, digits, Ball("linf", 0.1), n=16, effort="fast", radii=())
    assert [row.name for row in report.attacks if row.skipped is None] == ["hopskipjump-500"]
    assert "labels alone" in str([row.skipped for row in report.attacks])
    assert report.robust.upper.hits < report.clean.hits - 2


def test_a_differentiable_callable_is_attacked_by_its_gradients(scores: Scores, digits: Dataset) -> None:
    net = as_torch(scores)
    report = audit(lambda x: net(x), digits, Ball("linf", 0.1), n=16, effort="fast")
    assert sum(row.backwards for row in report.attacks) > 0
    assert all(row.skipped is None for row in report.attacks)


def test_attacks_take_a_callable(scores: Scores, digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 8))
    for attack in (Square(Ball("linf", 0.2), 300), HopSkipJump(Ball("linf", 0.2), 500)):
        moved = attack(lambda z: scores(z.numpy()), x, y)
        assert attack.ball.contains(moved, x).all()
        assert (scores(moved.numpy()).argmax(1) != y.numpy()).sum() >= 4


def test_other_norms_are_refused_in_a_sentence(scores: Scores, digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 2))
    with pytest.raises(NoGradient, match="can be attacked in linf and l2, got norm 'l1'"):
        suite(Ball("l1", 1.0), "fast").run(models.BlackBox(scores, arrays=True), x, y)


@pytest.mark.parametrize("labels", [False, True])
def test_a_black_box_stays_one(labels: bool, scores: Scores, digits: Dataset) -> None:
    """No torch function inside is looked into, so nothing is found that was not asked."""
    net: Callable[[torch.Tensor], torch.Tensor] = as_torch(scores)
    black = models.BlackBox(lambda x: net(x).argmax(1) if labels else net(x), classes=10, labels=labels)
    x, y = digits.batch(slice(0, 4))
    result = suite(Ball("linf", 0.05), "fast").run(black, x, y)
    assert sum(step.backwards for step in result.steps) == 0
    assert not result.mends
