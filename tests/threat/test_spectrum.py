"""The graph Fourier transform: orthonormal, exact both ways, blind to rigid motion; low is shape, high is noise."""

import pytest
import torch
from torch import Tensor

from stackelberg.data.augment_points import turned
from stackelberg.errors import StackelbergError
from stackelberg.threat.clouds import neighbours
from stackelberg.threat.spectrum import laplacian, spectrum


def sphere(batch: int = 2, points: int = 64, seed: int = 0) -> Tensor:
    x = torch.randn(batch, points, 3, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=2, keepdim=True)


def test_the_laplacian_is_symmetric_though_neighbourhood_is_not() -> None:
    x = sphere()
    near = torch.zeros(2, 64, 64).scatter(2, neighbours(x, 6), 1.0)
    assert not torch.equal(near, near.transpose(1, 2))  # or this test shows nothing
    matrix = laplacian(x, 5)
    assert torch.equal(matrix, matrix.transpose(1, 2))
    torch.testing.assert_close(matrix.sum(2), torch.zeros(2, 64), atol=1e-5, rtol=0)
    off = matrix - torch.diag_embed(matrix.diagonal(dim1=1, dim2=2))
    assert (off <= 0).all()
    joined = (off != 0) | torch.eye(64, dtype=torch.bool)
    assert torch.equal(joined, (near > 0) | (near.transpose(1, 2) > 0))


def test_the_transform_keeps_lengths_and_comes_back() -> None:
    """A20: within 1e-5 in float32."""
    x = sphere(3)
    own = spectrum(x, 10)
    coefficients = own.transform(x)
    torch.testing.assert_close(coefficients.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), rtol=1e-5, atol=0)
    torch.testing.assert_close(own.inverse(coefficients), x, rtol=0, atol=1e-5)
    unit = own.basis.transpose(1, 2) @ own.basis
    torch.testing.assert_close(unit, torch.eye(64).expand(3, -1, -1), rtol=0, atol=1e-5)
    assert (own.frequency.diff(dim=1) >= -1e-5).all()
    assert (own.frequency[:, 0].abs() < 1e-4).all()


def test_low_and_high_make_the_whole_and_are_orthogonal() -> None:
    x = sphere()
    band = spectrum(x, 10).low(7)
    low, high = band.part(x), band.rest(x)
    torch.testing.assert_close(low + high, x, rtol=0, atol=1e-6)
    assert ((low * high).sum((1, 2)).abs() < 1e-4).all()
    torch.testing.assert_close(band.part(low), low, rtol=0, atol=1e-5)


def test_shape_is_low_and_jitter_is_high() -> None:
    x = sphere(2, 200)
    band = spectrum(x, 20).low(20)
    noise = 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    def low_share(signal: Tensor) -> float:
        return float(band.part(signal).square().sum() / signal.square().sum())

    assert low_share(x) > 0.95
    assert low_share(noise) < 0.15  # a tenth of the frequencies


def test_frequencies_do_not_move_with_the_cloud() -> None:
    x = sphere()
    moved = turned(x, torch.tensor([0.4, 2.0]), 1) + torch.tensor([0.1, 0.2, -0.3])
    torch.testing.assert_close(spectrum(moved, 8).frequency, spectrum(x, 8).frequency, rtol=1e-3, atol=1e-3)


def test_the_gradient_of_the_transform_against_finite_differences() -> None:
    x = sphere(1, 20).double()
    own = spectrum(x, 5)

    def value(z: Tensor) -> Tensor:
        return own.transform(z)[:, 3:].pow(3).sum()

    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(point), point)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    along = float(value(x + 1e-5 * direction) - value(x - 1e-5 * direction)) / 2e-5
    assert float((slope * direction).sum()) == pytest.approx(along, rel=1e-6)


def test_a_single_point_has_no_spectrum() -> None:
    with pytest.raises(StackelbergError, match="at least 2 points, got 1"):
        laplacian(torch.zeros(1, 1, 3))
