"""What does a report hold?  Frozen records; their JSON form is the published schema."""

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from stackelberg.certify.document import Record, Threat
from stackelberg.errors import StackelbergError
from stackelberg.files import write_text
from stackelberg.report.weight_records import WeightRobustness
from stackelberg.threat import Rate

_NUMBERS = re.compile(r"\[([\s\d.,eE+-]*)\]")  # of numbers: written on one line
SCHEMA: Literal["stackelberg.report/1"] = "stackelberg.report/1"


class Bracket(Record):
    """lower <= true robust accuracy <= upper, on the examples audited.

    Attributes:
        upper: the share that stood every attack: measured.
        lower: the share right and proved to stay right: certified.
    """

    upper: Rate
    lower: Rate


class AttackRow(Record):
    """One attack of the suite, run on the examples that still stood.

    Attributes:
        name: of the attack.
        robust_after: accuracy left after it.
        broken: examples it broke first.
        seconds: of wall time, all batches and processes together.
        forwards: examples sent forward.
        backwards: examples sent backward.
        skipped: why it did not run, or None.
        passed_over: standing examples it did not try, since no attack before had brought them near enough.
    """

    name: str
    robust_after: float
    broken: int
    seconds: float
    forwards: int
    backwards: int
    skipped: str | None = None
    passed_over: int = 0


class CertificateRow(Record):
    """One method of proof.

    Attributes:
        method: for example "ibp".
        certified: examples right and proved to stay right in the whole ball.
        n: examples audited.
        seconds: of wall time, over all radii of the curve.
        unsupported: why it proved nothing about this network, or None.
    """

    method: str
    certified: int
    n: int
    seconds: float
    unsupported: str | None = None


class Caveat(Record):
    """Something the reader must know before believing the numbers.

    Attributes:
        code: a stable short name.
        weight: "doubt" (the upper end may be far above the truth) or "note".
        found: what was seen.
        means: what follows from it.
        done: what the audit did about it, or what the reader can do.
    """

    code: str
    weight: Literal["doubt", "note"]
    found: str
    means: str
    done: str


class CurvePoint(Record):
    """The bracket at one radius, in input units; the upper end by a cheaper attack than the suite's."""

    radius: float
    upper: Rate
    lower: Rate


class Exhibit(Record):
    """One example that fell: pictures in base64, PNG of images and SVG of clouds.

    Attributes:
        index: in the data set.
        label: the right class.
        before: the class the model saw in x (the right one), and its probability.
        after: the class it saw in x', and its probability.
        attack: which attack found x'.
        distance: ||x' - x|| in the threat's norm.
        image: x.
        difference: x' - x around mid-grey, multiplied by `amplified`; of a cloud the way of each point, so multiplied.
        moved: x', rounded to 8 bits for display.
        amplified: factor of the difference picture.
    """

    index: int
    label: str
    before: str
    before_confidence: float
    after: str
    after_confidence: float
    attack: str
    distance: float
    image: str
    difference: str
    moved: str
    amplified: float


class DataRecord(Record):
    """Which examples were audited: `index` into the data set, and how they were chosen."""

    name: str
    size: int
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    chosen: str
    index: tuple[int, ...]


class Outcomes(Record):
    """What became of each example, in the order of `DataRecord.index`.

    Attributes:
        label: its class.
        fell_to: the attack that broke it, "" if it was wrong unmoved, None if it stands.
        broken_from: the first place in the curve's radii at which it is broken, their number if it never is.
        certified: how many of the curve's leading radii are proved (0 where the label is wrong).
    """

    label: tuple[int, ...]
    fell_to: tuple[str | None, ...]
    broken_from: tuple[int, ...]
    certified: tuple[int, ...]


class ModelRecord(Record):
    """Which network was audited; `weights` is the SHA-256 of its parameters and buffers."""

    name: str
    parameters: int
    outputs: int
    weights: str
    spec: dict[str, Any] | None = None


class Settings(Record):
    """All that decides an audit's result besides the model and the data."""

    seed: int
    effort: str
    batch_size: int
    radii: tuple[float, ...]
    gallery: int


class Environment(Record):
    """Where and when."""

    stackelberg: str
    torch: str
    python: str
    platform: str
    processor: str
    device: str
    threads: int
    processes: int
    created: str
    seconds: float


class Exploited(Record):
    """What a stronger follower gains over the one that the network was trained with (`games.exploitability`).

    Attributes:
        game: in which it was trained; its ball may be another than the audit's threat.
        value: payoff under the strongest follower found less that under the training's, in nats or logit units.
        low: lower end of its bootstrap interval.
        high: upper end.
        confidence: nominal coverage of the interval.
        n: examples.
        measured: always true: it is an estimate from below, no bound.
    """

    game: str
    value: float
    low: float
    high: float
    confidence: float
    n: int
    measured: Literal[True] = True


class Report(Record):
    """The whole answer about one network under one threat; a pure value, from which pages are drawn.

    Attributes:
        version: of the schema.
        threat: what the adversary may do.
        n: examples audited.
        clean: accuracy on them unmoved.
        robust: the bracket.
        attacks: in the order in which they ran.
        certificates: the methods of proof.
        warnings: doubts first.
        curve: the bracket at several radii.
        gallery: some examples that fell.
        examples: what became of each.
        model: which network.
        data: which examples.
        settings: with which the audit repeats itself.
        exploitability: how far from its game's equilibrium; None where the game is not known or nobody moves in it.
        weights: how it fares with changed weights; None where that was not asked.
        environment: where and when; with the seconds, all that may differ between two equal audits.
    """

    version: Literal["stackelberg.report/1"] = Field(
        default=SCHEMA, serialization_alias="schema", validation_alias="schema"
    )
    threat: Threat
    n: int
    clean: Rate = Field(serialization_alias="clean_accuracy", validation_alias="clean_accuracy")
    robust: Bracket = Field(serialization_alias="robust_accuracy", validation_alias="robust_accuracy")
    attacks: tuple[AttackRow, ...]
    certificates: tuple[CertificateRow, ...]
    warnings: tuple[Caveat, ...]
    curve: tuple[CurvePoint, ...]
    gallery: tuple[Exhibit, ...]
    examples: Outcomes
    model: ModelRecord
    data: DataRecord
    settings: Settings
    environment: Environment
    exploitability: Exploited | None = None
    weights: WeightRobustness | None = None

    @property
    def believable(self) -> bool:
        """Whether nothing was seen that puts the upper end in doubt."""
        return all(caveat.weight != "doubt" for caveat in self.warnings)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write report.json, whole or not at all; its form is `schema()`."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(path, _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Report":
        """Read a report.

        Raises:
            StackelbergError: the file is missing, or is no report of this version.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise StackelbergError(f"cannot read {path}: {error.strerror or error}; pass a report.json") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise StackelbergError(f"{path} is no {SCHEMA} report: {place}: {first['msg']}; audit again") from error

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write report.html, one file that needs nothing else, whole or not at all."""
        from stackelberg.report.page import page  # a page is drawn from records, so records come first

        write_text(path, page(self))


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of report.json."""
    body = Report.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:{SCHEMA}", **body}
