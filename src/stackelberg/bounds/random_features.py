"""Does a larger model overfit more?  Least squares on random features, solved exactly, through the threshold.

Belkin, Hsu, Ma and Mandal 2019: f(x) = a . relu(W x + b) with W, b random and fixed and a the least-squares solution of
least norm. With n samples the test error peaks at n features, where the samples are just interpolated, and falls again.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray

from stackelberg.errors import StackelbergError


@dataclass(frozen=True, eq=False)
class RandomFeatures:
    """p features relu(w . x + b), w standard normal / sqrt(d), b standard normal / 2, and a linear answer.

    Attributes:
        directions: W, [d, p].
        offsets: b, [p].
        coefficients: a, [p, K].
        residual: mean squared residual on the training set; 0 up to rounding where it is interpolated.
        size: l2 norm of a.
    """

    directions: Float[np.ndarray, "d p"]
    offsets: Float[np.ndarray, " p"]
    coefficients: Float[np.ndarray, "p K"]
    residual: float
    size: float

    def scores(self, x: Float[NDArray, "B d"]) -> Float[np.ndarray, "B K"]:
        """The answers; the class is the largest."""
        return features(x, self.directions, self.offsets) @ self.coefficients

    def error(self, x: Float[NDArray, "B d"], y: Int64[NDArray, " B"]) -> float:
        """Share of wrong classes."""
        return float((self.scores(x).argmax(1) != y).mean())


def features(x: NDArray, directions: NDArray, offsets: NDArray) -> Float[np.ndarray, "B p"]:
    """relu(x W + b), float64."""
    return np.maximum(np.asarray(x, np.float64) @ directions + offsets, 0.0)


def fitted(
    x: Float[NDArray, "n d"], y: Int64[NDArray, " n"], width: int, classes: int, seed: int = 0
) -> RandomFeatures:
    """The least-norm least-squares fit of one-hot targets minus 1 / K, by a singular value decomposition in float64.

    Directions of one seed are nested: a larger width keeps the features of a smaller one. Singular values below
    1e-10 of the largest count as 0.

    Args:
        x: inputs, any scale of order 1.
        y: classes 0..K-1.
        width: p >= 1.
        classes: K.
        seed: of the features.
    """
    if width < 1 or len(x) != len(y) or not len(x):
        raise StackelbergError(
            f"width must be 1 or more and every input needs a label, got {width}, {len(x)}, {len(y)}"
        )
    chance = np.random.default_rng(seed)
    drawn = chance.standard_normal((width, x.shape[1] + 1))
    directions, offsets = drawn[:, 1:].T / np.sqrt(x.shape[1]), drawn[:, 0] / 2
    phi = features(x, directions, offsets)
    targets = np.eye(classes)[y] - 1 / classes
    wide = width > len(x)
    basis, square = np.linalg.qr(phi.T) if wide else (None, None)  # phi = square^T basis^T: a smaller decomposition
    left, values, right = np.linalg.svd(phi if square is None else square.T, full_matrices=False)
    kept = values > 1e-10 * values[0] if values[0] > 0 else np.zeros_like(values, dtype=bool)
    coefficients = right[kept].T @ ((left[:, kept].T @ targets) / values[kept, None])
    coefficients = coefficients if basis is None else basis @ coefficients
    residual = float(((phi @ coefficients - targets) ** 2).mean())
    return RandomFeatures(directions, offsets, coefficients, residual, float(np.linalg.norm(coefficients)))
