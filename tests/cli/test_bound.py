"""stackelberg bound: one table, one picture, one file, and bad input."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stackelberg.bounds import Bound, Compared, hold_out
from stackelberg.cli.bound import _words

Command = Callable[..., Any]


def test_a_file_and_a_picture(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = stackelberg(
        "bound", run, "--data", "digits", "--quick", "--n", 300, "--test-n", 200, "--out", out, "--json"
    )  # fmt: skip
    assert answer.status == 0, answer.err
    record = json.loads((out / "bounds.json").read_text())
    assert json.loads(answer.out) == record
    assert (record["schema"], record["n"], record["test_n"]) == ("stackelberg.bounds/1", 300, 200)
    names = [bound["name"] for bound in record["bounds"]]
    assert names[0] == "hold-out"
    assert {"uniform, VC", "norms, spectral", "stability, uniform", "PAC-Bayes", "memorization, E_D"} <= set(names)
    first = record["bounds"][0]
    assert 0 < first["measured"] <= first["value"] < 1
    left = next(bound for bound in record["bounds"] if bound["name"] == "expressive power")
    assert left["value"] is None
    assert (out / "bounds.svg").read_text().lstrip().startswith("<?xml")
    assert (out / "bounds.png").read_bytes().startswith(b"\x89PNG")
    assert "bound, " in answer.err  # progress, in plain lines


def test_the_table_says_each_value_beside_what_was_measured() -> None:
    left = Bound("norms", math.inf, 1.0, "error", ("not computed: paths meet",), True, "theorem", "somewhere")
    empty = Bound("uniform, VC", 1.25, 0.95, "error", ("drawn independently",), True, "theorem", "somewhere")
    rows = [Compared(hold_out(3, 100), 0.03), Compared(empty, 0.03), Compared(left, None)]
    lines = _words(rows, Path("out")).splitlines()
    assert lines[0].split() == ["bound", "value", "measured", "says"]
    assert lines[1].split()[:4] == ["hold-out", "0.07571", "0.0300", "theorem:"]
    assert lines[2].split()[:5] == ["uniform,", "VC", "1.25", "0.0300", "nothing:"]
    assert lines[3].split()[:5] == ["norms", "-", "-", "not", "computed:"]
    assert "norms: not computed: paths meet" in lines


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
