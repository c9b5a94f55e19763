"""How is a result said?  Words for a reader, JSON for a program, and by one process only."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any


def show(record: dict[str, Any], words: str, as_json: bool) -> None:
    """Print the result on standard output, once, however many processes computed it."""
    if is_first_process():
        print(json.dumps(record, default=_plain, indent=1) if as_json else words, flush=True)


@contextmanager
def warnings_said() -> Iterator[None]:
    """Inside, a warning meant for the user is said at once, on standard error, by one process, as errors are."""

    def say(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, UserWarning) and is_first_process():
            print(f"stackelberg: {message}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = say
        yield


def is_first_process() -> bool:
    """Whether this process speaks for all that run the same command."""
    from torch import distributed

    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _plain(value: Any) -> Any:
    from stackelberg.threat import Rate

    return asdict(value) if isinstance(value, Rate) else str(value)
