"""A small network, trained in a second, and its audit."""

import shutil

import pytest
import torch
from torch import nn

from stackelberg import models
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
    train = load("digits", "train")
    net = models.build("mlp", 10, train.shape, width=32, seed=0)
    x, y = train.batch(slice(None))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    torch.manual_seed(0)
    for _ in range(8):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="session")
def report(net: nn.Module, digits: Dataset) -> Report:
    return audit(net, digits, BALL, n=120, effort="fast", batch_size=50)


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("needs a browser: install chromium")
    return found
