"""What has an exhibit measured so far?  Numbers, networks, files: kept as they come, so that a killed run goes on."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from stackelberg import __version__, models
from stackelberg.exhibits.exhibit import Exhibit
from stackelberg.files import write_text

if TYPE_CHECKING:
    from stackelberg.exhibits.stage import Stage

LEDGER, SECONDS = "measured.json", "seconds.json"


class Ledger:
    """One folder in the stage's runs for one exhibit at one seed and one choice of settings; delete it to begin anew.

    What it holds at the beginning of a run has been paid for before: the seconds are added to `stage.kept`.

    Attributes:
        folder: where it lies.
        numbers: what was measured, by name.
    """

    def __init__(self, stage: "Stage", exhibit: Exhibit) -> None:
        text = json.dumps([exhibit.settings, stage.seed, __version__], sort_keys=True, default=str)
        self._stage = stage
        self.folder: Path = stage.runs / f"{exhibit.id}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self.numbers: dict[str, Any] = self._kept(LEDGER)
        if self.folder not in stage.opened:
            stage.opened.add(self.folder)
            stage.kept += sum(self._kept(SECONDS).values())

    def number(self, name: str, measure: Callable[[], Any]) -> Any:
        """What was measured under this name, or what `measure` gives now: numbers, texts, lists or dicts of them."""
        if name not in self.numbers:
            value = self._timed(name, lambda: json.loads(json.dumps(measure())))
            self.numbers = self._keep(LEDGER, name, value)
        return self.numbers[name]

    def network(self, name: str, train: Callable[[], nn.Module]) -> nn.Module:
        """The network kept under this name, or the one that `train` gives now; built by `models.build`."""
        file = hashlib.sha256(name.encode()).hexdigest()[:12] + ".safetensors"
        return models.load(self.file(file, lambda path: models.save_weights(train(), path)))

    def file(self, name: str, make: Callable[[Path], object]) -> Path:
        """The file of this name in the folder, or the one that `make` writes there now."""
        path = self.folder / name
        if not path.is_file():
            self._timed(name, lambda: make(path))
        return path

    def _timed(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives; its seconds are kept, without those of what is kept by itself inside."""
        begun, before = time.perf_counter(), self._stage.spent
        made = make()
        own = time.perf_counter() - begun - (self._stage.spent - before)
        self._stage.spent += own
        self._keep(SECONDS, name, own)
        return made

    def _keep(self, file: str, name: str, value: Any) -> dict[str, Any]:
        kept = self._kept(file) | {name: value}  # another process may have measured meanwhile
        write_text(self.folder / file, json.dumps(kept, indent=1) + "\n")
        return kept

    def _kept(self, file: str) -> dict[str, Any]:
        path = self.folder / file
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
