"""How long do searches by scores go on in a test?  A tenth of a user's time: they are the longest part of an audit."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from stackelberg import attacks


@contextmanager
def brief(patience: int = 500) -> Iterator[None]:
    """Audits begun in here, in this process, ask so many queries at most of each example (see `attacks.suite`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacks, "suite", partial(attacks.suite, patience=patience))
        yield
