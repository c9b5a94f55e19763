"""How is a compact memorizer kept, asked like any network, and checked?  By its keys; as scores; digit by digit."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from stackelberg.certify.checking import KINDS, Judgement, Kind
from stackelberg.certify.document import DataSource, Document, ModelSource, Record, example_digest, head
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.files import from_json, replacing, write_text
from stackelberg.memorize.compact import Compact, Reading
from stackelberg.models.black_box import BlackBox
from stackelberg.models.stored import FOLDERS
from stackelberg.models.weights import fingerprint, read_weights

SCHEMA = "stackelberg.compact/1"
RECORD, KEYS = "compact.json", "keys.safetensors"
_ARRAYS = ("direction", "keys", "codes", "names")


class Recall(BlackBox):
    """1 for the class that a compact memorizer answers, 0 for the others, [B, K].

    Attributes:
        compact: that answers.
    """

    def __init__(self, compact: Compact) -> None:
        super().__init__(self._asked, int(compact.names.max()) + 1)
        self.compact = compact
        for name, tensor in _tensors(compact).items():
            self.register_buffer(name, tensor)

    def _asked(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.compact.scores(x.cpu())).float()


def _tensors(compact: Compact) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(getattr(compact, name))) for name in _ARRAYS}


def keep(compact: Compact, folder: str | os.PathLike[str]) -> None:
    """Write keys.safetensors and compact.json, each whole or not at all."""
    with replacing(Path(folder) / KEYS) as scratch:
        scratch.write_bytes(write_tensors(_tensors(compact)))
    reading = compact.reading
    fields = {
        "schema": SCHEMA, "groups": compact.groups,
        "reading": {"low": reading.low, "high": reading.high, "levels": reading.levels},
    }  # fmt: skip
    write_text(Path(folder) / RECORD, json.dumps(fields, indent=1) + "\n")


def recall(folder: str | os.PathLike[str]) -> Compact:
    """The compact memorizer that `keep` wrote.

    Raises:
        StackelbergError: a file is missing or damaged.
    """
    path = Path(folder) / RECORD
    try:
        fields = from_json(path.read_text(encoding="utf-8"))
        if fields["schema"] != SCHEMA:
            raise ValueError(f"schema {fields['schema']!r}")
        read = fields["reading"]
        reading, groups = Reading(float(read["low"]), float(read["high"]), int(read["levels"])), int(fields["groups"])
        tensors = read_weights(Path(folder) / KEYS)
        direction, keys, codes, names = (tensors[name].numpy().astype(np.int64) for name in _ARRAYS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StackelbergError(f"{path} is missing or no {SCHEMA} record ({error}); memorize again") from error
    return Compact(reading, direction, keys, codes, names, groups)


class ByHeartClaim(Record):
    """What is claimed of one example.

    Attributes:
        index: in the data.
        example: SHA-256 of its numbers in float32.
        label: that the network gives it.
    """

    index: int
    example: str
    label: int


class ByHeart(Document):
    """That a compact memorizer knows the labels of some examples; of their surroundings nothing is said.

    Attributes:
        claims: one per example.
    """

    kind: str = "by-heart"
    claims: tuple[ByHeartClaim, ...]


def by_heart(compact: Compact, source: str, data: Dataset, split: str, index: list[int]) -> ByHeart:
    """The claims about some of the stored examples; `source` is the memorizer's folder, `split` that of the data."""
    floats = data.batch(index)[0]
    claims = tuple(
        ByHeartClaim(index=at, example=example_digest(floats[i]), label=int(data.y[at])) for i, at in enumerate(index)
    )
    model = ModelSource(source=source, parameters=compact.num_parameters, weights=fingerprint(Recall(compact)))
    return ByHeart(**head(model, DataSource(source=data.name, split=split, size=len(data))), claims=claims)


def judge(document: ByHeart, claim: ByHeartClaim, model: nn.Module, x: Tensor, y: Tensor, seconds: float) -> Judgement:
    """The memorizer answers by a search among its keys; the judge asks the literal network, in whole numbers."""
    if not isinstance(model, Recall):
        return Judgement(claim.index, "refuted", "", "the network is no compact memorizer")
    compact = model.compact
    code = int(np.asarray(compact.network()(compact.reading(x))).ravel()[0])
    answer = int(compact.names[code]) if 0 <= code < len(compact.names) else -1
    if answer != claim.label:
        return Judgement(claim.index, "refuted", "network", f"the network answers {answer}, claimed {claim.label}")
    return Judgement(claim.index, "confirmed", "network", f"the network of whole numbers answers {answer}, exactly")


def read(folder: Path) -> Recall:
    """The compact memorizer in a folder, as a network."""
    return Recall(recall(folder))


FOLDERS[RECORD] = read
KINDS["by-heart"] = Kind(ByHeart, judge)
