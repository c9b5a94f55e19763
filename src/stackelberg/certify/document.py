"""What does a certificate say on paper?  Frozen records of claims; their JSON form is certificate.json.

A certificate names the network by the SHA-256 of its weights and every example by its place and the SHA-256 of its
numbers, so that whoever has both can verify each claim anew: see `checking`. `digest` guards against slips and careless
changes; it is no signature.
"""

import base64
import hashlib
import json
import os
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from stackelberg.files import write_text

SCHEMA: Literal["stackelberg.certificate/1"] = "stackelberg.certificate/1"


class Record(BaseModel):
    """A frozen record that knows all its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Threat(Record):
    """{x' : ||x' - x|| <= radius, low <= x' <= high}, in input units; for l0 the radius is a count of coordinates."""

    norm: Literal["linf", "l2", "l1", "l0"]
    radius: float
    low: float
    high: float


class ModelSource(Record):
    """Which network, and where it was.

    Attributes:
        source: what `models.load` was given.
        name: of the network whose weights the source holds, where it was needed.
        width: likewise.
        parameters: how many.
        weights: SHA-256 of parameters and buffers.
    """

    source: str
    name: str | None = None
    width: int | None = None
    parameters: int
    weights: str


class DataSource(Record):
    """Which data: what `data.load` was given, and how many examples there were."""

    source: str
    split: str
    size: int


class Document(Record):
    """What every kind of certificate says.

    Attributes:
        version: of the schema.
        kind: of the claims, a name in `checking.KINDS`.
        stackelberg: version that made it.
        created: when, ISO 8601.
        model: which network.
        data: which examples.
        digest: SHA-256 of all other fields in canonical JSON.
    """

    version: Literal["stackelberg.certificate/1"] = Field(
        default=SCHEMA, serialization_alias="schema", validation_alias="schema"
    )
    kind: str
    stackelberg: str
    created: str
    model: ModelSource
    data: DataSource
    digest: str = ""

    def sealed(self) -> "Document":
        """The same with its digest."""
        return self.model_copy(update={"digest": self.expected_digest()})

    def expected_digest(self) -> str:
        """What `digest` must be."""
        fields = self._fields()
        del fields["digest"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write certificate.json with its digest, whole or not at all."""
        write_text(path, json.dumps(self.sealed()._fields(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def _fields(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def head(model: ModelSource, data: DataSource) -> dict[str, Any]:
    """The fields with which every certificate made now begins."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"stackelberg": version("stackelberg"), "created": created, "model": model, "data": data}


Verdict = Literal["proved", "broken", "open"]


class Claim(Record):
    """What is claimed of one example.

    Attributes:
        index: in the data.
        example: SHA-256 of its numbers in float32.
        label: the right class.
        verdict: "proved" (the label stays right in the whole ball), "broken" (it does not, at `point`) or "open".
        margin: proved: a lower bound of min over the ball and k != label of z_label - z_k; broken: that difference at
            `point`; open: the best lower bound, or None. In logit units.
        point: where it breaks, float32 in base64.
    """

    index: int
    example: str
    label: int
    verdict: Verdict
    margin: float | None
    point: str | None = None


class Robustness(Document):
    """Proofs that a classifier keeps its answer in a ball around each example, by one method."""

    kind: str = "robustness"
    method: str
    threat: Threat
    claims: tuple[Claim, ...]

    def count(self, verdict: Verdict) -> int:
        """How many examples got this verdict."""
        return sum(claim.verdict == verdict for claim in self.claims)


class SmoothedClaim(Record):
    """What is claimed of the smoothed network at one example.

    Attributes:
        index: in the data.
        example: SHA-256 of its numbers in float32.
        label: the right class.
        predicted: the smoothed network's class, or -1 where it abstains.
        radius: l2, in input units: the class is kept within it, with the document's confidence; 0 where abstaining.
    """

    index: int
    example: str
    label: int
    predicted: int
    radius: float


class Smoothing(Document):
    """Statistical statements about a network smoothed by noise; each may be wrong with probability `alpha`.

    Attributes:
        sigma: standard deviation of the noise, in input units.
        n0: samples of the vote.
        n: samples of the estimate.
        alpha: probability of a wrong statement, per example.
        seed: of the noise.
        claims: one per example.
    """

    kind: str = "smoothing"
    sigma: float
    n0: int
    n: int
    alpha: float
    seed: int
    claims: tuple[SmoothedClaim, ...]


def example_digest(x: Float[Tensor, " *shape"]) -> str:
    """SHA-256 of one example's numbers in float32, in hexadecimal digits."""
    return hashlib.sha256(_bytes(x)).hexdigest()


def packed(x: Float[Tensor, " *shape"]) -> str:
    """A point's numbers in float32, little endian, as base64."""
    return base64.b64encode(_bytes(x)).decode("ascii")


def unpacked(text: str, shape: tuple[int, ...]) -> Float[Tensor, " *shape"] | None:
    """The point that `packed` wrote, or None if the text is none of this shape."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
        return torch.from_numpy(values.astype(np.float32)).view(shape)
    except (ValueError, RuntimeError):
        return None


def _bytes(x: Tensor) -> bytes:
    return x.detach().cpu().to(torch.float32).contiguous().numpy().astype("<f4").tobytes()
