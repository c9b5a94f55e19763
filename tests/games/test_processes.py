"""Two gloo processes play the same game as one: same objective, same accuracy within noise; torchrun too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("two_processes.py")


def answer(folder: Path, *launcher: str, devices: int) -> dict:
    folder.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launcher, SCRIPT, str(devices), folder]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "answer.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return answer(tmp_path_factory.mktemp("one") / "run", sys.executable, devices=1)


@pytest.mark.parametrize(
    "launcher",
    [(sys.executable,), (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29611")],
    ids=["devices", "torchrun"],
)
def test_two_processes_train_as_one(tmp_path: Path, one: dict, launcher: tuple[str, ...]) -> None:
    """The KL weights are of the whole batch: the first objectives agree, which weights per process would not."""
    two = answer(tmp_path / "run", *launcher, devices=2)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["test"]["clean"] == pytest.approx(one["test"]["clean"], abs=0.03)
    assert two["test"]["robust"] == pytest.approx(one["test"]["robust"], abs=0.06)
    assert one["test"]["clean"] > 0.6
    record = json.loads((tmp_path / "run" / "run" / "run.json").read_text())
    assert record["processes"] == 2
    assert record["status"] == "finished"
