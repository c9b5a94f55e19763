"""A training whose worker is killed goes on by itself, under torchrun, to the weights of one that was left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

SCRIPT = Path(__file__).with_name("restarted.py")


def run(folder: Path, processes: int, strategy: str, *kill: int) -> Path:
    """The run's folder; `kill` is the rank and the step (of 5 an epoch) at which that rank kills itself."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "--max-restarts=1", SCRIPT, folder, strategy, *map(str, kill),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert ("exitcode: -9" in done.stderr) == bool(kill), done.stderr
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    """Of the last and of the best network."""
    names = ("last.safetensors", "best.safetensors")
    return {f"{name}: {key}": value for name in names for key, value in load_file(folder / name).items()}


@pytest.mark.parametrize(("processes", "strategy"), [(2, "ddp"), (4, "ddp"), (2, "fsdp")])
def test_a_killed_worker_does_not_change_the_weights(tmp_path: Path, processes: int, strategy: str) -> None:
    whole = run(tmp_path / "whole", processes, strategy)
    killed = run(tmp_path / "killed", processes, strategy, processes - 1, 12)
    ours, theirs = weights(killed), weights(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name, value in ours.items() if not value.equal(theirs[name])] == []
    records = [json.loads((folder / "run.json").read_text()) for folder in (killed, whole)]
    histories = [[{**epoch, "seconds": 0} for epoch in record["history"]] for record in records]
    assert histories[0] == histories[1]
    assert records[0]["status"] == "finished"
    assert records[0]["processes"] == processes
