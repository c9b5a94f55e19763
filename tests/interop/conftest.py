"""A small network on the digits, for whatever other tools do with it."""

import pytest
import torch
from torch import nn

from stackelberg import models
from stackelberg.data import Dataset, load


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", "test")


@pytest.fixture(scope="session")
def net() -> nn.Module:
    train = load("digits", "train")
    net = models.build("mlp", 10, train.shape, width=32, seed=0)
    x, y = train.batch(slice(None))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    torch.manual_seed(0)
    for _ in range(5):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimizer.step()
    return net.eval()
