"""The loop: it learns, it repeats itself bit for bit, it resumes, it stops with a reason."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stackelberg import data, games, models
from stackelberg.errors import StackelbergError
from stackelberg.games import loop
from stackelberg.games.judging import judge
from stackelberg.threat import Ball

DIGITS = data.load("digits", "train")
BALL = Ball("linf", 0.1)
QUICK: dict[str, Any] = {"batch_size": 64, "held_out": 100, "progress": False, "check_steps": 3}


def net(width: int = 8) -> torch.nn.Module:
    return models.build("small-cnn", 10, DIGITS.shape, width=width, seed=0)


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(value.equal(theirs[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def robust() -> games.Equilibrium:
    test = data.load("digits", "test")
    return games.solve(games.Adversarial(BALL, steps=3), net(16), DIGITS, epochs=14, test=test, **QUICK)


def test_adversarial_training_is_robust_where_standard_is_not(robust: games.Equilibrium) -> None:
    standard = games.solve(games.Standard(), net(16), DIGITS, epochs=6, **QUICK)
    attacked = judge(standard.model, data.load("digits", "test"), games.Adversarial(BALL), 10)
    assert robust.test is not None
    assert attacked["robust"] is not None
    assert robust.test["clean"] > 0.93
    assert robust.test["robust"] > 0.7
    assert robust.test["robust"] > attacked["robust"] + 0.2


def test_the_best_epoch_is_the_most_robust_one_on_held_out_data(robust: games.Equilibrium) -> None:
    assert [record["epoch"] for record in robust.history] == list(range(1, 15))
    best = max(robust.history, key=lambda record: (record["robust"], record["clean"]))
    assert robust.best_epoch == best["epoch"]
    assert robust.reason == "budget"


def test_same_arguments_same_bits_and_the_seed_matters() -> None:
    game = games.Adversarial(BALL, steps=2)
    one, two, other = (
        games.solve(game, net(), DIGITS.take(300), epochs=2, seed=seed, **QUICK).model for seed in (0, 0, 1)
    )
    assert equal(one, two)
    assert not equal(one, other)


def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10 kills, equal\n"


class Stopped(Exception):
    """Raised in the middle of a training, as an interrupt would be."""


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """A run of two epochs that dies at the step after `after`, a state saved at every step."""
    move, left = loop._move, after

    def counted(*arguments):
        nonlocal left
        left -= 1
        if left < 0:
            raise Stopped
        return move(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_move", counted)
        with pytest.raises(Stopped, match=r"^$"):
            run(folder)


def run(folder: Path | None, resume: bool = False, **changes: Any) -> games.Equilibrium:
    settings = {**QUICK, "save_seconds": 0.0, **changes}
    return games.solve(
        games.Trades(BALL, steps=2), net(), DIGITS.take(300), epochs=2, out=folder, resume=resume, **settings
    )


def test_a_truncated_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, monkeypatch, after=4)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1000])
    resumed = run(tmp_path, resume=True, progress=True)
    said = capfd.readouterr().err
    assert "state.safetensors is damaged" in said
    assert "the checkpoint before it is used" in said
    assert equal(resumed.model, run(None).model)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_between_the_state_and_the_weights_loses_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    write, left = loop.write_weights, epoch

    def killed(*arguments, **named):
        nonlocal left
        left -= 1
        if left == 0:
            raise Stopped
        write(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_weights", killed)
        with pytest.raises(Stopped, match=r"^$"):
            run(tmp_path / "killed")
    run(tmp_path / "killed", resume=True)
    run(tmp_path / "whole")
    for name in ("best.safetensors", "last.safetensors"):
        theirs = load_file(tmp_path / "killed" / name)
        assert all(value.equal(theirs[key]) for key, value in load_file(tmp_path / "whole" / name).items())


def test_two_truncated_checkpoints_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path, monkeypatch, after=4)
    for name in ("state.safetensors", "state-previous.safetensors"):
        (tmp_path / name).write_bytes(b"short")
    with pytest.raises(StackelbergError, match=r"no checkpoint can be read; start again with another --out"):
        run(tmp_path, resume=True)


def test_resuming_says_where_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, monkeypatch, after=2)
    run(tmp_path, resume=True, progress=True)
    assert "going on after step" in capfd.readouterr().err


def test_resuming_nothing_begins(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, resume=True, progress=True)
    assert "no checkpoint yet, beginning at the start" in capfd.readouterr().err


def test_a_finished_run_resumes_to_itself_and_is_not_overwritten(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert equal(run(tmp_path, resume=True).best, first.best)
    with pytest.raises(StackelbergError, match=r"already holds a run; pass --resume to go on with it"):
        run(tmp_path)
    with pytest.raises(StackelbergError, match=r"holds a run with another seed \(0, now 5\)"):
        run(tmp_path, resume=True, seed=5)


def test_the_run_directory_holds_the_whole_story(tmp_path: Path) -> None:
    done = run(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["schema"] == "stackelberg.run/1"
    assert record["status"] == "finished"
    assert record["game"]["name"] == "Trades"
    assert record["model"]["name"] == "small-cnn"
    assert record["history"] == done.history
    assert record["environment"]["torch"] == torch.__version__
    best = load_file(tmp_path / "best.safetensors")
    assert all(value.equal(best[name]) for name, value in done.best.state_dict().items())
    assert equal(models.load(tmp_path), done.best)


def test_the_average_is_what_is_kept(tmp_path: Path) -> None:
    averaged = run(tmp_path, average=0.95)
    assert not equal(averaged.model, run(None).model)
    last = load_file(tmp_path / "last.safetensors")
    assert all(value.equal(last[name]) for name, value in averaged.model.state_dict().items())


@pytest.mark.parametrize(("width", "innermost"), [(2, False), (4, False), (8, True)])
def test_channels_are_innermost_where_their_gradients_can_be_trusted(width: int, innermost: bool) -> None:
    digits = data.load("digits", "train")
    model = models.build("resnet18", 10, digits.shape, width=width, seed=0)
    games.solve(games.Standard(), model, digits.take(80), epochs=1, progress=False, batch_size=32, held_out=10)
    wide = max((m for m in model.modules() if isinstance(m, torch.nn.Conv2d)), key=lambda layer: layer.in_channels)
    assert wide.weight.is_contiguous(memory_format=torch.channels_last) == innermost


def test_parameters_stay_in_the_leaders_box() -> None:
    game = games.Adversarial(BALL, steps=1, parameter_box=0.05)
    model = games.solve(game, net(), DIGITS.take(300), epochs=1, **QUICK).model
    assert max(float(p.detach().abs().max()) for p in model.parameters()) <= 0.05 + 1e-8


def test_a_nan_loss_stops_and_names_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, calls = games.Standard.losses, 0

    def poisoned(*arguments):
        nonlocal calls
        calls += 1
        return losses(*arguments) * (float("nan") if calls == 3 else 1.0)

    monkeypatch.setattr(games.Standard, "losses", poisoned)
    with pytest.raises(StackelbergError, match=r"the loss became nan in epoch 1, batch 3 of 3 \(first example \d+\)"):
        games.solve(games.Standard(), net(), DIGITS.take(300), epochs=1, **QUICK)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, r"epochs must be at least 1, got 0"),
        ({"batch_size": 500}, r"batch_size 500 exceeds the 200 training examples that are left after 100 are held out"),
        ({"devices": 3}, r"batch_size 64 must be a multiple of the 3 processes"),
        ({"devices": 0}, r"devices and nodes must be at least 1, got devices=0"),
        ({"device": "tpu"}, r"device must be cpu, cuda or auto, got 'tpu'"),
    ],
)
def test_bad_arguments(changes: dict, sentence: str) -> None:
    arguments: dict[str, Any] = {"epochs": 1} | QUICK | changes
    with pytest.raises(StackelbergError, match=sentence):
        games.solve(games.Standard(), net(), DIGITS.take(300), **arguments)


def test_a_network_for_other_images_is_refused() -> None:
    model = models.build("small-cnn", 10, (3, 32, 32), width=4)
    with pytest.raises(StackelbergError, match=r"was built for images \[3, 32, 32\], got \[1, 8, 8\]"):
        games.solve(games.Standard(), model, DIGITS.take(300), epochs=1, **QUICK)
