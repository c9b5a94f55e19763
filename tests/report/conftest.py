"""A small network, trained in a second, and its audit."""

import shutil

import pytest
from torch import nn

from perceptrons import perceptron
from searches import brief
from stackelberg.data import Dataset, load
from stackelberg.report import Report, audit
from stackelberg.threat import Ball

BALL = Ball("linf", 0.1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", "test")


@pytest.fixture(scope="session")
def net() -> nn.Module:
    """A perceptron on the digits, about 97 % right."""
    return perceptron(8)


@pytest.fixture(scope="session")
def report(net: nn.Module, digits: Dataset) -> Report:
    with brief():
        return audit(net, digits, BALL, n=120, effort="fast", batch_size=50)


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("needs a browser: install chromium")
    return found
