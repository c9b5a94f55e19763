"""Was this model trained on my data?  A harmless mark with a secret key, and a p-value that is valid.

Candidate marks come in pairs: two patterns of one class, alike in law. For each pair a fair coin of the key decides
which of the two is added, within a radius, to some of that class's published images; the other is held back. Labels
stay true. A network trained on the images learns that the published pattern speaks for the class, which radioactive
data (Sablayrolles et al. 2020) does in features and this in pixels, so no network of one's own is needed. A network
that never saw them cannot know the coins: given its answers, all 2^m sides of the m coins are equally likely, and the
sum over pairs of

    d_j = mean over probes of  log p_c(x + published_j) - log p_c(x + held back_j)

has the law of sum_j s_j |d_j| with fair signs s_j. The p-value is the share of the 2^m signs that reach the sum,
counted exactly. So it holds for every network, every probe set and every score, whatever the patterns do to it by
nature. What they do by nature is noise to the test, and networks of the same kind of data agree in it: the d_j of a
reference network of the owner, trained on the data without marks, may be subtracted. It knows no coin either, so the
p-value still holds.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.data import Dataset, save_parquet
from stackelberg.errors import StackelbergError
from stackelberg.files import write_text
from stackelberg.models import BlackBox, check_output, network
from stackelberg.poison.asking import check_images, grey_levels
from stackelberg.poison.stealth import Stealth, stealth
from stackelberg.threat import Ball

SCHEMA = "stackelberg.key/1"
KEY = "key.json"
_BATCH = 500


@dataclass(frozen=True)
class Key:
    """All that decides the marks. Keep it secret, and publish its commitment with the data.

    Attributes:
        secret: text from which patterns, coins and places are hashed.
        levels: radius of a mark, linf, in grey levels.
        pairs: m, of candidate marks; the smallest p-value is 2^-m.
        share: of a class's images that one published mark takes.
        grain: side of a pattern's squares, pixels.
        shape: (C, H, W) of an image.
        classes: K; pair j belongs to class j mod K.
    """

    secret: str
    levels: int
    pairs: int
    share: float
    grain: int
    shape: tuple[int, int, int]
    classes: int

    @property
    def commitment(self) -> str:
        """SHA-256 of the key: who saw it at publication knows later that coins and patterns were not chosen after."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def pattern(self, pair: int, side: int) -> Float[Tensor, "C H W"]:
        """The candidate `side` (0 or 1) of a pair: +-radius on squares of `grain` pixels, each channel by itself."""
        channels, height, width = self.shape
        rows, columns = math.ceil(height / self.grain), math.ceil(width / self.grain)
        bits = self._bits(f"pattern {pair} {side}", channels * rows * columns).view(channels, rows, columns)
        squares = bits.repeat_interleave(self.grain, 1).repeat_interleave(self.grain, 2)[:, :height, :width]
        return (2.0 * squares - 1) * self.levels / 255

    def coins(self) -> Int64[Tensor, " m"]:
        """Which side of each pair is published."""
        return self._bits("coins", self.pairs).long()

    def class_of(self, pair: int) -> int:
        """The class whose images the pair's published mark is put on."""
        return pair % self.classes

    def order(self, label: int, count: int) -> Int64[Tensor, " n"]:
        """A secret order of a class's images: the first parts of it are marked."""
        seed = int.from_bytes(hashlib.sha256(f"{self.secret} order {label}".encode()).digest()[:8], "big")
        return torch.from_numpy(np.random.default_rng(seed).permutation(count))

    def _bits(self, purpose: str, count: int) -> Tensor:
        """`count` fair bits, by SHA-256 in counter mode."""
        blocks = range(math.ceil(count / 256))
        data = b"".join(hashlib.sha256(f"{self.secret} {purpose} {block}".encode()).digest() for block in blocks)
        return torch.from_numpy(np.unpackbits(np.frombuffer(data, dtype=np.uint8)))[:count]

    def save(self, path: Path | str) -> None:
        """Write the key, secret included, as JSON."""
        write_text(path, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "Key":
        """The key in a file, or in a folder's key.json.

        Raises:
            StackelbergError: it is no key.
        """
        where = Path(path) / KEY if Path(path).is_dir() else Path(path)
        try:
            fields: dict[str, Any] = json.loads(where.read_text(encoding="utf-8"))
            if fields.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            fields["shape"] = tuple(fields["shape"])
            return cls(**fields)
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise StackelbergError(
                f"{where} is no {SCHEMA} ({error}); pass the key that ownership mark wrote"
            ) from error


@dataclass(frozen=True, eq=False)
class Marked:
    """A marked data set: publish `data`, keep `key`.

    Attributes:
        data: of the same schema, labels unchanged.
        key: with which a suspect is tested.
        index: places of the marked examples, rising.
        stealth: of these.
    """

    data: Dataset
    key: Key
    index: Int64[Tensor, " P"]
    stealth: Stealth

    def save(self, folder: Path | str) -> None:
        """Write train.parquet, to be published, and beside the folder's name the secret <folder>.key.json."""
        where = Path(folder)
        save_parquet(self.data, where / "train.parquet")
        self.key.save(where.with_name(where.name + "." + KEY))


@dataclass(frozen=True)
class Verdict:
    """What a suspect model's answers say.

    Attributes:
        p: probability that a model which never saw the data answers so much in favour of the published marks.
        statistic: sum of the advantages.
        advantages: d_j of each pair: how much more the published pattern speaks for the class than its twin.
        probes: images asked.
        scores: whether the model gave scores; else labels alone.
    """

    p: float
    statistic: float
    advantages: tuple[float, ...]
    probes: int
    scores: bool


def mark(train: Dataset, ball: Ball, key: str, *, pairs: int = 20, share: float = 0.5, grain: int = 4) -> Marked:
    """Mark a data set within a linf ball, so that training on it can be proved later from a model's answers.

    Args:
        train: images of at least two classes.
        ball: linf; the radius is rounded down to whole grey levels, and images stay in [0, 1].
        key: a secret text, for example secrets.token_hex(32).
        pairs: of candidate marks, m; a p-value can be as small as 2^-m.
        share: of a class's images that one published mark takes; (pairs / K) of them must fit in a class.
        grain: side of the patterns' squares, pixels.

    Raises:
        StackelbergError: points, one class only, a radius below one grey level, an empty key, or marks that do not fit.
    """
    check_images(train)
    count = len(train.classes)
    if not key:
        raise StackelbergError("the key is empty, so anybody can guess it; pass a secret text, secrets.token_hex(32)")
    if pairs < 1 or grain < 1:
        raise StackelbergError(f"pairs and grain must be at least 1, got {pairs} and {grain}")
    most = 1 / math.ceil(pairs / count)
    if not 0 < share <= most:
        raise StackelbergError(
            f"the share of a class's images for one mark must lie in (0, {most:g}] with {pairs} pairs and {count}"
            f" classes, got {share:g}; pass a smaller share or fewer pairs"
        )
    made = Key(key, grey_levels(ball), pairs, share, grain, train.shape, count)  # pyright: ignore[reportArgumentType]
    x, coins, changed = train.x.clone(), made.coins(), []
    for label in range(count):
        places = (train.y == label).nonzero()[:, 0]
        places = places[made.order(label, len(places))]
        each = round(share * len(places))
        for turn, pair in enumerate(range(label, pairs, count)):
            chosen = places[turn * each : (turn + 1) * each]
            shift = (made.pattern(pair, int(coins[pair])) * 255).round().short()
            x[chosen] = (x[chosen].short() + shift).clamp_(0, 255).to(torch.uint8)
            changed.append(chosen)
    index = torch.cat(changed).sort().values
    if not len(index):
        raise StackelbergError(
            f"a share of {share:g} marks none of the {len(train)} images of {train.name}; pass a larger share"
        )
    data = replace(train, x=x, name=f"{train.name}, marked")
    return Marked(data, made, index, stealth(train.x[index], x[index]))


def test(
    model: nn.Module | Any,
    key: Key,
    probes: Dataset,
    reference: nn.Module | Any = None,  # noqa: PT028
) -> Verdict:
    """Test whether a model was trained on the marked data, by its answers alone.

    Args:
        model: anything that answers for a batch: logits, probabilities, or labels [B] (see `models.network`).
        key: of the marks.
        probes: clean images of the same kind, not of the marked set; a few hundred, labels are used to leave out those
            of the mark's own class.
        reference: a model that was surely trained without the marks, whose answers are subtracted; None for none.

    Raises:
        StackelbergError: the probes' shape or classes are not the key's, or the model's answers do not fit.
    """
    check_images(probes)
    if probes.shape != tuple(key.shape) or len(probes.classes) != key.classes:
        raise StackelbergError(
            f"the key is for images of shape {list(key.shape)} in {key.classes} classes, {probes.name} has"
            f" {list(probes.shape)} in {len(probes.classes)}; pass probes of the marked kind"
        )
    x, y = probes.batch(slice(None))
    natural, _ = (0.0, True) if reference is None else _differences(reference, key, x, y)
    found, scores = _differences(model, key, x, y)
    signs = 1 - 2 * key.coins().double()  # coin 0: side 0 is the published one
    advantages = signs * (found - natural)
    total = float(advantages.sum())
    return Verdict(sign_flip_p(advantages.numpy()), total, tuple(advantages.tolist()), len(x), scores)


def _differences(model: nn.Module | Any, key: Key, x: Tensor, y: Tensor) -> tuple[Float[Tensor, " m"], bool]:
    """(how much more side 0 of each pair speaks for its class than side 1, whether the model gives scores)."""
    asked = network(model, x, key.classes)
    check_output(asked, x[:2], key.classes)
    labels = isinstance(asked, BlackBox) and asked.labels
    found = torch.zeros(key.pairs, dtype=torch.float64)
    with untouched(asked):
        for pair in range(key.pairs):
            label = key.class_of(pair)
            others = x[y != label]
            zero, one = (_speaks(asked, others + key.pattern(pair, side), label, labels) for side in (0, 1))
            found[pair] = zero - one
    return found, not labels


def sign_flip_p(advantages: Float[np.ndarray, " m"]) -> float:
    """The share of the 2^m sign vectors s with sum s_j |d_j| >= sum d_j: exact, by meeting in the middle.

    Under exchangeability P(p <= t) <= t for every t (ties count against the test).
    """
    halves = np.array_split(np.abs(advantages), 2)
    sums = []
    for half in halves:
        reached = np.zeros(1)
        for size in half:
            reached = np.concatenate([reached + size, reached - size])
        sums.append(np.sort(reached))
    threshold = float(np.sum(advantages))
    slack = 1e-9 * max(float(np.abs(advantages).sum()), 1e-300)
    hits = len(sums[1]) * len(sums[0]) - int(np.searchsorted(sums[1], threshold - slack - sums[0]).sum())
    return hits / 2 ** len(advantages)


@torch.no_grad()
def _speaks(model: nn.Module, x: Tensor, label: int, labels: bool) -> float:
    """How much a model's answers speak for a class: the mean of log p_label, or the share of answers that name it."""
    total = 0.0
    for at in range(0, len(x), _BATCH):
        answer = model(x[at : at + _BATCH].clamp(0, 1)).double()
        if labels:
            total += float((answer.argmax(1) == label).sum())
        elif bool((answer >= 0).all() and ((answer.sum(1) - 1).abs() < 1e-3).all()):
            total += float(answer[:, label].clamp(min=1e-12).log().sum())
        else:
            total += float(answer.log_softmax(1)[:, label].sum())
    return total / max(1, len(x))
