"""`stackelberg poison availability` and `evaluate`, as an owner of data meets them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stackelberg import data
from stackelberg.data import Dataset, save_parquet
from stackelberg.threat import Ball

Command = Callable[..., Any]
GUE = ("--method", "gue", "--set", "width=4", "--set", "warm=1", "--set", "epochs=1", "--set", "network_width=4")


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    save_parquet(data.load("digits", "train").take(120), tmp_path / "digits.parquet")
    return tmp_path / "digits.parquet"


@pytest.mark.parametrize("command", ["availability", "evaluate"])
def test_help_has_an_example(stackelberg: Command, command: str) -> None:
    answer = stackelberg("poison", command, "--help")
    assert answer.status == 0
    assert f"stackelberg poison {command} --data" in answer.out
    assert {"--out", "--seed", "--device", "--json"} <= set(answer.out.split())


def test_images_are_protected_and_new_ones_by_the_generator(stackelberg: Command, tmp_path: Path, digits: Path) -> None:
    first, more = tmp_path / "first", tmp_path / "more"
    asked = ("--data", digits, "--eps", 0.1, *GUE, "--fit", 60, "--rows", 50, "--device", "cpu", "--json")
    answer = stackelberg("poison", "availability", *asked, "--out", first)
    assert answer.status == 0
    record = json.loads(answer.out)
    assert (record["method"], record["moves"]["n"], record["moves"]["outside"]) == ("gue", 120, 0)
    assert "120 of 120 done" in answer.err
    clean, moved = data.load(digits), data.load(first)
    assert Ball("linf", 0.1).contains(moved.x.double() / 255, clean.x.double() / 255).all()
    assert torch.equal(moved.y, clean.y)
    answer = stackelberg(
        "poison", "availability", "--data", "digits", "--n", 30, "--apply", first / "generator.safetensors",
        "--format", "folder", "--out", more,
    )  # fmt: skip
    assert answer.status == 0
    assert answer.out.startswith(f"{more}: 30 images, linf radius 0.1")
    assert len(list((more / "train").rglob("*.png"))) == 30


def test_a_poison_is_evaluated_from_the_shell(stackelberg: Command, tmp_path: Path) -> None:
    out = tmp_path / "poisoned"
    made = ("--data", "digits", "--n", 200, "--eps", 0.3, "--method", "lsp", "--set", "patch=2", "--device", "cpu")
    assert stackelberg("poison", "availability", *made, "--out", out).status == 0
    asked = ("--data", out, "--clean", "digits", "--models", "mlp", "--width", 8, "--counters", "jpeg", "--shares", 1)
    more = ("--epochs", 1, "--batch-size", 32, "--test-n", 50, "--device", "cpu", "--out", tmp_path / "evaluated")
    answer = stackelberg("poison", "evaluate", *asked, *more)
    assert answer.status == 0
    assert answer.out.count("test ") >= 6
    assert str(tmp_path / "evaluated" / "evaluation.json") in answer.out
    again = stackelberg("poison", "evaluate", *asked, *more, "--json")
    assert again.err == ""  # nothing was trained again
    assert len(json.loads(again.out)["trials"]) == 6


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (("--method", "geu"), "unknown poisoning method 'geu': did you mean 'gue'?"),
        (("--eps", "0"), "radius 0 allows no change"),
        (("--norm", "l7"), "unknown norm 'l7'"),
        (("--set", "epochs"), "--set takes name=value, got 'epochs'"),
        (("--set", "epoch=3"), "unknown setting of gue 'epoch': did you mean 'epochs'?"),
        (("--apply", "nothing.safetensors"), "there is no generator nothing.safetensors"),
        (("--format", "zip", "--method", "noise"), "unknown form of a data set 'zip'"),
        (("--data", "mnits"), "unknown data set 'mnits': did you mean 'mnist'?"),
    ],
)
def test_bad_input_is_one_line(
    stackelberg: Command, tmp_path: Path, changed: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = stackelberg("poison", "availability", "--data", "digits", "--out", tmp_path / "out", *changed)
    assert (answer.status, answer.out) == (2, "")
    assert sentence in answer.err.strip().splitlines()[-1]
    assert not (tmp_path / "out" / "train.parquet").exists()


def test_one_class_and_mismatched_labels_are_named(stackelberg: Command, tmp_path: Path) -> None:
    few = data.load("digits", "train").take(40)
    ones = few.take((few.y == 1).nonzero()[:, 0])
    save_parquet(ones, tmp_path / "ones.parquet")
    answer = stackelberg(
        "poison", "availability", "--data", tmp_path / "ones.parquet", "--method", "lsp", "--out", tmp_path / "out"
    )
    assert answer.status == 2
    assert "class" in answer.line
    save_parquet(Dataset(few.x, (few.y + 1) % 10, few.classes, "shifted"), tmp_path / "shifted.parquet")
    answer = stackelberg(
        "poison", "evaluate", "--data", tmp_path / "shifted.parquet", "--clean", "digits", "--out", tmp_path / "e"
    )
    assert answer.status == 2
    assert "the label of example 0 is" in answer.line
