"""What is an exhibit?  A published figure or table, how it is measured here, and what has come out."""

import os
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator

from stackelberg.errors import StackelbergError
from stackelberg.files import write_text
from stackelberg.report.records import Environment, Record
from stackelberg.threat import Rate

if TYPE_CHECKING:
    from stackelberg.exhibits.stage import Stage

SCHEMA: Literal["stackelberg.exhibit/1"] = "stackelberg.exhibit/1"


class Measured(Record):
    """One number of an exhibit.

    Attributes:
        name: what was measured.
        published: the same number in the source, as written there; None where it has none.
        rate: the share of n trials with its interval; or
        value: a number that is no rate, in its own unit.
    """

    name: str
    published: str | None = None
    rate: Rate | None = None
    value: float | None = None

    @property
    def here(self) -> str:
        """Our number, in words."""
        return str(self.rate) if self.rate is not None else f"{self.value:.4g}"


class Outcome(Record):
    """What an exhibit's run hands back.

    Attributes:
        measured: the numbers, in the order in which they are shown.
        holds: whether the exhibit's claim does.
        notes: what the reader must know about the numbers.
        pictures: files beside the result, relative to its folder.
    """

    measured: tuple[Measured, ...]
    holds: bool
    notes: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()


class Result(Record):
    """results/<id>.json: the outcome, and all that is needed to judge and to repeat it.

    Attributes:
        version: of the schema.
        id: of the exhibit.
        title: of the exhibit.
        published: the published figure, in words.
        source: where it was published.
        claim: what has to come out, in words.
        settings: with which it was measured.
        seed: of all random numbers.
        networks: the trained networks it used: folder, SHA-256 of the weights, and the record of the training.
        outcome: what came out.
        command: that repeats it.
        environment: versions, hardware, date and seconds.
    """

    version: Literal["stackelberg.exhibit/1"] = Field(SCHEMA, alias="schema")
    id: str
    title: str
    published: str
    source: str
    claim: str
    settings: dict[str, Any]
    seed: int
    networks: tuple[dict[str, Any], ...]
    outcome: Outcome
    command: str
    environment: Environment

    @field_validator("networks")
    @classmethod
    def _known(cls, used: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for network in used:
            if missing := {"name", "weights", "game", "model", "epochs", "seed"} - set(network):
                raise ValueError(f"a network's record has no {min(missing)}")
            if not all(isinstance(network[key], dict | None) for key in ("game", "model")):
                raise ValueError("a network's game and model must be records")
            if not isinstance(network["weights"], str | None):
                raise ValueError("a network's weights must be named by a digest")
        return used

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the result, whole or not at all."""
        write_text(path, self.model_dump_json(by_alias=True, indent=1) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Result":
        """Read a result.

        Raises:
            StackelbergError: it is no result of this version.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise StackelbergError(f"{path} is no {SCHEMA} result; reproduce it with --force") from error


@dataclass(frozen=True)
class Exhibit(ABC):
    """A published figure or table. Its fields are its settings: all that decides the outcome but seed and networks.

    Attributes:
        id: for example "X01".
        title: what it shows.
        published: the published figure, in words.
        source: where it was published.
        claim: what has to come out.
        short: why it may not come out at the size of the settings; said where it does not.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    published: ClassVar[str]
    source: ClassVar[str]
    claim: ClassVar[str]
    short: ClassVar[str] = ""

    @abstractmethod
    def run(self, stage: "Stage") -> Outcome:
        """Measure it."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as plain data."""
        return asdict(self)
