"""Which memorizer generalizes, and can be built in polynomial time?  One that is right on a ball round every sample.

    S_ij(x) = (x_i - x_j) . (x - (.51 x_i + .49 x_j))             for y_j != y_i
    u_i(x)  = sum over j of relu(-S_ij(x)) - r                    r = .01 min over y_i != y_j of ||x_i - x_j||^2
    F_c(x)  = sum over i with y_i = c of relu(-u_i(x))

(Yu, Gao, Zhang and Miao, "Generalizability of memorization networks via ReLU networks", NeurIPS 2024, appendix H, there
for two classes with F = F_1 - F_0; l2 throughout.) Where x_i is nearer than every x_j by a margin, S_ij >= 0 for all j
and F_c(x) >= r for c = y_i; so it is on the ball round x_i of a 3.1th of the distance to the nearest x_j (lemma H.4).

S_ij = (||x - x_j||^2 - ||x - x_i||^2) / 2 - .01 ||x_i - x_j||^2, and where relu(-S_ij) < r for all j the first term is
more than .01 (||x_i - x_j||^2 - lambda^2) >= 0: where F_c > 0, some x_i of class c is nearer than every other class. So
at most one F_c is positive, F is the nearest neighbour's class where it answers, and elsewhere it is 0: it abstains.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.memorize.layers import Layer, Layered, wired
from stackelberg.memorize.memorizer import NO_ANSWER, Memorizer, apart, asked, checked, in_units, tidy_shape

RATIO = 3.1
"""Balls are this many times smaller than the distance to the other classes; any number above 3 will do."""
_ENTRIES = 1 << 23  # distances held at a time


def generalizable(
    x: Tensor | NDArray, y: Tensor | NDArray, norm: str = "l2", radius: float | None = None
) -> "GeneralizableMemorizer":
    """The network that is right on B(x_i, c_i / 3.1), c_i the l2 distance from x_i to the other classes.

    >>> import torch
    >>> net = generalizable(torch.tensor([[0.0, 0.2], [1.0, 0.6]]), torch.tensor([0, 1]))
    >>> net.predict(torch.tensor([[0.2, 0.4], [0.8, 0.5]])).tolist()
    [0, 1]

    Args:
        x: points [N, ...], uint8 (level / 255) or floating point.
        y: classes 0..K-1, [N].
        norm: "l2"; for others `lipschitz` gives label, certified radius and deciding example of any query.
        radius: of balls in which it must be right; less than lambda / 3.1. None: as large as that.

    Raises:
        StackelbergError: points that cannot be memorized (see `memorizer.checked`), another norm, too large a radius.
    """
    if norm != "l2":
        raise StackelbergError(f"this memorizer's cells are those of l2, got {norm!r}; use lipschitz")
    points, labels = checked(x, y)
    found = apart(points, labels, norm)
    largest = found.value / RATIO
    if radius is not None and not 0 <= radius <= largest:
        raise StackelbergError(
            f"radius must lie in [0, lambda / {RATIO}] = [0, {largest:.6g}], got {radius:g}; leave it out, as this"
            " memorizer is right for all of them at once"
        )
    return GeneralizableMemorizer(points, labels, tidy_shape(x), norm, largest, found)


@dataclass(frozen=True, eq=False)
class GeneralizableMemorizer(Memorizer):
    """See the module; `radius` is lambda / 3.1, and each point's own ball is c_i / 3.1, see `radii`."""

    kind: ClassVar[str] = "generalizable"

    @property
    def slack(self) -> float:
        """r."""
        return 0.01 * self.separation.value**2

    @property
    def pairs(self) -> int:
        """Ordered pairs of points with different labels."""
        counts = np.bincount(self.labels)
        return int(len(self.labels) ** 2 - (counts**2).sum())

    @property
    def width(self) -> int:
        return self.pairs

    @property
    def depth(self) -> int:
        return 3

    @property
    def num_parameters(self) -> int:
        """d + 1 a pair, 1 a pair into its u_i, N biases r, N weights into the classes."""
        return self.pairs * (self.points.shape[1] + 2) + 2 * len(self.points)

    @property
    def num_dense(self) -> int:
        count = len(self.points)
        return self.pairs * (self.points.shape[1] + 1) + (self.pairs + 1) * count + (count + 1) * self.classes

    @property
    def largest_weight(self) -> float:
        """The largest |x_i - x_j| in a coordinate over classes, at least 1."""
        groups = [self._rows[self.labels == c] for c in np.unique(self.labels)]
        high, low = (np.stack([pick(group, 0) for group in groups]) for pick in (np.max, np.min))
        apart = high[:, None] - low
        apart[np.arange(len(groups)), np.arange(len(groups))] = 0
        return max(1.0, float(apart.max()))

    @property
    def lipschitz(self) -> float:
        """An upper bound in l2 of each score: max_c of the sum over i of class c, j of others, of ||x_i - x_j||."""
        step, total = max(1, _ENTRIES // len(self.points)), np.zeros(self.classes)
        for at in range(0, len(self.points), step):
            here = slice(at, at + step)
            far = np.where(self.labels[here, None] == self.labels, 0.0, np.sqrt(self._squares(self._rows[here])))
            np.add.at(total, self.labels[here], far.sum(1))
        return float(total.max())

    @property
    def floor(self) -> Float64[np.ndarray, " d"]:
        """None: its layers take x of either sign."""
        return np.full(self.points.shape[1], -np.inf)

    def scores(self, x: Shaped[Tensor, " B *shape"]) -> Float64[Tensor, "B K"]:
        """F_c(x), of which at most one is positive.

        Only points of the nearest one's class that are nearer than all others can matter; the sum over j is done for
        them alone.
        """
        rows = asked(x, self.shape)
        step = max(1, _ENTRIES // len(self.points))
        parts = [self._block(rows[at : at + step]) for at in range(0, len(rows), step)]
        return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, self.classes)))

    logits = scores

    def predict(self, x: Shaped[Tensor, " B *shape"]) -> Int64[Tensor, " B"]:
        """The class c with F_c > 0, or `NO_ANSWER`."""
        best, label = self.scores(x).max(1)
        return torch.where(best > 0, label, NO_ANSWER)

    def network(self) -> Layered:
        """F as three affine layers with relu between, each made when it is needed; output [B, K]."""
        return Layered(3, self._layer, torch.from_numpy(self.floor))

    @cached_property
    def radii(self) -> Float64[np.ndarray, " N"]:
        """c_i / 3.1."""
        step = max(1, _ENTRIES // len(self.points))
        parts = [
            np.where(self.labels[at : at + step, None] == self.labels, np.inf, self._squares(part)).min(1)
            for at, part in ((at, self._rows[at : at + step]) for at in range(0, len(self._rows), step))
        ]
        return np.sqrt(np.concatenate(parts)) / RATIO

    @cached_property
    def _rows(self) -> Float64[np.ndarray, "N d"]:
        return in_units(self.points).astype(np.float64)

    @cached_property
    def _lengths(self) -> Float64[np.ndarray, " N"]:
        return (self._rows**2).sum(1)

    def _squares(self, rows: Float64[np.ndarray, "B d"]) -> Float64[np.ndarray, "B N"]:
        """||x - x_i||^2."""
        return np.maximum((rows**2).sum(1)[:, None] + self._lengths - 2 * rows @ self._rows.T, 0.0)

    def _block(self, rows: Float64[np.ndarray, "B d"]) -> Float64[np.ndarray, "B K"]:
        near = self._squares(rows)
        label = self.labels[near.argmin(1)]
        enemy = self.labels != label[:, None]
        query, point = np.nonzero((near < np.where(enemy, near, np.inf).min(1)[:, None]) & ~enemy)
        found = np.zeros((len(rows), self.classes))
        step = max(1, _ENTRIES // len(self.points))
        for at in range(0, len(query), step):
            b, i = query[at : at + step], point[at : at + step]
            side = (near[b] - near[b, i][:, None]) / 2 - 0.01 * self._squares(self._rows[i])
            height = self.slack - np.where(enemy[b], np.maximum(-side, 0.0), 0.0).sum(1)
            np.add.at(found, (b, label[b]), np.maximum(height, 0.0))
        return found

    def _layer(self, number: int) -> Layer:
        i, j = np.nonzero(self.labels[:, None] != self.labels)
        count, pairs = len(self.points), np.arange(len(i))
        if number == 0:  # -S_ij
            across = self._rows[i] - self._rows[j]
            bias = (across * (0.51 * self._rows[i] + 0.49 * self._rows[j])).sum(1)
            return Layer(torch.from_numpy(-across).to_sparse(), torch.from_numpy(bias))
        if number == 1:  # -u_i
            return Layer(
                wired([(i, pairs, -1.0)], count, len(i)), torch.full((count,), self.slack, dtype=torch.float64)
            )
        weight = wired([(self.labels, np.arange(count), 1.0)], self.classes, count)
        return Layer(weight, torch.zeros(self.classes, dtype=torch.float64))
