"""How is a file written?  Whole or not at all; and how is a text read that nobody may have checked?"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stackelberg.errors import StackelbergError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path` in one step, else it is removed.

    A reader sees the old file or the new one, never half of one; after a crash or a full disk the old one stands.

    Raises:
        StackelbergError: the disk is full, or the folder cannot be written.
    """
    target = Path(path)
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
        scratch = Path(name)
        yield scratch
        scratch.chmod(0o644)
        with open(scratch, "rb") as written:
            os.fsync(written.fileno())
        os.replace(scratch, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StackelbergError(
            f"cannot write {target}: {reason}; nothing was changed, free the space or pass another --out"
        ) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def from_json(text: str | bytes) -> Any:
    """The value that a text of JSON stands for.

    Raises:
        ValueError: it is no JSON, or nests deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
