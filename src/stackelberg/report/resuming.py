"""What was found before the audit was killed?  Every finished batch lies on the disk, under the name of its audit.

A batch's finding is a function of the model, the data, the plan and the program. So each is written down as soon as it
is known, with a fingerprint of these four; an audit of the same four takes what is there and does the rest.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.files import from_json, write_text
from stackelberg.models.weights import fingerprint
from stackelberg.report.finding import BatchFinding, Plan, Timing

Pair = tuple[BatchFinding, Timing]
PARTS = ("model", "data", "plan", "program")
"""What an audit's results depend on, in the order in which a difference is named."""


@cache
def _form() -> Any:
    """Reads a pair from plain values, every one of them checked."""
    return TypeAdapter(Pair)


def fingerprints(model: nn.Module, data: Dataset, batches: Sequence[Tensor], plan: Plan) -> dict[str, str]:
    """A SHA-256 of each of `PARTS`.

    Of the model: its class, layers and weights, and the classes it gives to some of the examples (the only trace of a
    model without weights; left out where it does not repeat itself). Of the program: its own source, torch's version
    and the kind of device.
    """
    index = torch.cat(list(batches))
    x, _ = data.batch(index[:64])
    device = next((p.device for p in model.parameters()), data.device)
    with untouched(model), torch.no_grad():
        first, again = (model(x.to(device)).argmax(1).tolist() for _ in range(2))
    layers = [f"{name} {type(part).__qualname__} {part.extra_repr()}" for name, part in model.named_modules()]
    sizes = [len(batch) for batch in batches]
    return {
        "model": _digest([layers, fingerprint(model), first if first == again else None]),
        "data": _digest([data.name, data.classes, index.tolist(), _content(data, batches)]),
        "plan": _digest([asdict(plan), sizes]),
        "program": _digest([_source(), torch.__version__, device.type]),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _content(data: Dataset, batches: Sequence[Tensor]) -> str:
    """Of the examples as they are stored, and their labels."""
    digest = hashlib.sha256()
    for batch in batches:
        for part in (data.x, data.y):
            digest.update(part[batch.to(part.device)].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@cache
def _source() -> str:
    """Of this package's own files."""
    digest = hashlib.sha256(version("stackelberg").encode())
    for path in sorted(Path(str(files("stackelberg"))).rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Store:
    """The finished batches of one audit, one file each, in `folder`."""

    folder: Path
    audit: dict[str, str]

    def finished(self, batches: Sequence[Tensor]) -> tuple[dict[int, Pair], str | None]:
        """(finding of every batch that is there, by number; which part of the audit that left others is another now).

        Files of another audit, and damaged ones, are not taken.
        """
        found, other = {}, None
        for number, batch in enumerate(batches):
            record = self._read(number)
            if record is None:
                continue
            if record.get("audit") != self.audit:
                then = record.get("audit") or {}
                other = other or next((part for part in PARTS if then.get(part) != self.audit[part]), PARTS[-1])
                continue
            try:
                pair = _form().validate_python((record["finding"], record["timing"]))
            except (KeyError, ValidationError):
                continue
            if pair[0].index == tuple(batch.tolist()):
                found[number] = pair
        return found, other

    def keep(self, number: int, pair: Pair) -> None:
        """Write a finished batch, whole or not at all; where none can be written no empty folder stays behind."""
        finding, timing = (asdict(part) for part in pair)
        record = {"audit": self.audit, "finding": finding, "timing": timing}
        try:
            write_text(self._path(number), json.dumps(record, allow_nan=False))
        except StackelbergError:
            with contextlib.suppress(OSError):  # it holds other batches, or is not there
                self.folder.rmdir()
            raise

    def remove(self) -> None:
        """Drop all batches: the report holds what they held."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.json"

    def _read(self, number: int) -> dict[str, Any] | None:
        try:
            record = from_json(self._path(number).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None
