"""How far apart are the classes?  The separation bound: half of it is the largest radius any classifier can promise."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stackelberg.errors import StackelbergError, unknown
from stackelberg.memorize.measuring import Best
from stackelberg.memorize.nearest import POWERS, flat
from stackelberg.memorize.searching import nearest_pairs

MOST_CLASSES = 1000
"""Beyond as many no table of class pairs is kept."""

LARGEST = 1e100  # of a coordinate: squares must not overflow


@dataclass(frozen=True, eq=False)
class Separation:
    """lambda = min over i, j with y_i != y_j of ||x_i - x_j||, exact.

    Attributes:
        value: lambda in input units (255 grey levels are 1).
        pair: (i, j) that attains it; i < j, or with `against` i counts in x and j in the other points.
        norm: "linf", "l2" or "l1".
        levels: for bytes the same number in grey levels (l2: its square), an integer; else None.
        by_classes: [K, K], the least distance between points of class a and of class b in input units, inf where there
            is none and on the diagonal; None beyond MOST_CLASSES classes.
        pairs_by_classes: [K, K, 2], places (i of class a, j of class b) that attain it, -1 where there are none.
    """

    value: float
    pair: tuple[int, int]
    norm: str
    levels: int | None
    by_classes: Float64[np.ndarray, "K K"] | None
    pairs_by_classes: Int64[np.ndarray, "K K 2"] | None

    def __str__(self) -> str:
        if self.levels is None:
            exact = ""
        elif self.norm == "l2":
            exact = f" (the root of {self.levels} squared grey levels)"
        else:
            exact = f" ({self.levels} grey levels)"
        return f"separation {self.value:.4g}{exact} in {self.norm}, between {self.pair[0]} and {self.pair[1]}"


def separation(
    x: Tensor | ArrayLike,
    y: Tensor | ArrayLike,
    norm: str = "linf",
    against: tuple[Tensor | ArrayLike, Tensor | ArrayLike] | None = None,
    seed: int = 0,
) -> Separation:
    """The least distance between two points of different classes, the pair, and the same for every two classes.

    Bytes are measured as integers and the result is exact; floats in float64, so that of pairs whose distances agree
    to within d 2^-52 of themselves either may be named. A pair is left out only when a bound below its distance says
    that it is no nearer than one already known: see `sieve` for linf, `sketch` for l2 and l1. Equal points of
    different classes have separation 0 and are named. Classes of one label are never compared.

    >>> found = separation(torch.tensor([[0, 0], [9, 3], [5, 5]], dtype=torch.uint8), torch.tensor([0, 0, 1]))
    >>> print(found)
    separation 0.01569 (4 grey levels) in linf, between 1 and 2

    Args:
        x: points [N, ...], uint8 (as `Dataset.x`) or numbers in input units.
        y: classes 0.., [N].
        norm: "linf", "l2" or "l1".
        against: (x', y'): instead of x with itself, x (say a test set) is compared with x' (the training set).
        seed: of the random pairs by which filters are chosen; it matters for time, and for which of several nearest
            pairs is named.

    Raises:
        StackelbergError: one class only, unlike shapes, NaN or infinity, an unknown norm.
    """
    if norm not in POWERS:
        raise unknown("norm", norm, POWERS)
    mine = _Sorted.of(x, y, "x")
    other = mine if against is None else _Sorted.of(*against, "against")
    if mine.x.shape[1] != other.x.shape[1] or mine.x.dtype != other.x.dtype:
        raise StackelbergError(
            f"x and against must hold points of one type and size, got {mine.x.dtype} [{mine.x.shape[1]}] and"
            f" {other.x.dtype} [{other.x.shape[1]}]; convert one of them"
        )
    present = np.union1d(mine.labels, other.labels)
    if len(present) < 2:
        raise StackelbergError(
            f"a separation needs points of at least two classes, got {len(mine.labels)} of class {present[0]} alone"
        )
    most = int(present[-1])
    rows = most + 1 if most < MOST_CLASSES else 1
    stored = None if against is None else (other.x, other.labels)
    best = nearest_pairs((mine.x, mine.labels), stored, POWERS[norm], rows, np.random.default_rng(seed))
    return _result(mine, other, norm, best)


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Points sorted by class, and the place of each among those given."""

    x: NDArray
    labels: Int64[np.ndarray, " N"]
    place: Int64[np.ndarray, " N"]

    @classmethod
    def of(cls, x: Tensor | ArrayLike, y: Tensor | ArrayLike, what: str) -> "_Sorted":
        points = flat(x if isinstance(x, Tensor) else np.asarray(x), what)
        labels = torch.as_tensor(y).detach().cpu().numpy()
        if labels.shape != (len(points),) or not points.size:
            raise StackelbergError(
                f"{what} must hold one label for each point of at least one coordinate, got {len(points)} points of"
                f" {points.shape[1]} and labels of shape {labels.shape}"
            )
        if labels.dtype.kind not in "iu" or labels.min() < 0:
            raise StackelbergError(
                f"{what}: labels must be whole numbers from 0 up, got {labels.dtype} from {labels.min()}; renumber them"
            )
        if points.dtype != np.uint8 and max(points.max(), -points.min()) > LARGEST:
            raise StackelbergError(
                f"{what} must stay within +-{LARGEST:g}, got {max(points.max(), -points.min()):g}; rescale the points"
            )
        place = np.argsort(labels, kind="stable")
        return cls(points[place], labels[place].astype(np.int64), place)


def _result(mine: _Sorted, other: _Sorted, norm: str, best: Best) -> Separation:
    """In input units and in the order in which the points were given."""
    rows, within = len(best.power), mine is other
    power, found = best.power.copy(), best.pair >= 0
    power[~found[..., 0]] = np.inf
    pairs = np.where(found, np.stack([mine.place[best.pair[..., 0]], other.place[best.pair[..., 1]]], -1), -1)
    if within and rows > 1:
        lower = np.tril_indices(rows, -1)
        power[lower], pairs[lower] = power.T[lower], pairs.transpose(1, 0, 2)[lower][:, ::-1]
    a, b = np.unravel_index(power.argmin(), power.shape)
    i, j = best.pair[min(a, b), max(a, b)] if within else best.pair[a, b]
    gap = np.abs(mine.x[i].astype(np.float64) - other.x[j].astype(np.float64))
    value = float(np.linalg.norm(gap, {"linf": math.inf, "l2": 2, "l1": 1}[norm]))
    levels, unit = None, 1.0
    if mine.x.dtype == np.uint8:
        levels, unit = int(power[a, b]), 255.0
    first, second = (int(place) for place in pairs[a, b])
    table = (np.sqrt(power) if norm == "l2" else power) / unit
    return Separation(
        value / unit,
        (min(first, second), max(first, second)) if within else (first, second),
        norm,
        levels,
        table if rows > 1 else None,
        pairs if rows > 1 else None,
    )
