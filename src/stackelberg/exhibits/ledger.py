"""What has an exhibit measured so far?  Numbers and networks, kept as they come, so that a killed run goes on."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from stackelberg import __version__, models
from stackelberg.exhibits.exhibit import Exhibit
from stackelberg.files import write_text

if TYPE_CHECKING:
    from stackelberg.exhibits.stage import Stage

LEDGER = "measured.json"


class Ledger:
    """One folder in the stage's runs for one exhibit at one seed and one choice of settings; delete it to begin anew.

    Attributes:
        folder: where it lies.
        numbers: what was measured, by name.
    """

    def __init__(self, stage: "Stage", exhibit: Exhibit) -> None:
        text = json.dumps([exhibit.settings, stage.seed, __version__], sort_keys=True, default=str)
        self.folder: Path = stage.runs / f"{exhibit.id}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self.numbers: dict[str, Any] = self._kept()

    def number(self, name: str, measure: Callable[[], Any]) -> Any:
        """What was measured under this name, or what `measure` gives now: numbers, texts, lists or dicts of them."""
        if name not in self.numbers:
            value = json.loads(json.dumps(measure()))
            self.numbers = self._kept() | {name: value}  # another process may have measured meanwhile
            write_text(self.folder / LEDGER, json.dumps(self.numbers, indent=1) + "\n")
        return self.numbers[name]

    def _kept(self) -> dict[str, Any]:
        path = self.folder / LEDGER
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def network(self, name: str, train: Callable[[], nn.Module]) -> nn.Module:
        """The network kept under this name, or the one that `train` gives now; built by `models.build`."""
        path = self.folder / (hashlib.sha256(name.encode()).hexdigest()[:12] + ".safetensors")
        if not path.is_file():
            models.save_weights(train(), path)
        return models.load(path)
