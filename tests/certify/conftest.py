"""Exact minima of tiny ReLU networks, by linear programs over all patterns of signs."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn


def _exact_minimum(
    layers: list[nn.Linear], low: torch.Tensor, high: torch.Tensor, objective: torch.Tensor
) -> tuple[float, np.ndarray]:
    """(min, argmin) of objective . z(x) over the box, z a chain of linear layers with ReLU between."""
    best, place = np.inf, np.zeros(low.numel())
    ends = list(zip(low.flatten().double().tolist(), high.flatten().double().tolist(), strict=True))
    hidden = sum(layer.out_features for layer in layers[:-1])
    for pattern in itertools.product([0.0, 1.0], repeat=hidden):
        weight, bias, rows, sides, used = np.eye(low.numel()), np.zeros(low.numel()), [], [], 0
        for layer in layers[:-1]:
            weight = layer.weight.detach().double().numpy() @ weight
            bias = layer.weight.detach().double().numpy() @ bias + layer.bias.detach().double().numpy()
            on = np.array(pattern[used : used + layer.out_features])
            used += layer.out_features
            sign = 1 - 2 * on  # on: -(w x + b) <= 0
            rows.append(sign[:, None] * weight)
            sides.append(-sign * bias)
            weight, bias = on[:, None] * weight, on * bias
        last = layers[-1].weight.detach().double().numpy()
        goal = objective.double().numpy()
        cost, shift = goal @ last @ weight, goal @ (last @ bias + layers[-1].bias.detach().double().numpy())
        solved = linprog(cost, A_ub=np.concatenate(rows), b_ub=np.concatenate(sides), bounds=ends, method="highs")
        if solved.x is not None and solved.fun + shift < best:
            best, place = solved.fun + shift, solved.x
    return float(best), place


@pytest.fixture(scope="session")
def exact_minimum() -> Callable[..., tuple[float, np.ndarray]]:
    return _exact_minimum


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.outer = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.short = nn.Conv2d(4, 4, 1, stride=2)
        self.head = nn.Linear(36, 3)

    def forward(self, x):
        x = self.first(x).relu()
        x = (x + self.inner(x)).relu()
        x = (self.outer(x) + self.short(x)).relu()
        return self.head(x.flatten(1))


@pytest.fixture
def residual_net() -> tuple[nn.Module, torch.Tensor]:
    """A convolutional network with two kinds of residual connection, and eight 6x6 inputs."""
    torch.manual_seed(4)
    net = _Residual().eval()
    return net, torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(5))
