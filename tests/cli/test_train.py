"""stackelberg train: the recipe's options, the run directory, the answer."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stackelberg import models
from stackelberg.games import NAMES, Recipe

Command = Callable[..., Any]
TINY = ("--data", "digits", "--model", "mlp", "--width", 8, "--epochs", 2, "--steps", 1, "--check-steps", 1)


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_the_answer_names_the_run_and_the_rates_with_their_intervals(stackelberg: Command, tmp_path: Path) -> None:
    answer = stackelberg("train", *TINY, "--eps", "0.1", "--out", tmp_path / "run", "--json")
    assert answer.status == 0
    told = json.loads(answer.out)
    assert told["out"] == str(tmp_path / "run")
    assert told["epochs"] == 2
    assert told["best_epoch"] in (1, 2)
    clean = told["test"]["clean"]
    assert clean["n"] == 355  # all the test digits there are
    assert clean["low"] < clean["value"] < clean["high"]
    assert "epoch 2/2" in answer.err
    assert models.load(tmp_path / "run")(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_words_for_a_reader(stackelberg: Command, tmp_path: Path) -> None:
    answer = stackelberg("train", *TINY, "--game", "standard", "--out", tmp_path / "run", "--test-n", 40)
    assert answer.status == 0
    assert answer.out.startswith(f"{tmp_path / 'run'}: epoch ")
    assert "on the test set: clean" in answer.out
    assert "PGD" not in answer.out


def test_every_field_of_the_recipe_is_an_option_that_arrives(stackelberg: Command, tmp_path: Path) -> None:
    values = {
        "batch_size": 100, "optimizer": "adam", "learning_rate": 0.002, "momentum": 0.8, "weight_decay": 0.01,
        "schedule": "cosine", "warmup": 0.1, "radius_warmup": 0.3, "average": 0.5, "clip": 1.0, "augment": 1,
        "flip": True, "turn": 30.0, "scale": 1.5, "jitter": 0.02, "drop": 0.25, "held_out": 77, "check_steps": 2,
        "exploit_n": 8,
    }  # fmt: skip
    assert set(values) == set(Recipe.model_fields)
    arguments = []
    for name, value in values.items():
        arguments += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    answer = stackelberg("train", *TINY, "--eps", "0.1", "--out", tmp_path / "run", *arguments)
    assert answer.status == 0
    assert record(tmp_path / "run")["recipe"] == values


@pytest.mark.parametrize("game", [name for name in NAMES if name != "fat"])
def test_every_game_by_name(stackelberg: Command, tmp_path: Path, game: str) -> None:
    more = ("--eps", "8/255", "--beta", 2, "--gamma", 0.2, "--test-n", 0)
    answer = stackelberg("train", *TINY, "--game", game, *more, "--out", tmp_path / "run")
    assert answer.status == 0
    said = json.dumps(record(tmp_path / "run")["game"])
    assert ("0.03137" in said) == (game != "standard")
    assert ('"beta": 2.0' in said) == ("trades" in game)
    assert ('"gamma": 0.2' in said) == game.startswith("sr-")


def test_the_seed_moves_the_weights_and_nothing_else_does(stackelberg: Command, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert stackelberg("train", *TINY, "--eps", 0.1, "--seed", seed, "--out", tmp_path / name).status == 0
    a, b, c = ((tmp_path / name / "best.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_two_processes_tell_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stackelberg", "train", *map(str, TINY), "--eps", "0.1", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--devices", "2", "--out", tmp_path / "run", "--json"], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2
    assert record(tmp_path / "run")["processes"] == 2
