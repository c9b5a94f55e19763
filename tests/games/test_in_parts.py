"""A network split over two processes trains to the weights of one that each holds whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackelberg import data, games, models
from stackelberg.errors import StackelbergError
from stackelberg.games import Adversarial, Tradeoff
from stackelberg.threat import Ball

SCRIPT = Path(__file__).with_name("in_parts.py")


def test_parts_train_as_the_whole(tmp_path: Path) -> None:
    """Up to the order of sums. In linf a step is a sign, which such a difference turns over: there runs drift apart."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, tmp_path / "answer.json"], capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["standard"] < 1e-6
    assert answer["adversarial"] < 1e-4


def test_what_needs_the_whole_network_is_refused() -> None:
    digits = data.load("digits", "train").take(100)
    model = models.build("mlp", 10, digits.shape, width=4, seed=0)
    game = Tradeoff(Adversarial(Ball("linf", 0.1), steps=1))
    with pytest.raises(StackelbergError, match="'fsdp' cannot train on Tradeoff, which reads the weights"):
        games.solve(game, model, digits, epochs=1, strategy="fsdp", batch_size=10, progress=False)


def test_an_unknown_strategy_is_named() -> None:
    digits = data.load("digits", "train").take(100)
    model = models.build("mlp", 10, digits.shape, width=4, seed=0)
    with pytest.raises(StackelbergError, match="fsdp"):
        games.solve(games.Standard(), model, digits, epochs=1, strategy="fdsp", batch_size=10, progress=False)
