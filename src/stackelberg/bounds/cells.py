"""How does a real data set become a finite space?  By cells: there SR-WDRO's guarantee is no longer empty.

An input counts only by its cell, so a labelled example is one of k = M K points, and a classifier that answers by
cells has an exact worst loss near the sample (`finite.worst_nearby`). Two kinds: the nearest word of a codebook, with
distances in input space; or a network's own answer, at distance 1 from every other one. To change the label costs the
diameter.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, Shaped
from numpy.typing import NDArray

from stackelberg.bounds import guarantee
from stackelberg.bounds.bound import Bound
from stackelberg.bounds.finite import worst_nearby
from stackelberg.bounds.transport import Moved, coupled
from stackelberg.errors import StackelbergError


@dataclass(frozen=True, eq=False)
class Cells:
    """A finite space and a classifier on it.

    Attributes:
        distance: between cells, input units, [M, M], 0 on the diagonal.
        answers: the classifier's class in each cell, [M].
        classes: K.
        name: what the cells are, for reports.
    """

    distance: Float[np.ndarray, "M M"]
    answers: Int64[np.ndarray, " M"]
    classes: int
    name: str

    @property
    def diameter(self) -> float:
        """Of the space of labelled cells."""
        return float(self.distance.max())

    def space(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k k"]]:
        """(0-1 loss of each labelled cell, cost of each move); the point of cell m and label y has place m K + y."""
        cell, label = np.divmod(np.arange(len(self.answers) * self.classes), self.classes)
        losses = (self.answers[cell] != label).astype(np.float64)
        cost = self.distance[cell[:, None], cell[None]]
        return losses, np.where(label[:, None] == label[None], cost, self.diameter)

    def moved(self, before: Int64[NDArray, " n"], after: Int64[NDArray, " n"], confidence: float) -> Moved:
        """W_1 between the law and the shifted one, at most: from the cells of inputs and of their shifted copies."""
        return coupled(self.distance[before, after], self.diameter, confidence=confidence)

    def bound(
        self, cells: Int64[NDArray, " n"], y: Int64[NDArray, " n"], sigma: Moved, shifted: str, confidence: float = 0.95
    ) -> Bound:
        """The error on the shifted law: L_{sigma', gamma} at the least gamma that is as sure as asked.

        Args:
            cells: of N labelled examples that chose neither the cells nor the answers.
            y: their labels.
            sigma: W_1 to the shifted law, at most `sigma.upper` with its own confidence.
            shifted: which law, for the report.
            confidence: of the whole; above sigma's, the rest is gamma's.
        """
        rest = 1 - confidence - (1 - sigma.confidence)
        if not 0 < rest < 1:
            raise StackelbergError(
                f"the distance is sure to {sigma.confidence:g}, the bound cannot be to {confidence:g}; measure it with"
                f" more, for example {1 - (1 - confidence) / 2:g}"
            )
        losses, cost = self.space()
        k, n = len(losses), len(y)
        gamma = guarantee.gamma_needed(n, k, 1 - rest)
        seen = np.bincount(cells * self.classes + y, minlength=k) / n
        radius = guarantee.carried(min(sigma.upper, self.diameter), gamma, self.diameter)
        worst = worst_nearby(seen, losses, cost, radius, gamma).value
        found = guarantee.on_finite_space(worst, n, k, gamma, 1.0, shifted)
        return Bound(
            f"{found.name}, {self.name}", found.value, confidence, f"error on {shifted}",
            (*found.assumptions, "the pairs that measured the shift are independent draws"), found.vacuous, found.kind,
            found.source,
        )  # fmt: skip


def by_answers(classes: int) -> Cells:
    """The cells are a network's answers: W_1 is then the share of inputs whose answer the shift changes."""
    return Cells(1.0 - np.eye(classes), np.arange(classes), classes, "cells by the network's answer")


@dataclass(frozen=True, eq=False)
class Codebook:
    """The nearest of M words, in l2.

    Attributes:
        words: [M, d], input units.
        cells: the finite space, with the majority class of each cell.
    """

    words: Float[np.ndarray, "M d"]
    cells: Cells

    def of(self, x: Shaped[NDArray, "n d"]) -> Int64[np.ndarray, " n"]:
        """The cell of each input; bytes count as level / 255."""
        words, found = self.words, []
        for start in range(0, len(x), 4096):
            rows = _units(x[start : start + 4096])
            found.append(((words**2).sum(1) - 2 * rows @ words.T).argmin(1))
        return np.concatenate(found)


def codebook(x: Shaped[NDArray, "n d"], y: Int64[NDArray, " n"], words: int, classes: int, seed: int = 0) -> Codebook:
    """k-means of some examples, which then serve nothing else, and the majority class of each cell."""
    from sklearn.cluster import MiniBatchKMeans

    if not 2 <= words <= len(x):
        raise StackelbergError(f"words must lie between 2 and the {len(x)} examples, got {words}")
    rows = _units(x)
    means: Any = MiniBatchKMeans  # its stub knows n_init as text alone
    fitted = means(words, random_state=seed, n_init=3, batch_size=1024).fit(rows)
    places = fitted.cluster_centers_.astype(np.float64)
    apart = np.sqrt(((places[:, None] - places[None]) ** 2).sum(2))
    count = np.zeros((words, classes), dtype=np.int64)
    book = Codebook(places, Cells(apart, np.zeros(words, dtype=np.int64), classes, f"codebook of {words} words"))
    np.add.at(count, (book.of(x), y), 1)
    return Codebook(places, Cells(apart, count.argmax(1), classes, f"codebook of {words} words"))


def _units(x: NDArray) -> NDArray[np.float64]:
    rows = x.reshape(len(x), -1).astype(np.float64)
    return rows / 255 if x.dtype == np.uint8 else rows
