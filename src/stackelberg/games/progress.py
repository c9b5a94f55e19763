"""How far is the training?  A bar on a terminal, plain lines off it."""

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def sentence(record: dict[str, Any], epochs: int) -> str:
    """One epoch's record in words."""
    robust = "" if record["robust"] is None else f", robust {100 * record['robust']:.1f} %"
    proved = "" if record["certified"] is None else f", certified {100 * record['certified']:.1f} %"
    return (
        f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.3f},"
        f" held-out clean {100 * record['clean']:.1f} %{robust}{proved} ({record['seconds']:.0f} s)"
    )


class Reporter:
    """Shows the steps of a training on standard error; quiet when `shown` is False."""

    def __init__(self, epochs: int, steps: int, shown: bool) -> None:
        self.epochs, self.steps, self.shown = epochs, steps, shown
        console = Console(stderr=True)
        self._bar = None
        if shown and console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("training", total=epochs * steps)

    def __enter__(self) -> "Reporter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, done: int) -> None:
        """`done` steps of the whole training are behind."""
        if self._bar:
            self._bar.update(self._task, completed=done)

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch ended."""
        if self._bar:
            robust = "" if record["robust"] is None else f" robust {100 * record['robust']:.1f} %"
            self._bar.update(self._task, description=f"clean {100 * record['clean']:.1f} %{robust}")
        self.say(sentence(record, self.epochs))

    def say(self, text: str) -> None:
        """A line for the user."""
        if self._bar:
            self._bar.console.print(text)
        elif self.shown:
            print(text, file=sys.stderr, flush=True)
