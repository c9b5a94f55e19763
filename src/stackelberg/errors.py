"""What is said when something is wrong: one sentence with the thing, its value, what is allowed, and the mend."""

import difflib
from collections.abc import Iterable


class StackelbergError(ValueError):
    """The one root of every error this package raises on purpose; the command line prints it and exits with 2."""


def one_line(sentence: str, most: int = 800) -> str:
    """The sentence on one line of at most `most` characters, without control characters; its middle is left out.

    >>> one_line("no file a\\nb\\x00")
    'no file a b\\\\x00'
    """
    words = " ".join(sentence.split())
    said = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in words)
    half = most // 2 - 3
    return said if len(said) <= most else f"{said[:half]} [...] {said[-half:]}"


def unknown(kind: str, name: str, known: Iterable[str]) -> StackelbergError:
    """The error for a name that is not in a catalogue, with the nearest known name.

    >>> print(unknown("model", "smal-cnn", ["small-cnn", "mlp"]))
    unknown model 'smal-cnn': did you mean 'small-cnn'? Known: mlp, small-cnn
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return StackelbergError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names)}")
