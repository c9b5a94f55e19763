"""Nearest neighbours and distances of clouds against scikit-learn, scipy and POT, and what any distance must keep."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from scipy.spatial.distance import directed_hausdorff
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from stackelberg.data.augment_points import turned
from stackelberg.errors import StackelbergError
from stackelberg.threat import clouds
from stackelberg.threat.clouds import chamfer, hausdorff, neighbours, spacing, squared_to_nearest


def some(batch: int = 3, points: int = 40, seed: int = 0) -> Tensor:
    return torch.randn(batch, points, 3, generator=torch.Generator().manual_seed(seed)) / 3


@pytest.mark.parametrize("k", [1, 7])
def test_neighbours_are_those_of_scikit_learn(k: int) -> None:
    x, other = some(), some(points=25, seed=1)
    ours = neighbours(x, k, other)
    for mine, a, b in zip(ours, x, other, strict=True):
        theirs = NearestNeighbors(n_neighbors=k).fit(b.numpy()).kneighbors(a.numpy(), return_distance=False)
        assert np.array_equal(mine.numpy(), theirs)


def test_each_point_is_its_own_first_neighbour_and_unordered_ones_are_the_same_set() -> None:
    x = some()
    ordered, free = neighbours(x, 5), neighbours(x, 5, ordered=False)
    assert torch.equal(ordered[:, :, 0], torch.arange(40).expand(3, -1))
    assert torch.equal(ordered.sort(2).values, free.sort(2).values)


def test_parts_of_a_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = some(7)
    whole = neighbours(x, 4)
    monkeypatch.setattr(clouds, "ENTRIES", 2 * 40 * 40)
    assert torch.equal(neighbours(x, 4), whole)


def test_neighbours_say_what_is_wrong() -> None:
    with pytest.raises(StackelbergError, match=r"k must lie in 1\.\.40 .* got 41"):
        neighbours(some(), 41)


def test_chamfer_and_hausdorff_against_scipy() -> None:
    x, other = some(), some(points=25, seed=1)
    for one, two, near, far in zip(x, other, chamfer(x, other), hausdorff(x, other), strict=True):
        a, b = one.double().numpy(), two.double().numpy()
        there, back = KDTree(b).query(a)[0], KDTree(a).query(b)[0]
        assert float(near) == pytest.approx(((there**2).mean() + (back**2).mean()) / 2, rel=1e-5)
        assert float(far) == pytest.approx(max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0]), rel=1e-5)


def test_chamfer_against_the_matrix_of_pot() -> None:
    ot = pytest.importorskip("ot")
    x, other = some(1), some(1, 25, 1)
    apart = ot.dist(x[0].double().numpy(), other[0].double().numpy())  # squared Euclidean
    assert float(chamfer(x, other)) == pytest.approx((apart.min(1).mean() + apart.min(0).mean()) / 2, rel=1e-5)


def test_chamfer_is_below_the_cheapest_transport() -> None:
    """A plan moves all of a point's mass somewhere, and nowhere is nearer than the nearest point."""
    ot = pytest.importorskip("ot")
    x, other = some(1), some(1, seed=1)
    weight = np.full(40, 1 / 40)
    apart = ot.dist(x[0].double().numpy(), other[0].double().numpy())
    assert float(chamfer(x, other)) <= float(ot.emd2(weight, weight, apart)) + 1e-9


@pytest.mark.parametrize("distance", [chamfer, hausdorff])
def test_distances_are_symmetric_and_blind_to_order_and_rigid_motion(distance) -> None:
    x, other = some(), some(points=25, seed=1)
    value = distance(x, other)
    torch.testing.assert_close(distance(other, x), value)
    torch.testing.assert_close(distance(x[:, torch.randperm(40)], other[:, torch.randperm(25)]), value)
    angle, shift = torch.tensor([0.3, 2.0, -1.0]), torch.tensor([0.2, -0.1, 0.4])
    a, b = (turned(z, angle, 2) + shift for z in (x, other))
    torch.testing.assert_close(distance(a, b), value, rtol=1e-4, atol=1e-6)
    assert torch.equal(distance(x, x), torch.zeros(3))


def test_chamfer_counts_small_moves_exactly() -> None:
    """A single point moved by d in a cloud of P adds d^2 / P; a product formula would round it away."""
    x = some(1).double()
    moved = x.clone()
    moved[0, 5, 0] += 1e-6
    assert float(chamfer(moved, x)) == pytest.approx(1e-12 / 40, rel=1e-3)
    assert float(chamfer(moved.float(), x.float())) < 1e-12


@pytest.mark.parametrize("distance", [chamfer, hausdorff])
def test_gradients_against_finite_differences(distance) -> None:
    x, other = some(2, 12).double(), some(2, 9, 1).double()
    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(distance(point, other).sum(), point)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ahead, behind = (distance(x + s * 1e-6 * direction, other).sum() for s in (1, -1))
    assert float((slope * direction).sum()) == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-5)


def test_hausdorff_of_a_cloud_with_itself_has_a_finite_gradient() -> None:
    point = some(1).requires_grad_()
    (slope,) = torch.autograd.grad(hausdorff(point, point.detach()).sum(), point)
    assert slope.isfinite().all()


def test_one_direction_and_the_spacing_of_a_line() -> None:
    line = torch.stack([torch.arange(6.0), torch.zeros(6), torch.zeros(6)], 1)[None]
    assert torch.equal(squared_to_nearest(line, line[:, :1]), torch.arange(6.0).square()[None])
    assert torch.equal(spacing(line, 2)[0, 1:-1], torch.ones(4))
    assert math.isclose(float(spacing(line, 2)[0, 0]), 1.5)
