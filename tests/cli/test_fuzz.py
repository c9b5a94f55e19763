"""A small sample of `benchmarks/fuzz.py`: spoiled files and lines of every kind get one line and exit status 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KINDS = ("parquet", "npz", "safetensors", "pt2", "onnx", "vnnlib", "json", "words")


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuzz  # pyright: ignore[reportMissingImports]

    return fuzz


def test_a_sample_of_spoiled_inputs_is_refused_in_one_line(tmp_path: Path) -> None:
    """One process of its own: here warnings are errors, and types are checked where a user's are not."""
    words = ("--alone", "--n", "200", "--first", "100000", "--scratch", tmp_path, "--out", tmp_path / "fuzz.json")
    env = {key: value for key, value in os.environ.items() if key != "STACKELBERG_DATA"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "fuzz.py"), *map(str, words)], capture_output=True, text=True, env=env
    )
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["defects"] == []
    assert done.returncode == 0, done.stderr
    assert found["done"] == 200
    assert set(found["counts"]) == set(KINDS)
    assert all(counts["refused"] >= 10 for counts in found["counts"].values())
    assert sum(counts.get("accepted", 0) for counts in found["counts"].values()) > 0


@pytest.mark.parametrize(
    ("status", "out", "err", "trace", "left", "seconds", "what"),
    [
        (2, "", "stackelberg: no\n", "", [], 0.1, "refused"),
        (2, "", "audit, 1 s, 0 of 2 done: x\nstackelberg: no\n", "", [], 0.1, "refused"),
        (0, "words", "", "", [], 0.1, "accepted"),
        (1, "words", "stackelberg: floor not met\n", "", [], 0.1, "accepted"),
        (2, "words", "stackelberg: no\n", "", [], 0.1, "not one line"),
        (2, "", "stackelberg: no\nstackelberg: really\n", "", [], 0.1, "not one line"),
        (2, "", "Usage: stackelberg\n", "", [], 0.1, "not one line"),
        (2, "", "stackelberg: no\n", "", ["out/x"], 0.1, "left behind"),
        (0, "", "", "", ["tmp/x"], 0.1, "left behind"),
        (1, "", "", "Traceback", [], 0.1, "trace"),
        (2, "", "stackelberg: no\n", "", [], 5.1, "hang"),
        (3, "", "stackelberg: no\n", "", [], 0.1, "status 3"),
    ],
)
def test_every_defect_is_seen(
    fuzz: object, status: int, out: str, err: str, trace: str, left: list[str], seconds: float, what: str
) -> None:
    judged = fuzz.judged  # pyright: ignore[reportAttributeAccessIssue]  # a module
    assert judged(status, out, err, trace, left, seconds) == what
