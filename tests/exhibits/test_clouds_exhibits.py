"""C01, X29 and X30 at a size of seconds: what they measure, and what their claims rest on."""

from pathlib import Path

import pytest
import torch

from stackelberg.data import Dataset, save_parquet
from stackelberg.data.catalogue import KNOWN
from stackelberg.data.cloud_corruption import CORRUPTIONS
from stackelberg.exhibits import Outcome, Stage, named


@pytest.fixture
def cloud_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stand-in for ModelNet10: ten kinds of stretched spheres."""
    chance = torch.Generator().manual_seed(0)
    stretch = 0.2 + 0.8 * torch.rand(10, 1, 3, generator=chance)
    (tmp_path / "modelnet10").mkdir()
    for split, count in (("train", 60), ("test", 20)):
        y = torch.arange(count) % 10
        x = torch.randn(count, 24, 3, generator=chance)
        x = x / x.norm(dim=2, keepdim=True) * stretch[y]
        save_parquet(
            Dataset(x, y, list(KNOWN["modelnet10"].classes), "modelnet10"), tmp_path / "modelnet10" / f"{split}.parquet"
        )
    monkeypatch.setenv("STACKELBERG_DATA", str(tmp_path))
    return Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)


def values(outcome: Outcome) -> dict[str, float]:
    return {one.name: one.value for one in outcome.measured if one.value is not None}


def test_poisoned_clouds_at_one_distance(cloud_stage: Stage) -> None:
    cloud_stage.out.mkdir()
    few = {"points": 16, "n": 60, "test_n": 20, "width": 2, "epochs": 1, "steps": 2, "learner_epochs": 1, "seeds": 1}
    outcome = named("X29", **few).run(cloud_stage)
    found = values(outcome)
    distance = {n: v for n, v in found.items() if "Chamfer" in n and not n.startswith("clean")}
    assert len(distance) == 3
    wanted = distance["fc-em: mean Chamfer distance to the clean clouds"]
    assert wanted > 0
    assert all(value == pytest.approx(wanted, rel=0.1) for value in distance.values())
    assert found["clean: mean Chamfer distance to the clean clouds"] == 0
    right = {n.split(":")[0]: v for n, v in found.items() if "clean test accuracy" in n}
    assert outcome.holds == all(right["fc-em"] < right[name] for name in ("clean", "em", "reg-em"))
    assert (cloud_stage.out / "X29.svg").read_text().startswith("<svg")
    again = named("X29", **few).run(cloud_stage)  # from what it kept
    assert values(again) == found


def test_corrupted_clouds_with_and_without_the_frequency_game(cloud_stage: Stage) -> None:
    cloud_stage.out.mkdir()
    few = {"points": 16, "n": 60, "test_n": 20, "width": 2, "epochs": 1, "seeds": 1, "neighbours": 4, "batch_size": 16}
    outcome = named("X30", **few).run(cloud_stage)
    found = values(outcome)
    ratios = []
    for name in CORRUPTIONS:
        fat, plain = (found[f"{who}: error under {name}, mean of levels and seeds"] for who in ("fat", "plain"))
        ratios.append(fat / plain)
    mce = found["mean corruption error of FAT, seed 0"]
    assert mce == pytest.approx(sum(ratios) / len(ratios))
    assert outcome.holds == (mce < 1)
    assert (cloud_stage.out / "X30.png").is_file()


def test_clean_accuracy_of_both_networks(cloud_stage: Stage) -> None:
    outcome = named("C01", points=16, n=60, width=2, epochs=1, batch_size=16).run(cloud_stage)
    rates = {one.name: one.rate for one in outcome.measured}
    pointnet, dgcnn = (rates[f"{name}: clean test accuracy"] for name in ("pointnet", "dgcnn"))
    assert pointnet is not None
    assert dgcnn is not None
    assert pointnet.n == dgcnn.n == 20
    assert outcome.holds == (pointnet.value >= 0.88 and dgcnn.value >= 0.9)
