"""A memorizer's folder that was damaged, or says what is not so, is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from stackelberg import memorize
from stackelberg.errors import StackelbergError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    memorize.save(memorize.made("optimal", x, torch.arange(12) % 2), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": ["optimal"]}, "unknown kind of memorizer"),
        ({"kind": True}, "unknown kind of memorizer 'True'"),
        ({"norm": "l7"}, "norm 'l7'"),
        ({"radius": float("nan")}, "radius nan"),
        ({"radius": -1}, "radius -1"),
        ({"radius": 1e30}, "radius 1e[+]30, separation"),
        ({"shape": [1, 3, 4]}, r"float64 \[12, 9\], the record needs uint8 or float64 \[N, 12\]"),
        ({"shape": [0]}, r"shape \[0\]"),
        ({"separation": {"value": "x", "pair": [0, 1]}}, "could not convert"),
        ({"separation": None}, "no stackelberg.memorizer/1 record"),
    ],
)
def test_a_record_that_cannot_be_true_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    path = folder / "memorizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(StackelbergError, match=said):
        memorize.load(folder)


def test_points_that_are_missing_or_of_another_type_are_refused(folder: Path) -> None:
    path = folder / "points.safetensors"
    save_file({"points": torch.zeros(12, 9, dtype=torch.float64)}, path)
    with pytest.raises(StackelbergError, match="has no tensor 'labels'"):
        memorize.load(folder)
    save_file({"points": torch.zeros(12, 9), "labels": torch.zeros(12, dtype=torch.long)}, path)
    with pytest.raises(StackelbergError, match=r"points are torch.float32 \[12, 9\]"):
        memorize.load(folder)
