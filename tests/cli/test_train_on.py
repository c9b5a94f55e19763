"""stackelberg train --start: a network is trained on, a memorizer too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stackelberg import data, memorize, models

Command = Callable[..., Any]
GAME = ("train", "--data", "digits", "--game", "margin", "--eps", 0.1, "--test-n", 0)


@pytest.fixture
def stored(stackelberg: Command, tmp_path: Path) -> Path:
    """A memorizer of 20 digits."""
    kept = tmp_path / "mem"
    asked = ("memorize", "--data", "digits", "--kind", "lipschitz", "--medoids", 20, "--test-n", 0, "--out", kept)
    answer = stackelberg(*asked, "--json")
    assert answer.status == 0, answer.err
    assert json.loads(answer.out)["points"] == 20
    return kept


def test_claims_are_of_the_examples_that_are_stored(stackelberg: Command, stored: Path) -> None:
    answer = stackelberg("check", stored / "certificate.json")
    assert answer.status == 0
    assert "confirmed  20 of 20" in answer.out


def test_a_memorizer_is_trained_on_as_a_network_of_distances(
    stackelberg: Command, stored: Path, tmp_path: Path
) -> None:
    # a rate of next to nothing: but for the running means, taken in training, it still answers as the memorizer does
    asked = ("--start", stored, "--width", 24, "--epochs", 1, "--learning-rate", 1e-9, "--augment", -1)
    answer = stackelberg(*GAME, *asked, "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    network, memorizer = models.load(tmp_path / "run"), memorize.load(stored)
    x, _ = data.load("digits", "test").batch(slice(0, 100))
    agree = network(x).argmax(1) == memorizer.predict(x)
    assert float(agree.double().mean()) > 0.9


def test_a_run_is_trained_on(stackelberg: Command, stored: Path, tmp_path: Path) -> None:
    first, then = tmp_path / "first", tmp_path / "then"
    assert stackelberg(*GAME, "--start", stored, "--epochs", 1, "--out", first).status == 0
    asked = ("--start", first, "--epochs", 1, "--learning-rate", 1e-9, "--augment", -1)
    assert stackelberg(*GAME, *asked, "--out", then).status == 0
    before, after = models.load(first).state_dict(), models.load(then).state_dict()
    weights = [name for name in before if name.endswith("weight")]
    assert weights
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in weights)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--model", "mlp"), "leave --model mlp out"),
        (("--width", 12), "width must be at least 20"),
    ],
)
def test_what_a_start_does_not_go_with(
    stackelberg: Command, stored: Path, more: tuple[Any, ...], sentence: str
) -> None:
    answer = stackelberg(*GAME, "--start", stored, "--epochs", 1, *more)
    assert answer.status == 2
    assert sentence in answer.line


def test_a_start_is_for_its_own_data(stackelberg: Command, stored: Path, tmp_path: Path) -> None:
    x, y = np.zeros((300, 1, 9, 9), np.uint8), np.arange(300) % 10
    np.savez(tmp_path / "larger.npz", x=x, y=y)
    answer = stackelberg(*GAME, "--data", tmp_path / "larger.npz", "--start", stored, "--epochs", 1)
    assert answer.status == 2
    assert "built for images [1, 8, 8], got [1, 9, 9]" in answer.line


def test_a_run_has_its_width_and_a_network_without_weights_cannot_be_trained(
    stackelberg: Command, tmp_path: Path
) -> None:
    models.save_weights(models.build("mlp", 10, (1, 8, 8), 4, seed=0), tmp_path / "mlp.safetensors")
    answer = stackelberg(*GAME, "--start", tmp_path / "mlp.safetensors", "--width", 8)
    assert "leave --width 8 out" in answer.line
    kept = tmp_path / "mem"
    asked = ("memorize", "--data", "digits", "--kind", "compact", "--n", 20, "--test-n", 0, "--out", kept)
    assert stackelberg(*asked).status == 0
    answer = stackelberg("train", "--data", "digits", "--start", kept, "--game", "standard", "--epochs", 1)
    assert answer.status == 2
    assert "no weights that may change" in answer.line
