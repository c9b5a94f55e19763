"""Which networks of clouds do the exhibits need?  Each is trained once in a run directory, at a processor's size."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stackelberg import data, models
from stackelberg.data import Dataset
from stackelberg.games import Game, solve
from stackelberg.models.stored import RUN
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
    path = folder / RUN
    if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["status"] == "finished":
        return models.load(folder).eval()
    network = models.build(model, len(train.classes), train.shape, width, seed=seed)
    return solve(
        game, network, train, epochs, seed=seed, out=folder, resume=True, device="cpu", progress=False, **recipe
    ).best.eval()


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Rate:
    """The share of clouds that the network reads rightly."""
    with torch.no_grad():
        answers = torch.cat([model(part) for part in x.split(128)]).argmax(1)
    return clopper_pearson(int((answers == y).sum()), len(y))
