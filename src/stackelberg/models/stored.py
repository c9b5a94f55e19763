"""Which network is this, and is its file safe to load?  From whatever the user has: a run, weights, a program, code."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.files import from_json
from stackelberg.models.catalogue import NAMES, Spec
from stackelberg.models.exported import load_exported
from stackelberg.models.imported import load_function
from stackelberg.models.onnx_file import ENDINGS
from stackelberg.models.onnx_network import load_onnx
from stackelberg.models.weights import check_finite, fits, put, read_spec, read_weights

RUN, BEST, LAST = "run.json", "best.safetensors", "last.safetensors"
FOLDERS: dict[str, Callable[[Path], nn.Module]] = {}
"""What else a directory may hold: the file that tells, and who reads it. Rooms above add theirs when imported."""
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")


def load(
    source: str | os.PathLike[str],
    name: str | None = None,
    *,
    classes: int | None = None,
    shape: Sequence[int] | None = None,
    width: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """A trained network, in evaluation mode, from a source that cannot run foreign code unasked.

    Args:
        source: a run's directory (run.json and best.safetensors, else last.safetensors); a .safetensors file; a .pt2
            file of torch.export.save; an .onnx file (see `load_onnx`); or pkg.mod:function, the user's own code, which
            is run. Pickles are refused.
        name: of the network whose weights a .safetensors file holds, one of `NAMES`; not needed for a file that
            `save_weights` wrote, which carries its record.
        classes: K, likewise; where the source knows K itself, the two must agree.
        shape: (C, H, W) of an image, likewise.
        width: of the network, likewise.
        mean: of each channel, likewise (see `Normalized`).
        std: of each channel, likewise.
        device: where the network shall live. A .pt2 file fixes the places of the tensors it makes on its way, so it
            is not enough to move it afterwards.

    Raises:
        StackelbergError: the source is missing, damaged, a pickle or of no known kind; the weights do not fit the
            network or are not finite; or what it was trained for is not what is asked.
    """
    text = os.fspath(source)
    path = Path(text)
    asked = {"name": name, "classes": classes, "shape": shape, "width": width, "mean": mean, "std": std}
    asked = {key: value for key, value in asked.items() if value is not None}
    if path.is_dir():
        other = next((read for name, read in FOLDERS.items() if (path / name).is_file()), None)
        model = _folder(path, asked, torch.device(device)) if other is None else other(path)
    elif path.is_file():
        model = _file(path, asked, torch.device(device))
    elif ":" in text:
        model = load_function(text)
        check_finite(model.state_dict(), text)
    else:
        raise StackelbergError(
            f"there is no network {text}: pass a run's directory, a .safetensors, .pt2 or .onnx file, or"
            " pkg.mod:function"
        )
    return model.eval().to(device)


def _file(path: Path, asked: dict[str, Any], device: torch.device) -> nn.Module:
    with path.open("rb") as file:
        head = file.read(4)
    ending = path.suffix.lower()
    if path.name.lower().endswith(ENDINGS):
        model = load_onnx(path)
        check_finite(dict(model.named_parameters()), str(path))  # a constant may be infinite, as a mask is
        return model
    if ending == ".pt2":
        model = load_exported(path, device)
        check_finite(model.state_dict(), str(path))
        return model
    if ending in _PICKLES or head[:2] == b"PK" or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"):
        raise StackelbergError(
            f"{path} is a pickle, which can run any code when it is loaded, and is refused: where you trust it, convert"
            " it with safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"
        )
    if ending != ".safetensors":
        raise StackelbergError(
            f"{path} is no network: a file must be .safetensors, .pt2 or .onnx, got {ending or 'no ending'!r}"
        )
    tensors = read_weights(path)
    return _built(tensors, _spec(path, asked), path)


def _spec(path: Path, asked: dict[str, Any]) -> Spec:
    """The record that a weights file carries, or its run; it must agree with what is asked. Else what is asked."""
    carried = read_spec(path)
    if carried is None and "name" not in asked and (path.parent / RUN).is_file():
        carried = _recorded(path.parent / RUN)
    if carried:
        return _agreed(carried, asked, str(path))
    missing = [key for key in ("name", "classes", "shape") if key not in asked]
    if missing:
        raise StackelbergError(
            f"{path} does not say which network it belongs to: pass its {', '.join(missing)}"
            f" (names: {', '.join(NAMES)})"
        )
    return Spec.read(asked)


def _agreed(spec: Spec, asked: dict[str, Any], source: str) -> Spec:
    wanted = Spec.read({**spec.model_dump(), **asked})
    for key in asked:
        own, other = getattr(spec, key), getattr(wanted, key)
        if own != other:
            raise StackelbergError(
                f"{source} was trained with {key} {own}, asked is {other}; leave it out or pass {own}"
            )
    return spec


def _built(tensors: dict[str, Tensor], spec: Spec, path: Path) -> nn.Module:
    """The network of a record with a file's weights; a normalisation that lies among the weights is taken from them."""
    if spec.mean is None and {"mean", "std"} <= set(tensors):
        spec = spec.model_copy(update={key: tuple(tensors[key].flatten().tolist()) for key in ("mean", "std")})
    fits(tensors, spec.outline(), str(path))  # before a record that lies about its size takes the memory for it
    model = spec.build(seed=0)
    put(tensors, model, str(path))
    return model


def _folder(folder: Path, asked: dict[str, Any], device: torch.device) -> nn.Module:
    """A run; or a folder with one file of weights, as collections of models keep them, which needs the name."""
    if (folder / RUN).is_file():
        return _run(folder, asked)
    weights = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", *_PICKLES))
    if len(weights) == 1:
        return _file(weights[0], asked, device)
    if weights:
        raise StackelbergError(
            f"{folder} is no run (it has no {RUN}) and holds {len(weights)} files of weights"
            f" ({', '.join(path.name for path in weights[:3])}, ...); pass one of them"
        )
    return _run(folder, asked)


def _run(folder: Path, asked: dict[str, Any]) -> nn.Module:
    spec = _agreed(_recorded(folder / RUN), asked, str(folder))
    kept = [folder / name for name in (BEST, LAST) if (folder / name).is_file()]
    if not kept:
        raise StackelbergError(f"{folder} holds no checkpoint ({BEST} or {LAST}); train again, or resume the run")
    for place, path in enumerate(kept):
        try:
            return _built(read_weights(path), spec, path)
        except StackelbergError as error:
            if place == len(kept) - 1:
                raise
            warnings.warn(f"{error}. {kept[place + 1].name} is used instead", stacklevel=3)
    raise AssertionError("unreachable")


def _recorded(path: Path) -> Spec:
    """The network that a run's record names."""
    try:
        record = from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StackelbergError(
            f"{path.parent} is no run: it has no {path.name}; pass a directory that training wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise StackelbergError(f"{path} is truncated or no JSON ({error}); train again") from error
    fields = record.get("model") if isinstance(record, dict) else None
    if not isinstance(fields, dict):
        raise StackelbergError(
            f"{path} names no network that can be built from its record: it was trained from your own code, so build"
            f" it there and call load_weights(network, '{path.parent / BEST}')"
        )
    return Spec.read(fields, str(path))
