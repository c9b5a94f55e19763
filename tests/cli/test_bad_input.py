"""What bad input gets: one line that names the thing, the value and the mend; exit status 2; nothing half-written."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stackelberg import attacks, data, models
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball

Command = Callable[..., Any]
TINY = ("--model", "mlp", "--width", 8, "--epochs", 1, "--steps", 1, "--check-steps", 1, "--test-n", 0, "--eps", 0.1)
FAST = ("--data", "digits", "--eps", 0.1, "--n", 10, "--effort", "fast")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with an untrained network: what matters is its form."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    network = models.build("mlp", 10, (1, 8, 8), 8, seed=0)
    folder.mkdir()
    for name in ("best.safetensors", "last.safetensors"):
        models.save_weights(network, folder / name)
    spec = models.spec_of(network)
    assert spec is not None
    (folder / "run.json").write_text(json.dumps({"model": spec.model_dump(mode="json"), "status": "finished"}))
    return folder


def refused(answer: Any, *sentence: str) -> None:
    """Status 2, nothing on standard output, one line on standard error that holds all of `sentence`."""
    assert answer.status == 2
    assert answer.out == ""
    for part in sentence:
        assert part in answer.line


def images(folder: Path, **changes: Any) -> Path:
    """A small .npz image set, with some arrays changed."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 80), ("test", 20)):
        arrays[f"x_{split}"] = rng.random((count, 8, 8), dtype=np.float32)
        arrays[f"y_{split}"] = np.arange(count) % 4
    path = folder / "images.npz"
    np.savez(path, **(arrays | changes))
    return path


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (("--data", "mnits"), "unknown data set 'mnits': did you mean 'mnist'?"),
        (("--model", "smal-cnn"), "unknown model 'smal-cnn': did you mean 'small-cnn'?"),
        (("--game", "trade"), "unknown game 'trade': did you mean 'trades'?"),
        (("--norm", "l3"), "unknown norm 'l3': did you mean 'l"),
        (("--eps", "-0.1"), "radius must be a number >= 0 in input units, got -0.1"),
        (("--eps", "8"), "radius 8 covers the whole input range [0, 1], so every claim about it is empty"),
        (("--eps", "eight"), "radius must be a number or a fraction like 8/255 in input units, got 'eight'"),
        (("--batch-size", "0"), "recipe: batch_size got 0"),
        (("--device", "tpu"), "device must be cpu, cuda or auto, got 'tpu'"),
    ],
)
def test_values_out_of_range_are_named_with_the_mend(
    stackelberg: Command, tmp_path: Path, changed: tuple[str, str], sentence: str
) -> None:
    refused(stackelberg("train", "--data", "digits", *TINY, "--out", tmp_path / "run", *changed), sentence)
    assert not (tmp_path / "run").exists()


def test_a_moving_game_needs_a_radius(stackelberg: Command, tmp_path: Path) -> None:
    answer = stackelberg("train", "--data", "digits", "--game", "at", "--out", tmp_path / "run")
    refused(answer, "game 'at' moves the examples, so it needs --eps")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "--eps", "0.1"), "missing option '--data'"),
        (("train", "--data", "digits", "--learning-rat", "1"), "no such option: --learning-rat"),
        (("train", "--data", "digits", "--epochs", "many"), "invalid value for '--epochs'"),
        (("trian",), "no such command 'trian'"),
    ],
)
def test_a_command_that_cannot_be_read_is_status_2(
    stackelberg: Command, arguments: tuple[str, ...], sentence: str
) -> None:
    answer = stackelberg(*arguments)
    assert answer.status == 2
    assert sentence in answer.err


def test_an_unknown_exhibit_effort_or_setting(stackelberg: Command, trained: Path) -> None:
    refused(stackelberg("reproduce", "x01"), "unknown exhibit 'x01': did you mean 'X01'?")
    refused(stackelberg("reproduce", "X01", "--set", "m=5"), "unknown setting of X01 'm'", "radius")
    refused(stackelberg("reproduce", "X01", "--set", "n=few"), "X01: n got 'few'")
    refused(stackelberg("reproduce", "X01", "--set", "n"), "--set takes name=value, got 'n'")
    refused(stackelberg("audit", trained, *FAST[:-1], "fats"), "unknown effort 'fats': did you mean 'fast'?")


def test_a_floor_that_is_no_share(stackelberg: Command, trained: Path) -> None:
    refused(stackelberg("audit", trained, *FAST, "--fail-under", 80), "--fail-under must lie in [0, 1], got 80", "0.8")


def test_a_file_that_is_no_image_set(stackelberg: Command, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("milk, eggs")
    refused(stackelberg("train", "--data", notes, *TINY), f"{notes} is no image set: a file must be .parquet or .npz")
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1 and no more")
    refused(stackelberg("train", "--data", torn, *TINY), str(torn))
    (tmp_path / "empty").mkdir()
    answer = stackelberg("train", "--data", tmp_path / "empty", *TINY)
    refused(answer, "is no image set: the folder holds no train.parquet, no idx files and no class folders")


def test_labels_outside_the_classes(stackelberg: Command, tmp_path: Path) -> None:
    path = images(tmp_path, y_train=np.r_[np.arange(79) % 4, -1])
    refused(stackelberg("train", "--data", path, *TINY), "the label of example 79 is -1, allowed are 0 to 3")


def test_labels_beyond_the_networks_classes(stackelberg: Command, trained: Path, tmp_path: Path) -> None:
    path = images(tmp_path, y_test=np.arange(20) % 12, y_train=np.arange(80) % 12)
    answer = stackelberg("audit", trained, "--data", path, *FAST[2:], "--out", tmp_path / "audit")
    refused(answer, "the network's output has the shape [4, 10], needed is [4, 12]")
    assert not (tmp_path / "audit").exists()


def test_an_empty_class(stackelberg: Command, tmp_path: Path) -> None:
    path = images(tmp_path, y_train=np.array([0, 1, 3] * 27)[:80])
    path = images(tmp_path, y_train=np.array([0, 1, 3] * 27)[:80], y_test=np.array([0, 1, 3, 3] * 5))
    refused(stackelberg("train", "--data", path, *TINY), "class '2' (label 2) has no example", "renumber the labels")


@pytest.mark.parametrize(("value", "said"), [(1.5, "1.5"), (-0.25, "-0.25"), (np.nan, "nan"), (np.inf, "inf")])
def test_inputs_outside_the_range_or_not_finite(stackelberg: Command, tmp_path: Path, value: float, said: str) -> None:
    x = np.full((80, 8, 8), 0.5, dtype=np.float32)
    x[7, 3, 2] = value
    path = images(tmp_path, x_train=x)
    sentence = f"image 7 holds the value {said}, allowed are floats in [0, 1] or uint8 0..255"
    refused(stackelberg("train", "--data", path, *TINY), sentence)


def test_inputs_outside_the_ball_s_box_from_python() -> None:
    network = models.build("mlp", 10, (1, 8, 8), 8, seed=0).eval()
    x, y = torch.rand(4, 1, 8, 8) * 2 - 1, torch.zeros(4, dtype=torch.long)
    with pytest.raises(StackelbergError, match=r"inputs must lie in \[0, 1\], got \[-.*Normalized\(net, mean, std\)"):
        attacks.PGD(Ball("linf", 0.1))(network, x, y)
    x[2, 0, 0, 0] = float("nan")
    with pytest.raises(StackelbergError, match="input 2 of the batch holds NaN or infinity"):
        attacks.PGD(Ball("linf", 0.1))(network, x, y)


def test_weights_that_are_not_finite(stackelberg: Command, trained: Path, tmp_path: Path) -> None:
    tensors = load_file(trained / "best.safetensors")
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = float("nan")
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    refused(stackelberg("audit", path, "--model", "mlp", "--width", 8, *FAST), str(path), name, "NaN")


def test_a_loss_that_is_not_finite_is_named_with_its_batch(stackelberg: Command, tmp_path: Path) -> None:
    wild = ("--optimizer", "sgd", "--learning-rate", "1e30", "--game", "standard", "--schedule", "constant")
    answer = stackelberg("train", "--data", "digits", *TINY, *wild, "--out", tmp_path / "run")
    assert answer.status == 2
    last = answer.err.strip().splitlines()[-1]
    assert "the loss became" in last
    assert "in epoch 1, batch " in last
    assert "lower learning_rate" in last


OWN = """
import torch
from torch import nn

def seven():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))

def squeezed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))

def undefined():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net.register_forward_hook(lambda module, inputs, output: output / 0 * 0)
    return net
"""


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("seven", "the network's output has the shape [4, 7], needed is [4, 10] (one logit for each of 10 classes)"),
        ("squeezed", "the network's output has the shape [4], needed is [4, 10]"),
        ("undefined", "the network's logits for image 0 are NaN or infinite"),
        ("sevn", "unknown function in own_networks 'sevn': did you mean 'seven'?"),
    ],
)
def test_a_network_that_is_no_classifier_of_these_images(
    stackelberg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, sentence: str
) -> None:
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    refused(stackelberg("audit", f"own_networks:{function}", *FAST), sentence)
    assert not (tmp_path / "audit").exists()


def test_a_pickle_is_refused(stackelberg: Command, tmp_path: Path) -> None:
    for name in ("weights.pt", "weights.safetensors"):
        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / name)
        answer = stackelberg("audit", tmp_path / name, "--model", "mlp", *FAST)
        refused(answer, f"{tmp_path / name} is a pickle", "is refused", "safetensors.torch.save_file")


def test_a_truncated_file_of_weights(stackelberg: Command, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes((trained / "best.safetensors").read_bytes()[:-40])
    answer = stackelberg("audit", path, "--model", "mlp", "--width", 8, *FAST)
    refused(answer, f"{path} is truncated or no safetensors file", "copy or write it again")


def test_a_run_s_truncated_checkpoint_gives_way_to_the_other_and_is_said(
    stackelberg: Command, trained: Path, tmp_path: Path
) -> None:
    for path in trained.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[:-40] if path.name == "best.safetensors" else content)
    answer = stackelberg("audit", tmp_path, *FAST, "--json")
    assert answer.status == 0
    said = answer.err.splitlines()[0]
    assert "best.safetensors is truncated" in said
    assert said.endswith("last.safetensors is used instead")


def test_a_truncated_training_state_gives_way_to_the_one_before_and_is_said(
    stackelberg: Command, tmp_path: Path
) -> None:
    arguments = ("train", "--data", "digits", *TINY, "--epochs", 3)
    assert stackelberg(*arguments, "--out", tmp_path / "whole").status == 0
    assert stackelberg(*arguments, "--out", tmp_path / "torn").status == 0
    state = tmp_path / "torn" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    answer = stackelberg(*arguments, "--out", tmp_path / "torn", "--resume")
    assert answer.status == 0
    assert f"{state} is damaged" in answer.err
    assert "the checkpoint before it is used" in answer.err
    assert "epoch 3/3" in answer.err  # played again
    assert "epoch 2/3" not in answer.err
    same(tmp_path / "whole", tmp_path / "torn")


def same(one: Path, other: Path) -> None:
    """Two runs ended in the same weights, bit for bit."""
    for name in ("best.safetensors", "last.safetensors"):
        theirs = load_file(other / name)
        for tensor, value in load_file(one / name).items():
            assert value.equal(theirs[tensor]), tensor


def test_a_run_directory_in_use_is_not_overwritten(stackelberg: Command, tmp_path: Path) -> None:
    arguments = ("train", "--data", "digits", *TINY, "--out", tmp_path)
    assert stackelberg(*arguments).status == 0
    before = (tmp_path / "best.safetensors").read_bytes()
    refused(stackelberg(*arguments), f"{tmp_path} already holds a run; pass --resume to go on with it")
    answer = stackelberg(*arguments, "--seed", 1, "--resume")
    refused(answer, f"{tmp_path} holds a run with another seed (0, now 1)")
    assert (tmp_path / "best.safetensors").read_bytes() == before


def test_a_full_disk_leaves_no_half_file(
    stackelberg: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    answer = stackelberg("audit", trained, *FAST, "--out", tmp_path / "audit")
    assert answer.status == 2
    line = answer.err.strip().splitlines()[-1]
    assert f"cannot write {tmp_path / 'audit' / 'batches' / '0000.json'}: No space left on device" in line
    assert list((tmp_path / "audit").iterdir()) == []
    answer = stackelberg("train", "--data", "digits", *TINY, "--out", tmp_path / "run")
    assert answer.status == 2
    assert "No space left on device; nothing was changed" in answer.line
    assert list((tmp_path / "run").iterdir()) == []


def test_a_killed_run_resumes_to_the_same_weights(stackelberg: Command, tmp_path: Path) -> None:
    arguments = ("train", "--data", "digits", *TINY, "--epochs", 12, "--device", "cpu")
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "stackelberg", *map(str, arguments), "--out", str(killed)]
    # the test's own number of threads: sums are not the same for another
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        while not (killed / "state.safetensors").exists():
            assert process.poll() is None, "the run ended before its first checkpoint"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert json.loads((killed / "run.json").read_text())["status"] == "running"
    assert stackelberg(*arguments, "--out", killed, "--resume").status == 0
    assert stackelberg(*arguments, "--out", tmp_path / "whole").status == 0
    same(tmp_path / "whole", killed)


def test_the_data_the_tests_use_is_what_they_say() -> None:
    assert data.load("digits", "train").shape == (1, 8, 8)
