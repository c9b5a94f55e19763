"""A sweep trains and audits every combination once, goes on where it stopped, and says how much is chance."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from stackelberg.errors import StackelbergError
from stackelberg.report.sweeping import Cell, Row, Sweep, summary, sweep
from stackelberg.threat.rate import half_interval

PLAN = Sweep("digits", "mlp", ("standard", "at"), (0.05,), (0, 1), 0.05, width=8, epochs=1, steps=1, n=20)


def test_every_combination_is_there_once() -> None:
    plan = Sweep("digits", "mlp", ("standard", "at", "trades"), (0.1, 0.2), (0, 1, 2), 0.1)
    assert len(plan.cells) == len(set(plan.cells)) == 3 * (1 + 2 + 2)
    assert Cell("standard", None, 0).group == "standard"


def test_a_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    rows = sweep(PLAN, tmp_path, say=said.append)
    assert [(row.group, row.seed) for row in rows] == [("standard", 0), ("standard", 1), ("at 0.05", 0), ("at 0.05", 1)]
    assert all(row.certified <= row.attacked <= row.clean for row in rows)
    before = (tmp_path / "sweep.json").read_text()
    (tmp_path / "sweep.json").unlink()
    reports = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/report.json")}
    assert sweep(PLAN, tmp_path, say=said.append) == rows
    assert (tmp_path / "sweep.json").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/report.json")} == reports, "nothing anew"
    assert len(json.loads(before)["rows"]) == 4
    assert "<svg" in (tmp_path / "sweep.svg").read_text()
    with pytest.raises(StackelbergError, match="another plan"):
        sweep(Sweep("digits", "mlp", ("at",), (0.05,), (0,), 0.05), tmp_path)


def test_the_interval_over_seeds_is_students() -> None:
    values = [0.5, 0.6, 0.9, 0.7]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert half_interval(values) == pytest.approx((high - low) / 2)
    assert half_interval([0.3]) == 0
    rows = [Row("at", seed, value, value / 2, 0.0, 100) for seed, value in enumerate(values)]
    assert summary(rows)["at"]["clean"] == (pytest.approx(np.mean(values)), pytest.approx((high - low) / 2))


@pytest.mark.parametrize(
    ("games", "radii", "words"),
    [((), (0.1,), "each game once"), (("at", "at"), (0.1,), "once"), (("ta",), (0.1,), "ta")],
)
def test_what_is_no_sweep(games: tuple[str, ...], radii: tuple[float, ...], words: str) -> None:
    with pytest.raises(StackelbergError, match=words):
        Sweep("digits", "mlp", games, radii, (0,), 0.1)
