"""Can a bound be asked for like this?  What bad input gets."""

from stackelberg.errors import StackelbergError


def check_delta(delta: float) -> None:
    """Raises StackelbergError unless 0 < delta < 1."""
    if not 0 < delta < 1:
        raise StackelbergError(f"delta, the chance that a bound fails, must lie in (0, 1), got {delta}; pass 0.05")


def check_samples(samples: int, least: int = 1) -> None:
    """Raises StackelbergError unless there are enough examples."""
    if samples < least:
        raise StackelbergError(f"a bound needs {least} or more examples, got {samples}; pass a larger set")
