"""How far is the audit?  A bar on a terminal, plain lines off it; both on standard error."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Ticker:
    """Counts examples towards a total; `ticker(done, total, words)` says how many are behind, and what goes on."""

    def __init__(self, task: str, shown: bool = True) -> None:
        self.task, self.shown, self.begun = task, shown, time.monotonic()
        console = Console(stderr=True)
        self._bar = None
        if shown and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console)
            self._row = self._bar.add_task(task, total=None)

    def __enter__(self) -> "Ticker":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, done: int, total: int, words: str) -> None:
        if self._bar:
            self._bar.update(self._row, completed=done, total=total, description=f"{self.task}: {words}")
        elif self.shown:
            seconds = time.monotonic() - self.begun
            print(f"{self.task}, {seconds:.0f} s, {done} of {total} done: {words}", file=sys.stderr, flush=True)
