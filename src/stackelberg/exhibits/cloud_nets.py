"""Which networks of clouds do the exhibits need?  Each is trained once in a run directory, at a processor's size."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from stackelberg import data, models
from stackelberg.attacks import classes_of
from stackelberg.data import Dataset
from stackelberg.exhibits.networks import finished
from stackelberg.games import Game, solve
from stackelberg.threat import Rate, clopper_pearson


def clouds(split: str, points: int, n: int | None = None, seed: int = 0) -> Dataset:
    """ModelNet10 with the first `points` points of each cloud; n of the clouds, a random sample by the seed."""
    whole = data.load("modelnet10", split).points(points)
    if n is None or n >= len(whole):
        return whole
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    return whole.take(order[:n].sort().values)


def trained_on(
    train: Dataset, game: Game, model: str, width: int, epochs: int, seed: int, folder: Path, **recipe: Any
) -> nn.Module:
    """The best network of a finished run in `folder`; where there is none it is trained there, or goes on."""
    if finished(folder):
        return models.load(folder).eval()
    network = models.build(model, len(train.classes), train.shape, width, seed=seed)
    return solve(
        game, network, train, epochs, seed=seed, out=folder, resume=True, device="cpu", progress=False, **recipe
    ).best.eval()


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Rate:
    """The share of clouds that the network reads rightly."""
    return clopper_pearson(int((classes_of(model, x) == y).sum()), len(y))
