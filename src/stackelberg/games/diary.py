"""Who else keeps a diary of a training?  Any logger of Fabric's interface: CSV, TensorBoard, MLflow, W&B style."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from stackelberg.errors import StackelbergError


class Logger(Protocol):
    """What is asked of one; `log_hyperparams`, `save` and `finalize` are called where it has them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Note some numbers at a step."""
        ...


def refuse_others(loggers: Sequence[Any]) -> None:
    """Refuse what cannot keep numbers.

    Raises:
        StackelbergError: it has no `log_metrics`.
    """
    for logger in loggers:
        if not callable(getattr(logger, "log_metrics", None)):
            raise StackelbergError(
                f"a logger must have log_metrics(metrics, step), got a {type(logger).__name__}; pass for example"
                " lightning_fabric.loggers.CSVLogger('logs')"
            )


@contextmanager
def keeping(loggers: Sequence[Any], record: dict[str, Any], begun: bool) -> Iterator["Diary"]:
    """The loggers of one training: told its settings unless it is a resumed one, and closed at its end.

    Args:
        loggers: see `Logger`; none on all processes but the first.
        record: of the run, as run.json keeps it.
        begun: whether the training goes on with what was begun before: then the settings were told already.
    """
    kept = Diary(tuple(loggers))
    if not begun:
        kept.settings(record)
    status = "failed"
    try:
        yield kept
        status = "success"
    finally:
        kept.close(status)


class Diary:
    """The loggers of one training, told the same things."""

    def __init__(self, loggers: tuple[Any, ...]) -> None:
        self.loggers = loggers

    def settings(self, record: dict[str, Any]) -> None:
        """The run's settings, flat: recipe.batch_size, game.name."""
        for logger in self.loggers:
            if callable(getattr(logger, "log_hyperparams", None)):
                try:
                    logger.log_hyperparams(dict(flat(record)))
                except NotImplementedError:
                    continue  # Fabric's CSV logger keeps numbers alone

    def epoch(self, record: dict[str, Any]) -> None:
        """One epoch's numbers, with the epoch as their step; called once the epoch is saved, so never twice."""
        numbers = {
            name: float(value)
            for name, value in flat(record)
            if name != "epoch" and isinstance(value, int | float) and not isinstance(value, bool)
        }
        for logger in self.loggers:
            logger.log_metrics(numbers, step=record["epoch"])

    def close(self, status: str) -> None:
        """Nothing more comes."""
        for logger in self.loggers:
            for name, words in (("save", ()), ("finalize", (status,))):
                if callable(getattr(logger, name, None)):
                    getattr(logger, name)(*words)


def flat(record: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested records by dotted names.

    >>> dict(flat({"a": 1, "b": {"c": 2}}))
    {'a': 1, 'b.c': 2}
    """
    for name, value in record.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
