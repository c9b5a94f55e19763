"""What is a bound?  A number that an unseen quantity does not exceed, with all that it rests on."""

import math
from dataclasses import dataclass
from typing import Literal

from stackelberg.errors import StackelbergError

Kind = Literal["theorem", "estimate"]

ERROR = "error on the data's distribution"
DRAWN = "the training examples are independent draws of that distribution"


@dataclass(frozen=True)
class Bound:
    """`holds_for` <= value with probability at least `confidence`, if the assumptions hold.

    Attributes:
        name: of the bound, for example "hold-out".
        value: of the upper bound, in the unit of `holds_for`; infinite where nothing can be said.
        confidence: 1 - delta in (0, 1]; 1 for a bound that is no statement about a random sample.
        holds_for: the bounded quantity, for example "error on the data's distribution".
        assumptions: the hypotheses that were not checked, or cannot be; each a sentence.
        vacuous: whether the value says nothing, because the quantity is never larger anyway.
        kind: "theorem", where the value follows from the assumptions; "estimate", where it needs a constant that was
            only estimated; the assumptions say which.
        source: the publication and its theorem or equation.
    """

    name: str
    value: float
    confidence: float
    holds_for: str
    assumptions: tuple[str, ...]
    vacuous: bool
    kind: Kind
    source: str

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            raise StackelbergError(f"the bound {self.name} is not a number; its inputs hold NaN or cancel")
        if not 0 < self.confidence <= 1:
            raise StackelbergError(f"confidence of {self.name} must be in (0, 1], got {self.confidence}")

    def __str__(self) -> str:
        word = "says nothing" if self.vacuous else "at most"
        sure = "" if self.confidence == 1 else f" with confidence {100 * self.confidence:g} %"
        return f"{self.name}: {self.holds_for} {word} ({self.value:.4g}){sure}, {self.kind} ({self.source})"


def of_rate(
    name: str, value: float, delta: float, holds_for: str, assumptions: tuple[str, ...], source: str,
    kind: Kind = "theorem",
) -> Bound:  # fmt: skip
    """A bound of a rate that fails with probability `delta`: from 1 on it says nothing."""
    return Bound(name, value, 1 - delta, holds_for, assumptions, value >= 1, kind, source)
