"""Where does a killed training go on?  One file holds all of its state, written whole; the one before is kept."""

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.files import from_json, replacing, write_text
from stackelberg.games.sharding import like, whole

STATE, PREVIOUS, RECORD = "state.safetensors", "state-previous.safetensors", "run.json"


@dataclass(frozen=True)
class Snapshot:
    """A training's state: tensors by name, and plain data.

    Attributes:
        tensors: weights ("model.", "average."), optimiser moments ("optimizer."), on the processor.
        plain: step, history, the game's numbers, best epoch, and so on; JSON.
    """

    tensors: dict[str, Tensor]
    plain: dict[str, Any]


def save_tensors(tensors: dict[str, Tensor], path: Path, plain: dict[str, Any] | None = None) -> None:
    """A safetensors file, whole or not at all."""
    cpu = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as scratch:
        save_file(cpu, scratch, metadata={"plain": json.dumps(plain)} if plain is not None else None)


def save(snapshot: Snapshot, folder: Path) -> None:
    """Write the state; the state before becomes the previous one."""
    if (folder / STATE).exists():
        os.replace(folder / STATE, folder / PREVIOUS)
    save_tensors(snapshot.tensors, folder / STATE, snapshot.plain)


def read(path: Path) -> Snapshot:
    """A state file.

    Raises:
        SafetensorError: it is truncated or no state file.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "plain" not in metadata:
            raise SafetensorError("no training state inside")
        return Snapshot({name: file.get_tensor(name) for name in file.keys()}, from_json(metadata["plain"]))  # noqa: SIM118


def newest(folder: Path) -> tuple[Snapshot | None, str | None]:
    """(the newest whole state, or None; a sentence if the newest file was damaged and an older one is used)."""
    trouble = None
    for name in (STATE, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            return read(path), trouble
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            trouble = f"{path} is damaged ({error}); the checkpoint before it is used"
    if trouble:
        raise StackelbergError(f"{folder}: no checkpoint can be read; start again with another --out")
    return None, None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments by parameter number, whole; where they are in parts, every process must ask."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{i}.{key}": whole(value)
        for i, one in state.items()
        for key, value in one.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put saved moments back, each split as its parameter is."""
    found = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            found["state"].setdefault(int(number), {})[key] = like(parameters[int(number)], value)
    optimizer.load_state_dict(found)


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def prefixed(prefix: str, model: nn.Module | None) -> dict[str, Tensor]:
    """A model's tensors with `prefix` before their names."""
    return {} if model is None else {prefix + name: value for name, value in model.state_dict().items()}


def environment(device: torch.device) -> dict[str, Any]:
    """On what did it run?"""
    cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processor": torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def write_record(record: dict[str, Any], folder: Path) -> None:
    """run.json, whole or not at all."""
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """run.json, or None where there is none.

    Raises:
        StackelbergError: it is no JSON.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record = from_json(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"it holds a {type(record).__name__}")
        return record
    except (OSError, ValueError) as error:
        raise StackelbergError(f"{path} is no valid JSON ({error}); start again with another --out") from None
