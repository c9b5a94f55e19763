"""stackelberg bound: one table, one picture, one file, and bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]


def test_a_table_a_picture_and_a_file(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    asked = ("bound", run, "--data", "digits", "--quick", "--n", 400, "--test-n", 200, "--out", tmp_path / "out")
    answer = stackelberg(*asked)
    assert answer.status == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split()[:3] == ["bound", "value", "measured"]
    assert lines[1].startswith("hold-out")
    record = json.loads((tmp_path / "out" / "bounds.json").read_text())
    assert (record["schema"], record["n"], record["test_n"]) == ("stackelberg.bounds/1", 400, 200)
    names = [bound["name"] for bound in record["bounds"]]
    assert names[0] == "hold-out"
    assert {"uniform, VC", "norms, spectral", "stability, uniform", "PAC-Bayes", "memorization, E_D"} <= set(names)
    first = record["bounds"][0]
    assert 0 < first["measured"] <= first["value"] < 1
    left = next(bound for bound in record["bounds"] if bound["name"] == "expressive power")
    assert left["value"] is None
    assert (tmp_path / "out" / "bounds.svg").read_text().lstrip().startswith("<?xml")
    assert (tmp_path / "out" / "bounds.png").read_bytes().startswith(b"\x89PNG")
    assert "bound, " in answer.err  # progress, in plain lines
    told = json.loads(stackelberg(*asked, "--json").out)
    assert told["bounds"] == record["bounds"]


def test_bad_input_is_one_line_and_nothing_is_written(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for changes, sentence in (
        (("--delta", 2), "--delta, the chance that a bound fails, must lie in (0, 1), got 2; pass 0.05"),
        (("--delta", 0), "got 0; pass 0.05"),
        (("--data", "digts"), "unknown data set 'digts': did you mean 'digits'?"),
        (("--eps", -1), "radius must be a number >= 0 in input units, got -1"),
        (("--norm", "l3", "--eps", 0.1), "unknown norm 'l3'"),
    ):
        answer = stackelberg("bound", run, "--data", "digits", "--out", out, *changes)
        assert answer.status == 2
        assert sentence in answer.line
    assert not out.exists()
