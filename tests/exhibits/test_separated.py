"""The separation exhibit on a stand-in for its data sets: the numbers are those of brute force."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from stackelberg import data
from stackelberg.data import Dataset
from stackelberg.exhibits import Stage, named


def stand_in(source: str, split: str) -> Dataset:
    chance = torch.Generator().manual_seed(len(source) + len(split))
    y = torch.arange(60) % 3
    channels = 3 if source == "cifar10" else 1
    x = (60 * y[:, None, None, None] + torch.randint(0, 90, (60, channels, 8, 8), generator=chance)).to(torch.uint8)
    return Dataset(x, y, ["a", "b", "c"], source)


def test_the_bounds_are_those_of_brute_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load", stand_in)
    stage = Stage(tmp_path, tmp_path, device="cpu", say=lambda text: None)
    outcome = named("X12").run(stage)
    found = {one.name: one.value for one in outcome.measured}
    train, test = stand_in("mnist", "train"), stand_in("mnist", "test")
    x, y = train.x.flatten(1).numpy().astype(float), train.y.numpy()
    apart = cdist(x, x, "chebyshev")
    apart[y[:, None] == y] = np.inf
    assert found["MNIST, linf, grey levels"] == apart.min()
    across = cdist(test.x.flatten(1).numpy().astype(float), x, "chebyshev")
    across[test.y.numpy()[:, None] == y] = np.inf
    assert found["MNIST, linf, test to train"] == across.min() / 255
    assert not outcome.holds  # these are not the published sets
    assert (tmp_path / "X12.png").read_bytes()[:4] == b"\x89PNG"
