"""stackelberg memorize: what it writes, and that check and audit take it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stackelberg.data import Dataset
from stackelberg.data.texts import encode

Command = Callable[..., Any]


@pytest.mark.parametrize("kind", ["optimal", "lipschitz"])
def test_a_memorizer_is_written_checked_and_audited(stackelberg: Command, tmp_path: Path, kind: str) -> None:
    answer = stackelberg(
        "memorize", "--data", "digits", "--kind", kind, "--n", 60, "--claims", 5, "--out", tmp_path, "--onnx", "--json"
    )
    assert answer.status == 0, answer.err
    told = json.loads(answer.out)
    assert told["accuracy"]["train"]["value"] == 1
    assert 0 < told["radius"] < told["separation"]["value"] / 2
    assert told["width"] == 3 * 64 + (1 if kind == "optimal" else 10)
    assert {"memorizer.onnx", "memorizer.json", "certificate.json"} <= {path.name for path in tmp_path.iterdir()}
    checked = stackelberg("check", tmp_path / "certificate.json")
    assert checked.status == 0
    assert "confirmed  5 of 5" in checked.out
    audit = stackelberg(
        "audit", tmp_path, "--data", "digits", "--split", "train", "--eps", told["radius"] * 0.99, "--n", 4,
        "--effort", "fast", "--json",
    )  # fmt: skip
    assert audit.status == 0, audit.err


def test_a_compact_memorizer_is_written_checked_and_audited(stackelberg: Command, tmp_path: Path) -> None:
    asked = ("memorize", "--data", "digits", "--kind", "compact", "--n", 80, "--claims", 5, "--out", tmp_path, "--json")
    answer = stackelberg(*asked)
    assert answer.status == 0, answer.err
    told = json.loads(answer.out)
    assert told["accuracy"]["train"]["value"] == 1
    assert (told["width"], told["radius"]) == (6, 0)
    checked = stackelberg("check", tmp_path / "certificate.json")
    assert checked.status == 0
    assert "confirmed  5 of 5" in checked.out
    audit = stackelberg(
        "audit", tmp_path, "--data", "digits", "--split", "train", "--eps", 0.1, "--n", 4, "--effort", "fast", "--json"
    )
    assert audit.status == 0, audit.err
    assert "leave --radius out" in stackelberg(*asked, "--radius", "0.1").line
    assert "leave --onnx out" in stackelberg(*asked, "--onnx").line


def test_a_network_of_whole_numbers_with_another_key_is_refuted(stackelberg: Command, tmp_path: Path) -> None:
    from stackelberg import memorize

    asked = ("memorize", "--data", "digits", "--kind", "compact", "--n", 80, "--claims", 80, "--out", tmp_path)
    assert stackelberg(*asked).status == 0
    kept = memorize.recall(tmp_path)
    kept.keys[len(kept.keys) // 2] += 1
    memorize.keep(kept, tmp_path)
    assert stackelberg("check", tmp_path / "certificate.json").status == 1


def test_bad_input_is_one_line(stackelberg: Command, tmp_path: Path) -> None:
    asked = ("memorize", "--data", "digits", "--n", 60, "--out", tmp_path / "m")
    assert "the separation bound lambda =" in stackelberg(*asked, "--radius", "0.9").line
    assert "use memorize.lipschitz" in stackelberg(*asked, "--norm", "l2").line
    assert "unknown kind of memorizer 'optimum'" in stackelberg(*asked, "--kind", "optimum").line
    assert not (tmp_path / "m").exists()


def test_each_kind_has_its_own_norm(stackelberg: Command, tmp_path: Path) -> None:
    asked = ("memorize", "--data", "digits", "--n", 40, "--test-n", 0, "--json")
    norms = {"optimal": "linf", "lipschitz": "linf", "generalizable": "l2"}
    for kind, norm in norms.items():
        answer = stackelberg(*asked, "--kind", kind, "--out", tmp_path / kind)
        assert answer.status == 0, answer.err
        assert json.loads(answer.out)["norm"] == norm


def test_texts_have_no_distance(stackelberg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = Dataset(encode(["ja", "oui", "si", "yes"], 4), torch.tensor([0, 1, 0, 1]), ["a", "b"], "words")
    monkeypatch.setattr("stackelberg.data.load", lambda *_: words)
    answer = stackelberg("memorize", "--data", "words", "--out", tmp_path / "mem")
    assert answer.status == 2
    assert "is of texts" in answer.line
