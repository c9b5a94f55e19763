"""What is the most robust network of these data?  One that is right in every linf ball of radius below lambda / 2.

With labels coded y_k = 1..K, lambda the separation bound and mu < lambda / 2 (Yu, Gao and Zhang, "Optimal robust
memorization with ReLU neural networks", ICLR 2024, theorem 4.8):

    S_k(x) = sum_j relu(|x_j - x_kj| - mu),    c_k = y_k / (lambda - 2 mu),
    a_0 = 0,    a_k = max(a_{k-1}, y_k - c_k S_k(x)) = a_{k-1} + relu(y_k - c_k S_k(x) - a_{k-1}),    F = a_N.

In B(x_i, mu): S_i = 0, so F >= y_i; where y_k != y_i some coordinate has |x_j - x_kj| >= lambda - mu, so S_k >= lambda
- 2 mu and the term is <= 0; where y_k = y_i it is <= y_i. Hence F = y_i on the whole ball. No function can be right on
all balls of radius lambda / 2: two of them meet.

A layer A_k (width 3d + 1) holds relu(x_kj - x_j - mu), relu(x_j - x_kj - mu), x and a; B_k holds x, a and the relu of
the maximum (width d + 2); so the depth is 2N + 1. x is carried as x - floor >= 0 with floor_j = min_k x_kj - mu.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.memorize.layers import Layer, Layered, wired
from stackelberg.memorize.memorizer import NO_ANSWER, Memorizer, apart, asked, checked, in_units, tidy_shape
from stackelberg.memorize.nearest import BLOCK, GROUP, SHRINK, STRIDE, bounds, head_of, least, rounded, telling
from stackelberg.memorize.threads import in_groups

SHARE = 0.999
"""The default radius as a share of lambda / 2."""

NOISE = 0.25
"""How far rounding may move F, and how far F may be from a code that is read as an answer."""


def optimal(
    x: Tensor | NDArray, y: Tensor | NDArray, norm: str = "linf", radius: float | None = None
) -> "OptimalMemorizer":
    """The network that is right on B(x_i, radius) for every i, for any radius below lambda / 2.

    >>> import torch
    >>> net = optimal(torch.tensor([[0.0, 0.2], [1.0, 0.6]]), torch.tensor([0, 1]))  # lambda = 1
    >>> net.predict(torch.tensor([[0.4, 0.6], [0.6, 0.9]])).tolist(), net.width
    ([0, 1], 7)

    Args:
        x: points [N, ...], uint8 (level / 255) or floating point.
        y: classes 0..K-1, [N].
        norm: "linf", for which the theorem is; theirs for l_p (B.6) is deeper and is not built (`docs/decisions.md`).
        radius: mu, in input units; None is 0.999 lambda / 2. The nearer it is to lambda / 2, the larger the weights,
            which grow as K / (lambda - 2 mu), and the more a query's own rounding counts.

    Raises:
        StackelbergError: points that cannot be memorized (see `memorizer.checked`), a radius of lambda / 2 or more,
            or one so near to it that float64 cannot hold the network.
    """
    points, labels = checked(x, y)
    if norm != "linf":
        raise StackelbergError(
            f"the optimal construction is for linf, got norm {norm!r}; use memorize.lipschitz, which is optimal in"
            " linf, l2 and l1"
        )
    found = apart(points, labels, norm)
    mu = SHARE * found.value / 2 if radius is None else float(radius)
    if not 0 <= mu < found.value / 2:
        raise StackelbergError(
            f"radius must lie in [0, lambda / 2) = [0, {found.value / 2:.6g}) with the separation bound lambda ="
            f" {found.value:.6g}, attained by points {found.pair[0]} and {found.pair[1]}, got {mu:g}; pass less"
        )
    noise = points.shape[1] * np.finfo(np.float64).eps * (labels.max() + 1) / (found.value - 2 * mu)
    if noise >= NOISE:
        raise StackelbergError(
            f"radius {mu:g} is too near to lambda / 2 = {found.value / 2:g} for float64: rounding may move the output"
            f" by {noise:.3g}, allowed is less than {NOISE}; pass a smaller radius"
        )
    return OptimalMemorizer(points, labels, tidy_shape(x), norm, mu, found)


@dataclass(frozen=True, eq=False)
class OptimalMemorizer(Memorizer):
    """See the module."""

    kind: ClassVar[str] = "optimal"

    @property
    def width(self) -> int:
        return 3 * self.points.shape[1] + 1

    @property
    def depth(self) -> int:
        return 2 * len(self.points) + 1

    @property
    def num_parameters(self) -> int:
        """N (8d + 5) + d."""
        count, d = self.points.shape
        return count * (8 * d + 5) + d

    @property
    def num_dense(self) -> int:
        """With the zeros of full matrices, about 6 N d^2."""
        count, d = self.points.shape
        wide, narrow = 3 * d + 1, d + 2
        return (d + 1) * wide + (count - 1) * (narrow + 1) * wide + count * (wide + 1) * narrow + narrow + 1

    @property
    def largest_weight(self) -> float:
        """K / (lambda - 2 mu), or 1."""
        return max(1.0, self.classes / self.gap)

    @property
    def lipschitz(self) -> float:
        """|F(x) - F(x')| <= d K / (lambda - 2 mu) ||x - x'||inf, attained just outside a corner of a ball."""
        return self.points.shape[1] * self.classes / self.gap

    @property
    def gap(self) -> float:
        """lambda - 2 mu."""
        return self.separation.value - 2 * self.radius

    def scores(self, x: Shaped[Tensor, " B *shape"]) -> Float64[Tensor, " B"]:
        """F(x): y_i + 1 in the ball of x_i; 0 where no stored point is near; anything in [0, K] between.

        Only points with ||x - x_k||inf < lambda - mu have a positive term, and only they are summed.
        """
        rows = np.maximum(asked(x, self.shape), self.floor)
        return torch.from_numpy(self._evaluator(rows))

    def predict(self, x: Shaped[Tensor, " B *shape"]) -> Int64[Tensor, " B"]:
        """The class whose code F is within 1/4 of, or -1: no stored point is near enough to answer."""
        values = self.scores(x)
        codes = values.round()
        answered = ((values - codes).abs() <= NOISE) & (codes >= 1)
        return torch.where(answered, codes.long() - 1, NO_ANSWER)

    def logits(self, x: Shaped[Tensor, " B *shape"]) -> Float64[Tensor, "B K"]:
        """-|F - (k + 1)|: where there is no answer, F = 0, the first class is the largest."""
        return -(self.scores(x)[:, None] - torch.arange(1.0, self.classes + 1, dtype=torch.float64)).abs()

    def network(self) -> Layered:
        """F as its 2N + 1 layers, each made from the stored point when it is needed; output [B, 1]."""
        return Layered(self.depth, _Recipe(self).layer, torch.from_numpy(self.floor))

    @cached_property
    def _evaluator(self) -> "_Evaluator":
        return _Evaluator(self)


class _Recipe:
    """The layers of F. The matrices are few: of A_k one, of B_k one for each class; the biases hold the points."""

    def __init__(self, memorizer: OptimalMemorizer) -> None:
        self.memorizer = memorizer
        self.low = in_units(memorizer.points.min(0))
        d = len(self.low)
        each, a = np.arange(d), 3 * d
        carried = [(each, each, -1.0), (d + each, each, 1.0), (2 * d + each, each, 1.0)]
        self.first = wired(carried, 3 * d + 1, d)
        self.inner = wired([*carried, (a, d, 1.0), (a, d + 1, 1.0)], 3 * d + 1, d + 2)
        self.outer = [
            wired(
                [(each, 2 * d + each, 1.0), (d, a, 1.0), (d + 1, np.arange(2 * d), -(code + 1) / memorizer.gap),
                 (d + 1, a, -1.0)],
                d + 2, 3 * d + 1,
            )
            for code in range(memorizer.classes)
        ]  # fmt: skip
        self.last = wired([(0, d, 1.0), (0, d + 1, 1.0)], 1, d + 2)

    def layer(self, number: int) -> Layer:
        """The layer of this number: A_0, B_0, A_1, ..., B_{N-1}, the sum."""
        memorizer = self.memorizer
        k, second = divmod(number, 2)
        if k == len(memorizer.points):
            return Layer(self.last, torch.zeros(1, dtype=torch.float64))
        d, mu, code = len(self.low), memorizer.radius, memorizer.labels[k]
        if second:
            bias = np.zeros(d + 2)
            bias[-1] = code + 1
            return Layer(self.outer[code], torch.from_numpy(bias))
        point, bias = in_units(memorizer.points[k]), np.zeros(3 * d + 1)
        if number == 0:
            bias[:d], bias[d : 2 * d], bias[2 * d : 3 * d] = point - mu, -point - mu, mu - self.low
        else:  # x comes in as x + mu - low
            bias[:d], bias[d : 2 * d] = point - self.low, self.low - point - 2 * mu
        return Layer(self.first if number == 0 else self.inner, torch.from_numpy(bias))


class _Evaluator:
    """F by its definition, over the points that can matter."""

    def __init__(self, memorizer: OptimalMemorizer) -> None:
        points = memorizer.points
        self.unit = 255.0 if points.dtype == np.uint8 else 1.0
        self.radius, self.gap = memorizer.radius * self.unit, memorizer.gap * self.unit
        self.order, self.chosen = telling(points, "linf", self.radius + self.gap)
        by_code = np.argsort(-memorizer.labels, kind="stable")  # large codes first: they silence the smaller ones
        self.rows = np.ascontiguousarray(points[by_code][:, self.order])
        self.codes = (memorizer.labels[by_code] + 1).astype(np.float64)
        self.head = np.ascontiguousarray(head_of(points[by_code], self.chosen).T)
        self.largest = float(np.abs(self.head.astype(np.float32)).max())

    def __call__(self, x: Float64[np.ndarray, "B d"]) -> Float64[np.ndarray, " B"]:
        levels = x * self.unit
        if self.head.dtype == np.uint8:
            head, slack = rounded(levels[:, self.chosen]), 0.5 + 1e-9
        else:
            head = head_of(levels, self.chosen)
            slack = 1e-6 * max(self.largest, float(np.abs(head).max(initial=0.0)))
        limit = (
            math.ceil((self.radius + self.gap + slack) * SHRINK) if self.unit > 1 else self.radius + self.gap + slack
        )
        levels, head, value = np.ascontiguousarray(levels[:, self.order]), np.ascontiguousarray(head), np.zeros(len(x))

        def evaluate(first: int, last: int) -> None:
            part = slice(first, last)
            _values(
                levels[part], head[part], self.rows, self.head, self.codes, self.radius, self.gap, float(limit),
                value[part],
            )  # fmt: skip

        in_groups(evaluate, len(x), GROUP)
        return value


@numba.njit(cache=True, fastmath=True)
@no_type_check  # it is compiled
def _term(query: NDArray, row: NDArray, code: float, radius: float, gap: float, best: float) -> float:
    """code - code / gap * sum_j relu(|q_j - x_j| - radius), or anything <= best as soon as it is known not to pass."""
    total, enough = 0.0, gap * (1 - best / code)
    for at in range(0, len(query), 64):
        for j in range(at, min(at + 64, len(query))):
            total += max(abs(query[j] - np.float64(row[j])) - radius, 0.0)
        if total >= enough:
            return best
    return code - code / gap * total


@numba.njit(nogil=True, cache=True)
@no_type_check  # it is compiled
def _values(queries, asked, rows, head, codes, radius, gap, limit, value):
    """F per query, into `value`, 0 before; points whose head is at `limit` or more have no positive term."""
    bound = np.empty(BLOCK, head.dtype)
    for first in range(0, len(rows), BLOCK):
        last = min(first + BLOCK, len(rows))
        for i in range(len(queries)):
            if value[i] >= codes[first]:
                continue
            bounds(asked[i], head, first, last, 0, bound)
            for at in range(first, last, STRIDE):
                end = min(at + STRIDE, last)
                if least(bound[at - first : end - first]) >= limit:
                    continue
                for k in range(at, end):
                    if bound[k - first] < limit:
                        value[i] = max(value[i], _term(queries[i], rows[k], codes[k], radius, gap, value[i]))
