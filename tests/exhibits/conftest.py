"""A stand-in for CIFAR-10: small coloured images that a narrow network learns in a second."""

from pathlib import Path

import pytest
import torch

from stackelberg.data import Dataset, save_parquet
from stackelberg.data.catalogue import KNOWN
from stackelberg.exhibits import Stage


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for STACKELBERG_DATA: cifar10/{train,test}.parquet of 10 colours under noise, 16x16."""
    root = tmp_path_factory.mktemp("data")
    chance = torch.Generator().manual_seed(0)
    colours = torch.randint(60, 196, (10, 3, 1, 1), generator=chance)
    (root / "cifar10").mkdir()
    for split, count in (("train", 400), ("test", 60)):
        y = torch.arange(count) % 10
        noise = torch.randint(-60, 60, (count, 3, 16, 16), generator=chance)
        x = (colours[y] + noise).clamp(0, 255).to(torch.uint8)
        save_parquet(Dataset(x, y, list(KNOWN["cifar10"].classes), "cifar10"), root / "cifar10" / f"{split}.parquet")
    return root


@pytest.fixture
def stage(coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("STACKELBERG_DATA", str(coloured))
    return Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)
