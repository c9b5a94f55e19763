"""What is certified stands: every proved (example, radius) pair against the strongest suite."""

import pytest
import torch
from torch import nn

from stackelberg import attacks, data, games, models
from stackelberg.attacks.suite import STANDING
from stackelberg.certify.claiming import METHODS
from stackelberg.threat import Ball


@pytest.fixture(scope="module")
def reader() -> nn.Module:
    """A network that reads most digits."""
    digits = data.load("digits", "train")
    network = models.build("small-cnn", 10, digits.shape, 4, seed=0)
    found = games.solve(
        games.Standard(), network, digits, 4, learning_rate=0.01, batch_size=64, progress=False, device="cpu"
    )
    return found.best


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_certified_pair_is_broken_by_the_strongest_suite(reader: nn.Module, norm: str) -> None:
    x, y = data.load("digits", "test").batch(slice(0, 6))
    ball = Ball(norm, {"linf": 0.03, "l2": 0.15}[norm])
    proved = torch.zeros(len(x), dtype=torch.bool)
    for name in ("ibp", "lipschitz", "zonotope", "crown", "alpha-crown"):
        proved |= METHODS[name].prove(reader, x, y, ball, 1.0)[0].certified
    assert proved.sum() >= 3
    found = attacks.suite(ball, "max", patience=20).run(reader, x[proved], y[proved])
    assert (found.broken_by == STANDING).all()
