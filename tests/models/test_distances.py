"""Distances against torch's own, gradients against finite differences."""

import math

import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.models import distances as module
from stackelberg.models.distances import distances

SIZES = [(5, 7), (31, 65), (4, 1)]  # coordinates and points: off the multiples of four, of two and of a tile
NORMS = [2.0, 8.0, math.inf]


def drawn(n, m, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n)
    x, points = (torch.randn(size, n, generator=generator, dtype=dtype).requires_grad_() for size in (3, m))
    return x, points, torch.randn(3, m, generator=generator, dtype=dtype)


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_equals_torch_value_and_gradient(n, m, p, dtype, tolerance):
    x, points, weights = drawn(n, m, dtype)
    ours = distances(x, points, p)
    x2, points2 = (t.detach().double().requires_grad_() for t in (x, points))
    theirs = torch.cdist(x2, points2, p=p)
    assert torch.allclose(ours.double(), theirs, rtol=0, atol=tolerance)
    got = torch.autograd.grad(ours, (x, points), weights)
    wanted = torch.autograd.grad(theirs, (x2, points2), weights.double())
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a.double(), b, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("p", NORMS)
def test_gradient_is_that_of_finite_differences(p):
    x, points, _ = drawn(5, 3)
    assert torch.autograd.gradcheck(lambda a, b: distances(a, b, p), (x, points))


@pytest.mark.parametrize("p", [8.0, math.inf])
def test_torch_in_blocks_equals_the_compiled_loops(p, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 40)  # one point at a time
    x, points, weights = drawn(31, 5)
    norm, _ = module._blocks(x.detach(), points.detach(), p, True)
    assert torch.allclose(norm, distances(x, points, p).detach(), rtol=0, atol=1e-12)
    blocks = [torch.zeros_like(t) for t in (x, points)]
    module._blocks_back(x.detach(), points.detach(), norm, weights, p, *blocks)
    for a, b in zip(torch.autograd.grad(distances(x, points, p), (x, points), weights), blocks, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", [8.0, math.inf])
def test_gradients_of_single_examples_add_up_to_those_of_the_batch(p):
    x, points, weights = drawn(7, 5)
    (whole,) = torch.autograd.grad(distances(x, points, p), points, weights)

    def paid(w, one, weight):
        return (distances(one[None], w, p) * weight).sum()

    each = torch.func.vmap(torch.func.grad(paid), in_dims=(None, 0, 0))(points.detach(), x.detach(), weights)
    assert each.shape == (len(x), *points.shape)
    assert torch.allclose(each.sum(0), whole, rtol=0, atol=1e-12)


def test_a_large_power_neither_overflows_nor_vanishes():
    x = torch.tensor([[3e5, 1.0, -3e5]], requires_grad=True)
    norm = distances(x, torch.zeros(1, 3), 128.0)
    assert float(norm.detach()) == pytest.approx(3e5 * 2 ** (1 / 128), rel=1e-6)
    (slope,) = torch.autograd.grad(norm.sum(), x)
    assert float(slope[0, 0]) == pytest.approx(0.5 ** (127 / 128), rel=1e-5)


@pytest.mark.parametrize("p", [8.0, math.inf])
def test_at_distance_zero_the_gradient_is_zero(p):
    x = torch.ones(1, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(distances(x, torch.ones(1, 6), p).sum(), x)
    assert not slope.any()


@pytest.mark.parametrize("p", [8.0, math.inf])
def test_nan_and_infinity_go_through(p):
    x, points = torch.zeros(3, 9), torch.ones(2, 9)
    x[1, 4], points[1, 8] = torch.nan, torch.inf
    finite = distances(x, points, p).isfinite()
    assert finite.tolist() == [[True, False], [False, False], [True, False]]


@pytest.mark.parametrize("p", [0.0, 1.0, 3.0])
def test_odd_powers_are_refused(p):
    with pytest.raises(StackelbergError, match="p must be an even number >= 2 or infinity"):
        distances(torch.zeros(1, 2), torch.zeros(1, 2), p)
