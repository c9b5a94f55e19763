"""In how many directions do the data move?  The intrinsic dimension, by distances to near neighbours."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped
from numpy.typing import NDArray
from scipy.special import gammaincinv  # scipy.stats would cost half a second at import
from torch import Tensor

from stackelberg.errors import StackelbergError

BLOCK = 1024


@dataclass(frozen=True)
class Dimension:
    """An estimate with its interval.

    Attributes:
        value: of the dimension.
        low: lower end.
        high: upper end.
        confidence: of [low, high], were the points uniform near each other and their ratios independent.
        neighbours: k of the estimate; 2 is two-NN.
        n: points used.
    """

    value: float
    low: float
    high: float
    confidence: float
    neighbours: int
    n: int

    def __str__(self) -> str:
        return (
            f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] from {self.n} points and {self.neighbours} neighbours"
        )


def intrinsic_dimension(
    x: Shaped[Tensor, "N ..."] | NDArray, neighbours: int = 2, confidence: float = 0.95
) -> Dimension:
    """The dimension by maximum likelihood from the distances r_1 <= .. <= r_k to the k nearest neighbours, l2.

    Where the density is constant within r_k, the logarithms ln(r_k / r_j), j < k, are exponential variables of rate d,
    so S = sum over i and j of them is Gamma(N (k - 1), 1 / d) and

        d = (N (k - 1) - 1) / S,     [quantile of Gamma(N (k - 1)) at (1 -+ confidence) / 2] / S

    k = 2 is two-NN (Facco et al. 2017), larger k is Levina and Bickel (2004) averaged as MacKay and Ghahramani do; a
    larger k has less variance and more bias. Points that coincide with an earlier one are left out. An estimate of
    the support's dimension at the scale of r_k, and the points share neighbours: the interval is no theorem.

    Raises:
        StackelbergError: fewer than k + 2 different points, k < 2, or a confidence outside (0, 1).
    """
    if neighbours < 2 or not 0 < confidence < 1:
        raise StackelbergError(
            f"neighbours must be 2 or more and confidence in (0, 1), got {neighbours} and {confidence}"
        )
    points = np.unique(np.asarray(x).reshape(len(x), -1), axis=0)
    if len(points) < neighbours + 2:
        raise StackelbergError(
            f"the dimension by {neighbours} neighbours needs {neighbours + 2} different points, got {len(points)}"
        )
    near = np.sqrt(nearest_squares(points, neighbours))
    total = float(np.log(near[:, -1:] / near[:, :-1]).sum())
    if total == 0:
        raise StackelbergError("all neighbours are equally far, as on a grid: the dimension by ratios is not defined")
    count, tail = len(points) * (neighbours - 1), (1 - confidence) / 2
    low, high = (float(gammaincinv(count, q)) / total for q in (tail, 1 - tail))
    return Dimension((count - 1) / total, low, high, confidence, neighbours, len(points))


def nearest_squares(points: Shaped[np.ndarray, "N d"], neighbours: int) -> Float64[np.ndarray, "N k"]:
    """Squared l2 distances to the k nearest other points, rising; computed by differences for those found near."""
    rows = points.astype(np.float64)
    rows = rows - rows.mean(0)
    square = (rows**2).sum(1)
    found = np.empty((len(rows), neighbours))
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        apart = square[start : start + BLOCK, None] + square[None] - 2 * part @ rows.T
        apart[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        near = np.argpartition(apart, neighbours - 1, axis=1)[:, :neighbours]
        exact = ((part[:, None] - rows[near]) ** 2).sum(2)
        found[start : start + BLOCK] = np.sort(exact, axis=1)
    return found
