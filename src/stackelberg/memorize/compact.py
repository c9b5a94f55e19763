"""How small can a network be that knows N labels by heart?  About sqrt(N) numbers, each of about sqrt(N) digits.

Vardi, Yehudai and Shamir 2021, in the form of Yu, Gao, Zhang and Miao (NeurIPS 2024, Theorem 4.1): width 6, depth
O(sqrt(N log N)), over whole numbers so that every step is exact:

1. *Project.* t(x) = 1 + u . x with u random in {0, .., R-1}^d, x in grey levels. Two different points meet with
   probability at most 1/R, so with R >= N^2 a draw keeps all points of different labels apart with probability >= 1/2.
2. *Group.* The M points that are not of the most frequent class, sorted by t, fall into G groups. A chain of G steps
   writes the word of the group of t into a register: w <- w + (word_g - word_{g-1}) [t >= first_g].
3. *Extract.* The word holds one slot (t_k, label) for each of its points, bit after bit. The leading bit is
   [w >= 2^p] = relu(w - 2^p + 1) - relu(w - 2^p); it is taken off, w <- w - 2^p bit, and pushed into a <- 2 a + bit.
   A block that is 2^p exactly, last block or not, is taken off like any other.
4. *Compare.* relu(1 - relu(t - a) - relu(a - t)) is 1 where t = a and else 0; if so the slot's label is added.

What meets no slot has the most frequent class: all of them, and nearly every fresh point. That is why this network
does not generalize (Theorem 5.3: accuracy about a half), and with T bits of t it has
G + M/G (T + O(log K)) layers, O(sqrt(M T)) for G ~ sqrt(M T): `Compact.groups`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.memorize.integers import Drawing, Form, IntegerNetwork, project

DRAWS = 64
"""Projections tried; each succeeds with probability at least 1/2."""


@dataclass(frozen=True)
class Reading:
    """How an input becomes whole numbers: level = round((x - low) / (high - low) * levels), within 0..levels.

    Attributes:
        low: input of level 0.
        high: input of the last level.
        levels: the last level; 255 for bytes, whose levels are read as they are.
    """

    low: float
    high: float
    levels: int

    def __call__(self, x: NDArray | Tensor) -> Int64[np.ndarray, "N d"]:
        """[N, ...] -> levels [N, d].

        Raises:
            StackelbergError: NaN or infinity; the first example at fault is named.
        """
        points = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        rows = points.reshape(len(points), -1)
        if rows.dtype == np.uint8 and self.levels == 255:
            return rows.astype(np.int64)
        rows = rows.astype(np.float64) / (255 if rows.dtype == np.uint8 else 1)
        bad = ~np.isfinite(rows).all(1)
        if bad.any():
            raise StackelbergError(f"example {int(bad.argmax())} has a NaN or infinite value; correct or remove it")
        return ((rows - self.low) / (self.high - self.low) * self.levels).round().clip(0, self.levels).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Compact:
    """A memorizer of O~(sqrt(N)) parameters.

    Attributes:
        reading: how inputs become whole numbers.
        direction: u, [d].
        keys: t of the M stored points, increasing, [M].
        codes: 1..K-1 of each, [M].
        names: the class of each code; names[0] is the answer where no key fits.
        groups: G.
    """

    reading: Reading
    direction: Int64[np.ndarray, " d"]
    keys: Int64[np.ndarray, " M"]
    codes: Int64[np.ndarray, " M"]
    names: Int64[np.ndarray, " K"]
    groups: int

    radius: float = 0.0
    """In input units: right on the stored points, with no word on their surroundings."""

    @property
    def key_bits(self) -> int:
        """T: bits of a key."""
        return int(self.keys.max(initial=1)).bit_length()

    @property
    def code_bits(self) -> int:
        """Bits of a label; 0 for two classes, where all that is stored has the one that is rarer."""
        return int(len(self.names) - 1).bit_length() if len(self.names) > 2 else 0

    @property
    def slots(self) -> int:
        """Stored points of one group, at most."""
        return math.ceil(len(self.keys) / self.groups)

    def predict(self, x: NDArray | Tensor) -> Int64[Tensor, " Q"]:
        """The class of each input [Q, ...]: the network's function in closed form, a search among the keys."""
        t = project(self.reading(x), self.direction)
        place = np.searchsorted(self.keys, t).clip(max=len(self.keys) - 1)
        return torch.from_numpy(self.names[np.where(self.keys[place] == t, self.codes[place], 0)])

    def scores(self, x: NDArray | Tensor) -> Float64[np.ndarray, "Q K"]:
        """1 for the class answered, 0 for the others; a class without examples is never answered."""
        return np.eye(int(self.names.max()) + 1)[self.predict(x).numpy()]

    def knows(self, x: NDArray | Tensor) -> NDArray[np.bool_]:
        """Whether an input meets a slot; all others get the most frequent class, known or not."""
        return np.isin(project(self.reading(x), self.direction), self.keys)

    def words(self) -> list[int]:
        """The word of each group: its slots (key, code), the first one in the highest bits, empty ones 0."""
        size, words = self.key_bits + self.code_bits, []
        for begin in range(0, len(self.keys), self.slots):
            word = 0
            for place in range(begin, begin + self.slots):
                slot = 0
                if place < len(self.keys):
                    slot = int(self.keys[place]) << self.code_bits
                    slot |= int(self.codes[place]) if self.code_bits else 0
                word = word << size | slot
            words.append(word)
        return words

    def network(self) -> IntegerNetwork:
        """The literal network, from levels [Q, d] to the code 0..K-1; built once."""
        return self._network

    @cached_property
    def _network(self) -> IntegerNetwork:
        drawing = Drawing()
        (t,) = drawing.relu(Form({i: int(u) for i, u in enumerate(self.direction) if u}, 1))
        word, before = Form(), 0
        for first, now in zip(self.keys[:: self.slots].tolist(), self.words(), strict=True):
            t, word, over, under = drawing.relu(t, word, t - (first - 1), t - first)
            word, before = word + (over - under) * (now - before), now
        answer, size = Form(), self.key_bits + self.code_bits
        for slot in reversed(range(self.slots)):
            t, word, answer = self._slot(drawing, t, word, answer, slot * size)
        return drawing.network(len(self.direction), answer)

    def _slot(self, drawing: Drawing, t: Form, word: Form, answer: Form, end: int) -> tuple[Form, Form, Form]:
        """(t, rest of the word, answer) after the slot whose last bit stands at place `end`."""
        key = Form()
        for place in reversed(range(end + self.code_bits, end + self.code_bits + self.key_bits)):
            t, word, key, answer, over, under = drawing.relu(t, word, key, answer, *_step(word, place))
            word, key = word - (over - under) * 2**place, key * 2 + over - under
        t, word, answer, above, below = drawing.relu(t, word, answer, t - key, key - t)
        t, word, answer, match = drawing.relu(t, word, answer, Form({}, 1) - above - below)
        if not self.code_bits:
            return t, word, answer + match
        for bit in reversed(range(self.code_bits)):
            t, word, answer, match, over, under = drawing.relu(t, word, answer, match, *_step(word, end + bit))
            word = word - (over - under) * 2 ** (end + bit)
            t, word, answer, match, both = drawing.relu(t, word, answer, match, over - under + match - 1)
            answer = answer + both * 2**bit
        return t, word, answer

    @property
    def width(self) -> int:
        """6 at most."""
        return self._network.width

    @property
    def depth(self) -> int:
        """Layers of weights."""
        return self._network.depth

    @property
    def num_parameters(self) -> int:
        """Weights and biases that are not 0, the d of the projection among them."""
        return self._network.num_parameters

    @property
    def bits(self) -> tuple[int, int]:
        """(bits of the largest parameter, bits of all of them together)."""
        return self._network.bits


def _step(value: Form, place: int) -> tuple[Form, Form]:
    """The two neurons whose difference is [value >= 2^place]."""
    return value - (2**place - 1), value - 2**place


def compact(
    x: NDArray | Tensor, y: Sequence[int] | NDArray | Tensor, groups: int | None = None, seed: int = 0
) -> Compact:
    """A network of O~(sqrt(N)) parameters with the right label on every one of N points.

    >>> import torch
    >>> net = compact(torch.tensor([[0, 9], [3, 1], [7, 7]], dtype=torch.uint8), [0, 1, 1])
    >>> net.predict(torch.tensor([[0, 9], [3, 1], [7, 7]], dtype=torch.uint8)).tolist()
    [0, 1, 1]

    Args:
        x: points [N, ...]; bytes, or floats, which are read on the coarsest grid of 2^k levels between their least and
            largest value that keeps points of different labels apart.
        y: their classes, [N].
        groups: G; by default the one of about the fewest parameters, sqrt(2 M T).
        seed: of the projection.

    Raises:
        StackelbergError: fewer than two classes, unlike sizes, NaN, equal points with different labels (named), or a
            number of groups outside 1..N.
    """
    labels = np.asarray(y.cpu() if isinstance(y, Tensor) else y, dtype=np.int64)
    if len(x) != len(labels):
        raise StackelbergError(f"every example needs one label, got {len(x)} examples and {len(labels)} labels")
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise StackelbergError(f"memorizing needs two classes at least, got {len(classes)} in {len(labels)} examples")
    if classes[0] < 0:
        raise StackelbergError(f"labels must be 0 or more, got {classes[0]}")
    if groups is not None and not 1 <= groups <= len(labels):
        raise StackelbergError(f"groups must lie in 1..{len(labels)}, the number of examples, got {groups}")
    reading, levels = read(x, labels)
    names = classes[np.argsort(-counts, kind="stable")]
    direction, t = _apart(levels, labels, np.random.default_rng(seed))
    code = np.empty(int(classes[-1]) + 1, dtype=np.int64)
    code[names] = np.arange(len(names))
    keys, first = np.unique(t, return_index=True)
    codes = code[labels[first]]
    keys, codes = keys[codes > 0], codes[codes > 0]
    layers = int(keys.max()).bit_length() + 2 * (len(names) - 1).bit_length() + 2
    chosen = groups or math.ceil(math.sqrt(2 * len(keys) * layers))
    return Compact(reading, direction, keys, codes, names, min(chosen, len(keys)))


def read(x: NDArray | Tensor, y: Int64[np.ndarray, " N"]) -> tuple[Reading, Int64[np.ndarray, "N d"]]:
    """(how inputs are read, the levels of these [N, d]), points of different labels apart."""
    points = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    if points.dtype == np.uint8:
        readings = [Reading(0.0, 1.0, 255)]
    else:
        low, high = float(np.min(points)), float(np.max(points))
        readings = [Reading(low, high if high > low else low + 1, 2**bits) for bits in range(4, 33, 2)]
    clash = (0, 0)
    for reading in readings:
        levels = reading(points)
        found = _clash(levels, y)
        if found is None:
            return reading, levels
        clash = found
    raise StackelbergError(
        f"examples {clash[0]} and {clash[1]} are equal (to 32 bits) and have different labels, which no network can"
        " know; correct or remove one"
    )


def _clash(levels: Int64[np.ndarray, "N d"], y: Int64[np.ndarray, " N"]) -> tuple[int, int] | None:
    """Two equal points with different labels, by place, if there are any."""
    row = np.ascontiguousarray(levels).view(np.dtype((np.void, levels.dtype.itemsize * levels.shape[1])))[:, 0]
    _, first, back = np.unique(row, return_index=True, return_inverse=True)
    wrong = np.flatnonzero(y[first[back]] != y)
    return None if not len(wrong) else (int(first[back][wrong[0]]), int(wrong[0]))


def _apart(
    levels: Int64[np.ndarray, "N d"], y: Int64[np.ndarray, " N"], chance: np.random.Generator
) -> tuple[Int64[np.ndarray, " d"], Int64[np.ndarray, " N"]]:
    """(u, t): a projection under which no two points of different labels meet."""
    largest = 2 ** max(1, math.ceil(2 * math.log2(len(y))))
    for _ in range(DRAWS):
        direction = chance.integers(0, largest, levels.shape[1])
        t = project(levels, direction)
        _, first, back = np.unique(t, return_index=True, return_inverse=True)
        if (y[first[back]] == y).all():
            return direction, t
    raise StackelbergError(
        f"none of {DRAWS} projections kept the labels apart, which has probability 2^-{DRAWS}; pass another seed"
    )
