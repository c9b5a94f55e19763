"""Weights in a safetensors file: numbers and names, nothing that can run."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.files import from_json, replacing
from stackelberg.models.catalogue import Spec, spec_of

_WRAPPERS = ("module.", "_orig_mod.")  # how torch names the inside of a parallel or compiled network


def save_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write all parameters and buffers, whole or not at all, with the record of a network built here (see `Spec`)."""
    spec = spec_of(model)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    metadata = {"format": "pt"} | ({"spec": spec.model_dump_json()} if spec else {})
    with replacing(path) as scratch:
        scratch.write_bytes(write_tensors(tensors, metadata))


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Put a file's weights into `model`; the model is left as it was where they do not fit.

    Raises:
        StackelbergError: the file is truncated; a tensor is missing, left over, of another shape, NaN or infinite
            (the first one is named).
    """
    put(read_weights(Path(path)), model, str(path))


def fingerprint(model: nn.Module) -> str:
    """The SHA-256 of all parameters and buffers with their names, types and shapes, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        StackelbergError: the file is truncated or no safetensors file, or cannot be read.
    """
    try:
        tensors = read_tensors(path.read_bytes())
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StackelbergError(
            f"{path} is truncated or no safetensors file ({error}); copy or write it again"
        ) from error
    for wrapper in _WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors


def read_spec(path: Path) -> Spec | None:
    """The record of the network that a safetensors file carries in its header, or None."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(min(size, 1 << 26))
    try:
        record = from_json(header).get("__metadata__", {}).get("spec")
    except (ValueError, AttributeError):
        return None
    return Spec.read(_fields(record, str(path)), str(path)) if record else None


def put(tensors: Mapping[str, Tensor], model: nn.Module, source: str) -> None:
    """Put weights into a model whose names and shapes they must match exactly."""
    fits(tensors, model, source)
    check_finite(tensors, source)
    model.load_state_dict(dict(tensors))


def fits(tensors: Mapping[str, Tensor], model: nn.Module, source: str) -> None:
    """Refuse weights whose names and shapes are not those of the model, which may lie on torch's meta device."""
    needed = model.state_dict()
    for name, value in needed.items():
        if name not in tensors:
            left = next((other for other in tensors if other not in needed), None)
            extra = f" (it has {left!r}, which the network does not know)" if left else ""
            raise StackelbergError(f"{source} has no tensor {name!r}{extra}; name the network it was trained as")
        if tensors[name].shape != value.shape:
            raise StackelbergError(
                f"{source}: {name!r} has the shape {list(tensors[name].shape)}, the network needs {list(value.shape)};"
                " name the network, width, classes and image shape it was trained with"
            )
    if extra := [name for name in tensors if name not in needed]:
        raise StackelbergError(
            f"{source} has a tensor {extra[0]!r} that the network does not know; name another network"
        )


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are NaN or infinite, naming the first tensor at fault."""
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            count = int((~torch.isfinite(value)).sum())
            raise StackelbergError(
                f"{source}: {count} of the {value.numel()} numbers in {name!r} are NaN or infinite; use an earlier"
                " checkpoint"
            )


def _fields(record: str, source: str) -> dict:
    try:
        fields = from_json(record)
    except ValueError as error:
        raise StackelbergError(f"{source}: the record of its network is no JSON ({error}); name the network") from error
    return fields if isinstance(fields, dict) else {}
