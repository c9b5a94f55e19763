"""Clouds on the command line: train, audit, poison, on a stand-in for scanned shapes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stackelberg.data import Dataset, save_parquet

Command = Callable[..., Any]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    folder = tmp_path / "shapes"
    folder.mkdir()
    chance = torch.Generator().manual_seed(0)
    stretch = torch.tensor([[1.0, 1.0, 0.2], [0.2, 0.3, 1.0]])[:, None]
    for split, count in (("train", 40), ("test", 12)):
        y = torch.arange(count) % 2
        x = torch.randn(count, 24, 3, generator=chance)
        x = x / x.norm(dim=2, keepdim=True) * stretch[y]
        save_parquet(Dataset(x, y, ["flat", "long"], "shapes"), folder / f"{split}.parquet")
    return folder


def test_train_audit_and_poison_clouds(stackelberg: Command, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ("--model", "pointnet-3bn", "--width", 2, "--points", 16, "--epochs", 1, "--batch-size", 8, "--held-out", 8)
    game = ("--game", "fat", "--steps", 1, "--device", "cpu")
    answer = stackelberg("train", "--data", shapes, *small, *game, "--out", run)
    assert answer.status == 0, answer.err
    assert json.loads((run / "run.json").read_text())["model"]["shape"] == [16, 3]
    answer = stackelberg(
        "audit", run, "--data", shapes, "--points", 20, "--eps", "0.1", "--n", 6, "--effort", "fast", "--device", "cpu"
    )
    assert answer.status == 0, answer.err
    report = json.loads((run / "audit" / "report.json").read_text())
    assert (report["threat"]["low"], report["threat"]["high"]) == (-1.0, 1.0)
    fast = ("--set", "epochs=1", "--set", "steps=1", "--set", "width=2")
    answer = stackelberg(
        "poison", "availability", "--data", shapes, "--points", 16, "--eps", "0.05", *fast, "--device", "cpu",
        "--out", tmp_path / "p", "--json",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    said = json.loads(answer.out)
    assert said["method"] == "fc-em"
    assert said["moves"]["outside"] == 0


def test_networks_for_images_refuse_clouds_in_one_line(stackelberg: Command, shapes: Path, tmp_path: Path) -> None:
    other = ("--model", "small-cnn", "--game", "standard")
    answer = stackelberg("train", "--data", shapes, *other, "--out", tmp_path / "r")
    assert answer.status == 2
    assert "small-cnn takes images" in answer.line
    assert not (tmp_path / "r").exists()
