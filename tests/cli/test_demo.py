"""stackelberg demo: what it writes and says. The networks are small here; their size is not what is tested."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stackelberg.cli import demo
from stackelberg.report import Report

Command = Callable[..., Any]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One epoch only, few images, few attacks, all in this process; the number of threads as before."""
    monkeypatch.setattr(demo, "AT_A_TIME", 1)
    monkeypatch.setattr(demo, "IMAGES", 40)
    monkeypatch.setattr(demo, "EPOCHS", dict.fromkeys(demo.EPOCHS, 1))
    monkeypatch.setattr(demo, "EFFORT", "fast")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("short")
def test_three_reports_one_page_and_its_path_last(stackelberg: Command, tmp_path: Path) -> None:
    answer = stackelberg("demo", "--out", tmp_path)
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert lines[-1] == str(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for name in ("standard", "robust", "certified"):
        report = Report.from_json(tmp_path / name / "report.json")
        assert report.n == 40
        assert report.threat.radius == demo.RADIUS
        row = next(line for line in lines if line.startswith(name))
        for rate in (report.clean, report.robust.upper, report.robust.lower):
            assert str(rate) in row
        assert name in page
    again = stackelberg("demo", "--out", tmp_path, "--json")  # trained networks are taken as they are
    assert again.status == 0
    assert "epoch 1/1" in answer.err
    assert "epoch 1/1" not in again.err
    assert set(json.loads(again.out)) == {"standard", "robust", "certified", "page"}


def test_lines_of_several_speakers_stay_whole() -> None:
    heard = io.StringIO()
    voice = demo._Named("robust", heard.write)
    for part in ("epoch 1", "/20\nepo", "ch 2/20\n"):
        print(part, end="", file=voice, flush=True)
    assert heard.getvalue() == "robust: epoch 1/20\nrobust: epoch 2/20\n"
