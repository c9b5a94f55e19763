"""What is the most robust network with small weights?  The nearest stored point decides.

    f_c(x) = -min over i with y_i = c of ||x - x_i||,    label = argmax_c f_c(x).

Every f_c is 1-Lipschitz, so where the best score leads by m the label is kept within m / 2, for any query; on
B(x_i, mu) it leads by lambda - 2 mu or more, so it is right for every mu < lambda / 2 at once. For two classes the
binary form is phi = f_1 - f_0, of Lipschitz constant 2, and no function with values +- lambda on the data has a smaller
one (Yu, Gao and Zhang, "Optimal robust memorization with ReLU neural networks", ICLR 2024, theorem 5.2, for two).

As a ReLU network (linf): |t| = relu(t) + relu(-t); the largest of d numbers by a tree, max(a, b) = a + relu(b - a), of
ceil(log2 d) layers; m <- m - relu(m - dist). Hidden weights are -1, 0 or 1; width 3d + K; depth
N (ceil(log2 d) + 2) + 1. x is carried as x - floor >= 0 with floor_j = min_k x_kj - lambda / 2.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.memorize.layers import Layer, Layered, Part, wired
from stackelberg.memorize.memorizer import Memorizer, apart, asked, checked, in_units, tidy_shape
from stackelberg.memorize.nearest import Neighbours


def lipschitz(x: Tensor | NDArray, y: Tensor | NDArray, norm: str = "linf") -> "LipschitzMemorizer":
    """The network of small weights that is right on B(x_i, mu) for every i and every mu < lambda / 2.

    >>> import torch
    >>> net = lipschitz(torch.tensor([[0.0, 0.2], [1.0, 0.6]]), torch.tensor([0, 1]))
    >>> net.predict(torch.tensor([[0.4, 0.6], [0.6, 0.9]])).tolist()
    [0, 1]

    Args:
        x: points [N, ...], uint8 (level / 255) or floating point.
        y: classes 0..K-1, [N], each of which occurs.
        norm: "linf", "l2" or "l1"; a literal network exists for linf.

    Raises:
        StackelbergError: points that cannot be memorized (see `memorizer.checked`), an unknown norm, an empty class.
    """
    points, labels = checked(x, y)
    found = apart(points, labels, norm)
    missing = np.flatnonzero(np.bincount(labels) == 0)
    if len(missing):
        raise StackelbergError(f"class {missing[0]} has no point; number the classes 0, 1, ... without gaps")
    return LipschitzMemorizer(points, labels, tidy_shape(x), norm, found.value / 2, found)


class Certified(NamedTuple):
    """The answer to queries, with what is certain about it.

    Attributes:
        label: [B].
        radius: within it, in the memorizer's norm and input units, the label cannot change: half the lead, [B].
        nearest: the stored point that decides, [B].
    """

    label: Int64[Tensor, " B"]
    radius: Float64[Tensor, " B"]
    nearest: Int64[Tensor, " B"]


@dataclass(frozen=True, eq=False)
class LipschitzMemorizer(Memorizer):
    """See the module; `radius` is lambda / 2, and every smaller one is right."""

    kind: ClassVar[str] = "lipschitz"

    @property
    def width(self) -> int:
        return 3 * self.points.shape[1] + self.classes

    @property
    def depth(self) -> int:
        return len(self.points) * (self._levels + 2) + 1

    @property
    def num_parameters(self) -> int:
        """About N d (log2 d + 12): see the layers of `network`."""
        count, d = self.points.shape
        tree, parts = 0, np.full(d, 2)
        while len(parts) > 1:
            a, b = parts[: 2 * (len(parts) // 2)].reshape(-1, 2).T
            tree += int((2 * a + b).sum()) + int(parts[2 * len(a) :].sum()) + d + self.classes
            parts = np.array([2] * len(a) + [1] * (len(parts) % 2))
        low = int(np.count_nonzero(self.floor))
        inner = 5 * d + self.classes + 1
        least = int(parts[0]) + d + self.classes + 1
        return 5 * d + low + (count - 1) * inner + count * (tree + least) + 1

    @property
    def num_dense(self) -> int:
        """With the zeros of full matrices."""
        sizes = [3 * self.points.shape[1] + self.classes, *self._sizes]
        inner = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
        d, count = self.points.shape[1], len(self.points)
        return (
            (d + 1) * sizes[0]
            + (count - 1) * (sizes[-1] + 1) * sizes[0]
            + count * inner
            + (sizes[-1] + 1) * self.classes
        )

    @property
    def largest_weight(self) -> float:
        """Of the weights; biases are at most the data's range plus lambda / 2."""
        return 1.0

    @property
    def lipschitz(self) -> float:
        """Of each score, in the memorizer's norm; of a difference of two scores, the binary form, twice as much."""
        return 1.0

    def scores(self, x: Shaped[Tensor, " B *shape"]) -> Float64[Tensor, "B K"]:
        """f_c(x)."""
        return torch.from_numpy(-self._distances(x)[0])

    logits = scores

    def predict(self, x: Shaped[Tensor, " B *shape"]) -> Int64[Tensor, " B"]:
        """The class of the nearest stored point, any of several that are as near."""
        nearest = self._undivided.distances(self._read(x))[1][:, 0]
        return torch.from_numpy(self.labels[nearest])

    def certified(self, x: Shaped[Tensor, " B *shape"]) -> Certified:
        """The label of any query, the radius within which it cannot change, and the stored point that decides."""
        distance, index = self._distances(x)
        label = distance.argmin(1)
        first, second = np.partition(distance, 1, axis=1)[:, :2].T
        nearest = index[np.arange(len(index)), label]
        return Certified(*(torch.from_numpy(part) for part in (label, (second - first) / 2, nearest)))

    def network(self) -> Layered:
        """The scores as layers, each made from the stored point when it is needed; output [B, K].

        Raises:
            StackelbergError: the norm is not linf: other distances are not piecewise linear, or take other trees.
        """
        if self.norm != "linf":
            raise StackelbergError(f"the literal network is built for linf, got {self.norm!r}; use .scores")
        return Layered(self.depth, _Recipe(self).layer, torch.from_numpy(self.floor))

    def _read(self, x: Tensor) -> NDArray[np.float64]:
        rows = asked(x, self.shape)
        return np.maximum(rows, self.floor) if self.norm == "linf" else rows

    def _distances(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return self._neighbours.distances(self._read(x))

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours.of(self.points, self.labels, self.classes, self.norm)

    @cached_property
    def _undivided(self) -> Neighbours:
        """All points as of one class, for the nearest of all."""
        return Neighbours.of(self.points, np.zeros_like(self.labels), 1, self.norm)

    @property
    def _levels(self) -> int:
        return math.ceil(math.log2(self.points.shape[1])) if self.points.shape[1] > 1 else 0

    @property
    def _sizes(self) -> list[int]:
        """Units after each level of the tree, and in the layer of the minimum."""
        d, sizes, left = self.points.shape[1], [], self.points.shape[1]
        while left > 1:
            sizes.append(left + d + self.classes)
            left = (left + 1) // 2
        return [*sizes, d + self.classes + 1]


class _Recipe:
    """The layers. For each stored point: halves of |x - x_k|, the levels of the tree, the minimum; then the scores.

    After a level of P pairs: [r (P), a (P, or P + 1 where one was left over), x (d), m (K)], where the values are
    a_i + r_i, and a_P alone. After a minimum: [x (d), m (K), r], where m of the point's class becomes m - r, or r if
    the point is the first of its class.
    """

    def __init__(self, memorizer: LipschitzMemorizer) -> None:
        self.memorizer, self.floor = memorizer, memorizer.floor
        self.is_first = np.zeros(len(memorizer.labels), bool)
        self.is_first[np.unique(memorizer.labels, return_index=True)[1]] = True
        self.d, self.classes = memorizer.points.shape[1], memorizer.classes
        self.halves: dict[tuple[int, bool] | None, Tensor] = {None: self._halves(None)}
        self.tree, self.parts = self._tree()
        self.least: dict[tuple[int, bool], Tensor] = {}

    def layer(self, number: int) -> Layer:
        """The layer of this number."""
        k, step = divmod(number, len(self.tree) + 2)
        before = None if k == 0 else self._key(k - 1)
        if k == len(self.memorizer.points):
            return _unbiased(self._scores(self._key(k - 1)))
        if 0 < step <= len(self.tree):
            return _unbiased(self.tree[step - 1])
        if step:
            key = self._key(k)
            self.least.setdefault(key, self._minimum(*key))
            return _unbiased(self.least[key])
        if before not in self.halves:
            self.halves[before] = self._halves(before)
        point = in_units(self.memorizer.points[k]) - (0.0 if k == 0 else self.floor)
        bias = np.zeros(3 * self.d + self.classes)
        bias[: self.d], bias[self.d : 2 * self.d] = point, -point
        if k == 0:
            bias[2 * self.d : 3 * self.d] = -self.floor
        return Layer(self.halves[before], torch.from_numpy(bias))

    def _key(self, k: int) -> tuple[int, bool]:
        return int(self.memorizer.labels[k]), bool(self.is_first[k])

    def _halves(self, before: tuple[int, bool] | None) -> Tensor:
        d, classes, each = self.d, self.classes, np.arange(self.d)
        parts = [(each, each, -1.0), (d + each, each, 1.0), (2 * d + each, each, 1.0)]
        if before is None:
            return wired(parts, 3 * d + classes, d)
        return wired([*parts, *self._running(before, 3 * d, d)], 3 * d + classes, d + classes + 1)

    def _running(
        self, before: tuple[int, bool], into: int, out_of: int
    ) -> list[tuple[NDArray | int, NDArray | int, float]]:
        """The K minima after the point before, from [.., m, r]."""
        label, first = before
        names = np.arange(self.classes)
        return [(into + names, out_of + names, 1.0), (into + label, out_of + self.classes, 1.0 if first else -1.0)]

    def _tree(self) -> tuple[list[Tensor], list[tuple[int, ...]]]:
        """(the levels' matrices, the columns whose sum is the largest difference)."""
        d, kept = self.d, self.d + self.classes
        values = [(j, d + j) for j in range(d)]
        size, matrices = 3 * d + self.classes, []
        while len(values) > 1:
            pairs, odd = divmod(len(values), 2)
            parts: list[Part] = []
            for i in range(pairs):
                a, b = values[2 * i], values[2 * i + 1]
                parts += [(i, np.array(b), 1.0), (i, np.array(a), -1.0), (pairs + i, np.array(a), 1.0)]
            if odd:
                parts.append((2 * pairs, np.array(values[-1]), 1.0))
            after = 2 * pairs + odd
            parts.append((after + np.arange(kept), size - kept + np.arange(kept), 1.0))
            matrices.append(wired(parts, after + kept, size))
            values = [(i, pairs + i) for i in range(pairs)] + [(2 * pairs,)] * odd
            size = after + kept
        return matrices, values

    def _minimum(self, label: int, first: bool) -> Tensor:
        kept = self.d + self.classes
        size = self.tree[-1].shape[0] if self.tree else 3 * self.d + self.classes
        start = size - kept
        parts = [
            (np.arange(kept), start + np.arange(kept), 1.0),
            (kept, np.array(self.parts[0]), 1.0 if first else -1.0),
        ]
        if not first:
            parts.append((kept, start + self.d + label, 1.0))
        return wired(parts, kept + 1, size)

    def _scores(self, before: tuple[int, bool]) -> Tensor:
        parts = [(out, into, -value) for out, into, value in self._running(before, 0, self.d)]
        return wired(parts, self.classes, self.d + self.classes + 1)


def _unbiased(weight: Tensor) -> Layer:
    return Layer(weight, torch.zeros(weight.shape[0], dtype=torch.float64))
