"""A small network on the digits, for whatever other tools do with it."""

import pytest
from torch import nn

from perceptrons import perceptron
from stackelberg.data import Dataset, load


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", "test")


@pytest.fixture(scope="session")
def net() -> nn.Module:
    return perceptron(5)
