"""What is a memorizer?  A classifier built from stored points, with what is promised around each of them."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.memorize.nearest import flat
from stackelberg.memorize.separation import Separation, separation

NO_ANSWER = -1
"""The label of a query that the memorizer has no answer for."""


@dataclass(frozen=True, eq=False)
class Memorizer(ABC):
    """Stored points and the separation bound; what else it is, its kind says.

    Attributes:
        kind: its name in the catalogue.
        points: [N, d], uint8 or float64.
        labels: [N].
        shape: of one point.
        norm: of the balls, "linf", "l2" or "l1".
        radius: of the balls around the stored points in which the label is right, in input units.
        separation: lambda, the least distance between stored points of different classes.
    """

    kind: ClassVar[str]

    points: NDArray
    labels: NDArray[np.int64]
    shape: tuple[int, ...]
    norm: str
    radius: float
    separation: Separation

    @property
    def classes(self) -> int:
        """K, one more than the largest label."""
        return int(self.labels.max()) + 1

    @property
    def floor(self) -> Float64[np.ndarray, " d"]:
        """Below it the network reads x as it, [d]; all balls lie above: min_k x_kj - radius."""
        return in_units(self.points.min(0)) - self.radius

    @abstractmethod
    def scores(self, x: Shaped[Tensor, " B *shape"]) -> Float64[Tensor, "B ..."]:
        """The network's exact function, evaluated in the quickest way."""

    @abstractmethod
    def predict(self, x: Shaped[Tensor, " B *shape"]) -> Int64[Tensor, " B"]:
        """Classes 0..K-1, or `NO_ANSWER`."""

    @abstractmethod
    def logits(self, x: Shaped[Tensor, " B *shape"]) -> Float64[Tensor, "B K"]:
        """One number per class, the largest for the class that is predicted; where there is no answer, as stated."""

    @abstractmethod
    def network(self) -> nn.Module:
        """The literal network."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The largest number of units in a hidden layer."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many affine layers."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Weights and biases that the layout holds; zeros that are zero for all data are not counted."""

    @property
    @abstractmethod
    def num_dense(self) -> int:
        """Weights and biases with all zeros."""

    @property
    @abstractmethod
    def largest_weight(self) -> float:
        """The largest absolute value of a weight."""

    @property
    @abstractmethod
    def lipschitz(self) -> float:
        """Of each score, in the memorizer's norm."""


def checked(x: Tensor | NDArray, y: Tensor | NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """(points [N, d], uint8 or float64, labels [N]) that can be memorized.

    Raises:
        StackelbergError: NaN or infinity, not one label per point, a negative label, fewer than two points.
    """
    points, labels = flat(x, "x"), np.asarray(y)
    if len(points) < 2:
        raise StackelbergError(
            f"memorizing needs at least two points, of two classes, got {len(points)}; pass more points"
        )
    if labels.shape != (len(points),) or not np.issubdtype(labels.dtype, np.integer):
        raise StackelbergError(
            f"y needs one whole number per point, got {labels.dtype} {list(labels.shape)} for {len(points)} points"
        )
    if labels.min() < 0:
        raise StackelbergError(f"labels must be >= 0, that of point {int(labels.argmin())} is {labels.min()}")
    return points, labels.astype(np.int64)


def apart(points: NDArray, labels: NDArray[np.int64], norm: str) -> Separation:
    """The separation bound of points that can be memorized.

    Raises:
        StackelbergError: one class only, an unknown norm, or two like points with different labels (named).
    """
    found = separation(torch.from_numpy(points), torch.from_numpy(labels), norm)
    if not found.value > 0:
        i, j = found.pair
        raise StackelbergError(
            f"points {i} and {j} are identical, with labels {labels[i]} and {labels[j]}: no function is right on both;"
            " remove one of them"
        )
    return found


def tidy_shape(x: Tensor | NDArray) -> tuple[int, ...]:
    """Of one point."""
    return tuple(int(size) for size in x.shape[1:])


def in_units(points: NDArray) -> NDArray[np.float64]:
    """Points in input units: bytes as level / 255."""
    return points / 255.0 if points.dtype == np.uint8 else points


def asked(x: Tensor, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Queries as rows in input units, [B, d].

    Raises:
        StackelbergError: NaN or infinity, or another number of coordinates.
    """
    rows = in_units(flat(x, "x"))
    if rows.shape[1] != math.prod(shape):
        raise StackelbergError(f"x must have {math.prod(shape)} coordinates, {list(shape)}, got {rows.shape[1]}")
    return rows
