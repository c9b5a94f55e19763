"""Which frequencies does a cloud have?  The spectrum of the graph of its nearest neighbours.

w_ij = exp(-|x_i - x_j|^2) for neighbours, L = D - W = U Lambda U^T with rising eigenvalues, and the graph Fourier
transform of anything on the points is U^T of it. Low frequencies are the shape, high ones its roughness.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.threat.clouds import gathered, neighbours


def laplacian(points: Float[Tensor, "B P 3"], k: int = 30) -> Float[Tensor, "B P P"]:
    """L = D - W of the symmetric graph: i and j are joined where either is one of the other's k nearest.

    Being near is not mutual, so weights of the directed graph would give an L without orthogonal eigenvectors.
    """
    count = points.shape[1]
    if count < 2:
        raise StackelbergError(f"a spectrum needs clouds of at least 2 points, got {count}")
    near = neighbours(points, min(k + 1, count))  # each point is its own neighbour, too
    apart = (points[:, :, None] - gathered(points, near)).square().sum(3)
    weight = points.new_zeros(len(points), count, count).scatter(2, near, torch.exp(-apart))
    weight = torch.maximum(weight, weight.transpose(1, 2))
    weight = weight - torch.diag_embed(weight.diagonal(dim1=1, dim2=2))
    return torch.diag_embed(weight.sum(2)) - weight


@dataclass(frozen=True)
class Spectrum:
    """The frequencies of some clouds; it stays that of the clean clouds when their points move.

    Attributes:
        frequency: eigenvalues, rising [B, P]; the first is 0.
        basis: U, orthonormal eigenvectors in columns [B, P, P].
    """

    frequency: Float[Tensor, "B P"]
    basis: Float[Tensor, "B P P"]

    def transform(self, signal: Float[Tensor, "B P D"]) -> Float[Tensor, "B P D"]:
        """U^T signal: its coefficient at each frequency. |U^T s| = |s|."""
        return self.basis.transpose(1, 2) @ signal

    def inverse(self, coefficients: Float[Tensor, "B P D"]) -> Float[Tensor, "B P D"]:
        """U c, the signal with these coefficients."""
        return self.basis @ coefficients

    def low(self, count: int) -> "LowBand":
        """The `count` lowest frequencies."""
        return LowBand(self.basis[:, :, :count])


@dataclass(frozen=True)
class LowBand:
    """The lowest frequencies alone: enough to split a signal in two.

    Attributes:
        basis: their eigenvectors [B, P, L].
    """

    basis: Float[Tensor, "B P L"]

    def coefficients(self, signal: Float[Tensor, "B P D"]) -> Float[Tensor, "B L D"]:
        """The low part's coefficients."""
        return self.basis.transpose(1, 2) @ signal

    def part(self, signal: Float[Tensor, "B P D"]) -> Float[Tensor, "B P D"]:
        """The low part of a signal."""
        return self.basis @ self.coefficients(signal)

    def rest(self, signal: Float[Tensor, "B P D"]) -> Float[Tensor, "B P D"]:
        """The high part: signal - part(signal)."""
        return signal - self.part(signal)


def spectrum(points: Float[Tensor, "B P 3"], k: int = 30) -> Spectrum:
    """Frequencies and basis of each cloud; rigid motions leave both as they are (up to signs and equal eigenvalues)."""
    frequency, basis = torch.linalg.eigh(laplacian(points, k).double())
    return Spectrum(frequency.to(points.dtype), basis.to(points.dtype))
