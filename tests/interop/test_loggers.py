"""A training tells loggers of Fabric's interface, each epoch once, also when it was killed and resumed."""

import csv
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric.loggers.csv_logs import CSVLogger

from stackelberg import models
from stackelberg.data import Dataset, load
from stackelberg.errors import StackelbergError
from stackelberg.games import Standard, solve


class Fake:
    """A logger in the style of MLflow's and Weights & Biases': keeps what it is told; fails after a given epoch."""

    def __init__(self, fails_after: int = 0) -> None:
        self.told: list[tuple[int | None, dict[str, float]]] = []
        self.settings: list[dict[str, Any]] = []
        self.ended: list[str] = []
        self.fails_after = fails_after

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.settings.append(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.told.append((step, metrics))
        if step == self.fails_after:
            raise KeyboardInterrupt

    def finalize(self, status: str) -> None:
        self.ended.append(status)


@pytest.fixture(scope="module")
def train() -> Dataset:
    return load("digits", "train").take(300)


def play(train: Dataset, epochs: int, **more: Any) -> Any:
    net = models.build("mlp", 10, train.shape, width=8, seed=0)
    return solve(
        Standard(), net, train, epochs, batch_size=64, held_out=50, check_steps=1, progress=False, device="cpu", **more
    )  # fmt: skip


def test_a_logger_is_told_the_settings_and_every_epoch(train: Dataset) -> None:
    fake = Fake()
    found = play(train, 2, loggers=[fake])
    assert [step for step, _ in fake.told] == [1, 2]
    for (_, numbers), record in zip(fake.told, found.history, strict=True):
        assert numbers["loss"] == record["loss"]
        assert numbers["clean"] == record["clean"]
        assert all(isinstance(value, float) for value in numbers.values())
    (settings,) = fake.settings
    assert (settings["recipe.batch_size"], settings["seed"], settings["game.name"]) == (64, 0, "Standard")
    assert fake.ended == ["success"]


def test_what_was_told_is_not_told_again_after_a_kill(train: Dataset, tmp_path: Path) -> None:
    first, second, third = Fake(fails_after=2), Fake(), Fake()
    with pytest.raises(KeyboardInterrupt):
        play(train, 3, out=tmp_path / "run", loggers=[first])
    assert first.ended == ["failed"]
    play(train, 3, out=tmp_path / "run", resume=True, loggers=[second])
    assert [step for step, _ in first.told + second.told] == [1, 2, 3]
    assert len(first.settings) == 1
    assert second.settings == []
    play(train, 3, out=tmp_path / "run", resume=True, loggers=[third])
    assert third.told == []


def test_the_csv_logger_of_fabric_holds_the_history(train: Dataset, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="logs", version=0)
    found = play(train, 2, loggers=[logger])
    with open(Path(logger.log_dir) / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2]
    assert [float(row["loss"]) for row in rows] == pytest.approx([record["loss"] for record in found.history])


def test_the_tensorboard_logger_of_fabric_writes_its_events(train: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard, which is not installed here")
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    play(train, 1, loggers=[TensorBoardLogger(tmp_path, name="logs", version=0)])
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_what_cannot_keep_numbers_is_refused(train: Dataset) -> None:
    with pytest.raises(StackelbergError, match=r"log_metrics\(metrics, step\), got a str"):
        play(train, 1, loggers=["tensorboard"])
