"""Poison, detection, ownership and the vote from a shell: what is written, what is said, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stackelberg import data
from stackelberg.poison import load_backdoor

Command = Callable[..., Any]


def refused(answer: Any, *sentence: str) -> None:
    assert answer.status == 2
    assert answer.out == ""
    for part in sentence:
        assert part in answer.line


def test_a_backdoor_is_written_measured_and_found(stackelberg: Command, tmp_path: Path) -> None:
    out = tmp_path / "poisoned"
    answer = stackelberg(
        "poison", "backdoor", "--data", "digits", "--method", "badnets", "--target", "3", "--rate", 0.1, "--out", out,
        "--victim", "mlp", "--width", 32, "--epochs", 6, "--test-n", 200, "--json",
    )  # fmt: skip
    assert answer.status == 0
    said = json.loads(answer.out)
    digits = data.load("digits", "train")
    poisoned = data.load(out, "train")
    assert said["poisoned"] == round(0.1 * len(digits))
    trigger, index = load_backdoor(out)
    assert (trigger.target, len(index)) == (3, said["poisoned"])
    assert torch.equal((poisoned.y != digits.y).nonzero()[:, 0], index)
    assert torch.equal(data.load(out, "test").x, data.load("digits", "test").x)
    measured = said["measured"]
    assert measured["poisoned"]["success"]["value"] > measured["control"]["success"]["value"]
    answer = stackelberg(
        "poison", "detect", "--data", out, "--method", "spectral", "--share", 0.3, "--network", "mlp", "--width", 16,
        "--epochs", 2, "--out", tmp_path / "suspects", "--json",
    )  # fmt: skip
    assert answer.status == 0
    found = json.loads(answer.out)["spectral"]
    assert found["found"]["n"] == len(index)
    assert found["found"]["n"] + found["false_positives"]["n"] == len(digits)
    assert found["share"]["hits"] == len(found["flagged"])
    assert json.loads((tmp_path / "suspects" / "suspects.json").read_text())["spectral"]["flagged"] == found["flagged"]


def test_one_image_is_aimed_at(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "aimed"
    arguments = ("poison", "targeted", "--data", "digits", "--model", run, "--image", 1, "--method", "bullseye")
    answer = stackelberg(*arguments, "--wish", 6, "--eps", 0.3, "--steps", 5, "--new-head", "--out", out, "--json")
    assert answer.status == 0
    said = json.loads(answer.out)
    assert (said["label"], said["wish"]) == ("0", "6")
    assert said["hit"] in (True, False)
    kept = json.loads((out / "poison.json").read_text())
    digits, poisoned = data.load("digits", "train"), data.load(out, "train")
    changed = (digits.x != poisoned.x).flatten(1).any(1).nonzero()[:, 0].tolist()
    assert changed == kept["index"]
    refused(stackelberg(*arguments, "--wish", "sixx", "--out", out), "unknown class of digits 'sixx'")
    refused(stackelberg(*arguments[:7], 9999, "--wish", 6, "--out", out), "--image 9999 does not exist")


def test_data_are_marked_and_a_model_is_asked(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "published"
    answer = stackelberg(
        "ownership", "mark", "--data", "digits", "--eps", "24/255", "--seed", 1, "--out", out, "--json"
    )
    assert answer.status == 0
    said = json.loads(answer.out)
    assert sorted(path.name for path in out.iterdir()) == ["test.parquet", "train.parquet"]
    key = tmp_path / "published.key.json"
    assert said["key"] == str(key)
    assert "secret" in json.loads(key.read_text())
    asked = ("ownership", "test", run, "--data", "digits", "--key", key, "--n", 30)
    answer = stackelberg(*asked, "--json")
    assert answer.status == 0
    verdict = json.loads(answer.out)
    assert 0 < verdict["p"] <= 1
    assert verdict["commitment"] == said["commitment"]
    answer = stackelberg(*asked, "--level", 1e-7)
    assert answer.status == 1
    assert answer.out.startswith("p  ")
    refused(stackelberg(*asked, "--level", 2), "--level must lie in (0, 1], got 2")
    refused(stackelberg(*asked[:6], run / "run.json"), "is no stackelberg.key/1")
    refused(
        stackelberg("ownership", "mark", "--data", "digits", "--eps", 0, "--out", tmp_path / "x"), "radius 0 is below"
    )
    refused(stackelberg("ownership", "mark", "--data", "digits", "--key", "a", "--seed", 1), "pass one of them")
    assert not (tmp_path / "x").exists()


def test_a_vote_is_certified_and_checked(stackelberg: Command, tmp_path: Path) -> None:
    out = tmp_path / "vote"
    answer = stackelberg(
        "certify", "--poison", "--data", "digits", "--partitions", 5, "--model", "mlp", "--width", 16, "--epochs", 3,
        "--n", 25, "--out", out, "--json",
    )  # fmt: skip
    assert answer.status == 0
    said = json.loads(answer.out)
    rates = [rate["value"] for rate in said["certified_accuracy"].values()]
    assert rates == sorted(rates, reverse=True)
    assert sum(said["sizes"]) == len(data.load("digits", "train"))
    answer = stackelberg("check", said["certificate"], "--json")
    assert answer.status == 0
    assert json.loads(answer.out)["confirmed"] == 25
    refused(stackelberg("certify", "--poison"), "--poison trains its own networks: pass --data")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (("--method", "badnet"), "unknown backdoor 'badnet': did you mean 'badnets'"),
        (("--target", "11"), "the target class 11 does not exist in digits, allowed are 0 to 9"),
        (("--target", "treh"), "unknown class of digits 'treh'"),
        (("--rate", "0"), "the poison rate must lie in (0, 1), got 0"),
        (("--rate", "2"), "the poison rate must lie in (0, 1), got 2"),
        (("--eps", "0", "--method", "clean-label"), "radius 0 is below one grey level"),
    ],
)
def test_poison_that_cannot_be_made_is_said_and_nothing_written(
    stackelberg: Command, tmp_path: Path, changed: tuple[str, ...], sentence: str
) -> None:
    answer = stackelberg(
        "poison", "backdoor", "--data", "digits", "--method", "badnets", "--out", tmp_path / "o", *changed
    )
    refused(answer, sentence)
    assert not (tmp_path / "o").exists()


def test_one_class_or_labels_that_do_not_match(stackelberg: Command, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((20, 8, 8), dtype=np.float32)
    ask = ("poison", "backdoor", "--method", "badnets", "--rate", 0.2, "--out", tmp_path / "o", "--data")
    np.savez(tmp_path / "one.npz", x_train=x, y_train=np.zeros(20, dtype=np.int64))
    refused(stackelberg(*ask, tmp_path / "one.npz"), "one class only")
    np.savez(tmp_path / "few.npz", x_train=x, y_train=np.arange(19) % 2)
    refused(stackelberg(*ask, tmp_path / "few.npz"), "20", "19")
    np.savez(tmp_path / "wide.npz", x_train=x * 3, y_train=np.arange(20) % 2)
    refused(stackelberg(*ask, tmp_path / "wide.npz"), "allowed are floats in [0, 1]")


@pytest.mark.parametrize("command", ["poison backdoor", "poison targeted", "poison detect"])
def test_each_command_has_help_with_an_example(stackelberg: Command, command: str) -> None:
    answer = stackelberg(*command.split(), "--help")
    assert answer.status == 0
    assert f"Example:\n    stackelberg {command}" in answer.out
    assert {"--out", "--seed", "--json"} <= set(answer.out.split())
