"""Small networks that the tests of attacks share."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackelberg.data import load
from stackelberg.threat import Ball


class Linear(nn.Module):
    """z = W x + b on flattened inputs, in float64: attacks on it can be compared exactly."""

    def __init__(self, classes: int, size: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, size, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(classes, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T + self.bias


class Batched(nn.Module):
    """A small convolutional net with batch norm and dropout, everything an attack must leave alone."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8 * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm(self.conv(x)))
        return self.head(self.drop(F.max_pool2d(out, 2)).flatten(1))


@pytest.fixture(scope="session")
def linear() -> Callable[..., nn.Module]:
    """linear(classes, size, seed=0): a linear net in float64."""
    return lambda classes, size, seed=0: Linear(classes, size, seed)


@pytest.fixture
def batched() -> nn.Module:
    """A net with batch norm and dropout whose running statistics are not the initial ones, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Batched(4)
        net(torch.rand(64, 2, 8, 8))
    return net.eval()


@pytest.fixture(scope="session")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """(a small net trained on half of the bundled digits, 100 digits it has not seen, their labels)."""
    data = load("digits", "train")
    x, y = data.batch(torch.arange(900))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 16, 10)
        )  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    return net.eval(), *data.batch(torch.arange(900, 1000))


BALLS = [Ball("linf", 0.08), Ball("l2", 0.4), Ball("l1", 1.5), Ball("l0", 3)]


@pytest.fixture(params=BALLS, ids=lambda ball: ball.norm)
def ball(request: pytest.FixtureRequest) -> Ball:
    """A ball of each norm."""
    return request.param
