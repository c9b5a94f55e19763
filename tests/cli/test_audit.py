"""stackelberg audit: every kind of source, the floor, the files, the answer."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stackelberg import data, games, models
from stackelberg.report import Report
from stackelberg.threat import Ball

pytestmark = pytest.mark.usefixtures("brief_searches")
Command = Callable[..., Any]
FAST = ("--data", "digits", "--eps", "0.05", "--n", 40, "--effort", "fast")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a network that reads most digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    digits = data.load("digits", "train")
    network = models.build("mlp", 10, digits.shape, 32, seed=0)
    games.solve(games.Standard(), network, digits, 5, out=folder, learning_rate=0.01, batch_size=64, progress=False)
    return folder


def test_a_run_writes_its_report_beside_it_and_says_the_bracket(stackelberg: Command, run: Path) -> None:
    answer = stackelberg("audit", run, *FAST)
    assert answer.status == 0
    report = Report.from_json(run / "audit" / "report.json")
    assert report.threat.radius == 0.05
    assert report.n == 40
    assert report.robust.lower.value <= report.robust.upper.value <= report.clean.value
    for rate in (report.clean, report.robust.upper, report.robust.lower):
        assert str(rate) in answer.out
    assert answer.out.splitlines()[-1] == str(run / "audit" / "report.html")
    assert (run / "audit" / "report.html").read_text().startswith("<!doctype html>")
    assert "40 of 40" in answer.err


def test_json_is_the_bracket_with_its_intervals(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    answer = stackelberg("audit", run, *FAST, "--json", "--out", tmp_path)
    told = json.loads(answer.out)
    report = Report.from_json(tmp_path / "report.json")
    assert told["robust_accuracy"]["upper"]["value"] == report.robust.upper.value
    assert told["robust_accuracy"]["upper"]["n"] == 40
    assert told["report"] == str(tmp_path / "report.json")
    assert told["threat"]["norm"] == "linf"


@pytest.mark.parametrize(("above", "status"), [(-1e-9, 0), (1e-9, 1)])
def test_the_floor_is_held_against_the_attacked_accuracy(
    stackelberg: Command, run: Path, tmp_path: Path, above: float, status: int
) -> None:
    stackelberg("audit", run, *FAST, "--out", tmp_path)
    upper = Report.from_json(tmp_path / "report.json").robust.upper.value
    answer = stackelberg("audit", run, *FAST, "--out", tmp_path, "--fail-under", upper + above)
    assert answer.status == status
    assert ("floor not met" in answer.err) == (status == 1)


def exported(network: nn.Module, folder: Path) -> str:
    batch = torch.export.Dim("batch")
    program = torch.export.export(network.eval(), (torch.rand(4, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "model.pt2")
    return str(folder / "model.pt2")


def test_the_same_network_from_every_kind_of_source_gives_the_same_bracket(
    stackelberg: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"from stackelberg import models\n\ndef mine():\n    return models.load({str(run)!r})\n"
    (tmp_path / "mine.py").write_text(own)
    monkeypatch.chdir(tmp_path)
    sources = {
        "run": (str(run),),
        "weights": (str(run / "best.safetensors"), "--model", "mlp", "--width", "32"),
        "program": (exported(models.load(run), tmp_path),),
        "code": ("mine:mine",),
    }
    for name, arguments in sources.items():
        assert stackelberg("audit", *arguments, *FAST, "--out", tmp_path / name).status == 0
    reports = {name: Report.from_json(tmp_path / name / "report.json") for name in sources}
    assert len({report.robust.upper for report in reports.values()}) == 1
    assert len({report.clean for report in reports.values()}) == 1


def test_two_processes_write_the_same_report(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    words = ["audit", str(run), "--data", "digits", "--eps", "0.2", "--n", "300", "--effort", "fast"]  # two batches
    assert stackelberg(*words, "--out", tmp_path / "1").status == 0
    words += ["--device", "cpu", "--devices", "2", "--out", str(tmp_path / "2"), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stackelberg", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 300
    one, two = (Report.from_json(tmp_path / devices / "report.json") for devices in "12")
    assert (one.clean, one.robust, one.examples) == (two.clean, two.robust, two.examples)
    assert (one.environment.processes, two.environment.processes) == (1, 2)


def test_the_networks_own_normalisation_needs_no_option(stackelberg: Command, tmp_path: Path) -> None:
    digits = data.load("digits", "train")
    mean, std = digits.mean_std()
    network = models.build("mlp", 10, digits.shape, 16, mean, std, seed=0)
    ball = Ball("linf", 0.05)
    recipe: dict[str, Any] = {"learning_rate": 0.01, "batch_size": 64, "progress": False}
    games.solve(games.Adversarial(ball, steps=1), network, digits, 3, out=tmp_path / "run", **recipe)
    answer = stackelberg("audit", tmp_path / "run", *FAST, "--json")
    assert answer.status == 0
    assert json.loads(answer.out)["clean_accuracy"]["value"] > 0.8


def test_changed_weights_are_said_where_asked(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    answer = stackelberg("audit", run, *FAST, "--weights-eps", "0.01", "--weights-norm", "l2", "--out", tmp_path)
    assert answer.status == 0
    report = Report.from_json(tmp_path / "report.json")
    assert report.weights is not None
    assert (report.weights.norm, report.weights.size) == ("l2", 0.01)
    assert "weights changed  l2 0.01, measured on 20 examples:" in answer.out
    assert sum(line.startswith("  ") for line in answer.out.splitlines()) == len(report.weights.rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights-eps", "1.5"), "the size of a weight change must lie in [0, 1)"),
        (("--weights-eps", "0.1", "--weights-norm", "l1"), "norm of the weights"),
        (("--weights-eps", "much"), "a number or a fraction"),
    ],
)
def test_a_change_of_weights_that_is_none_is_refused(
    stackelberg: Command, run: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    answer = stackelberg("audit", run, *FAST, *options, "--out", tmp_path)
    assert answer.status == 2
    assert words in answer.line
