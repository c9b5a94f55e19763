"""Condensed sets keep their promise; covers cover; unseen mass is bounded."""

import numpy as np
import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.memorize.thinning import condensed, medoids, missing_mass, nearby_set_of, uncovered

EXACT = "donot_use_mm_for_euclid_dist"


def blobs(count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    centre = torch.tensor([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]], dtype=torch.float64)
    return centre[y] + 0.07 * torch.randn(count, 2, dtype=torch.float64, generator=generator), y


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("radius", [0.0, 0.05, 0.5])
def test_every_promise_is_kept(norm, radius):
    """By torch's own distances."""
    x, y = blobs()
    thin = condensed(x, y, radius, norm)
    p = {"linf": float("inf"), "l2": 2, "l1": 1}[norm]
    far = torch.cdist(x, x, p=p, compute_mode=EXACT)
    other = torch.where(y[:, None] == y, torch.inf, far).amin(1)
    kept = torch.from_numpy(thin.kept)
    own = torch.where(y[:, None] == y[kept], far[:, kept], torch.inf).amin(1)
    rest = torch.where(y[:, None] == y[kept], torch.inf, far[:, kept]).amin(1)
    lead = (rest - own) / 2
    assert torch.allclose(lead, torch.from_numpy(thin.certified), atol=1e-9)
    assert (lead >= torch.minimum(torch.tensor(radius), other / 2) - 2e-9).all()
    assert radius == 0.5 or len(kept) < len(x) / 3


def test_medoids_are_stored_points_near_the_centres():
    """Of three blobs with three points asked, one near each mean; of each class as many as the rest allows."""
    x, y = blobs()
    kept = torch.from_numpy(medoids(x, y, 3))
    assert y[kept].sort().values.tolist() == [0, 1, 2]
    for place in kept:
        own = x[y == y[place]]
        far = (own - own.mean(0)).norm(dim=1)
        assert (x[place] - own.mean(0)).norm() < far.quantile(0.1)
    counts = y[torch.from_numpy(medoids(x, y, 10))].bincount()
    assert counts.tolist() == [4, 3, 3]
    assert medoids(x, y, 1000).tolist() == list(range(len(x)))
    assert medoids(x, y, 10, seed=0).tolist() == medoids(x, y, 10, seed=0).tolist()
    with pytest.raises(StackelbergError, match="count must be at least 3, the number of classes, got 2"):
        medoids(x, y, 2)


def test_more_is_kept_for_a_larger_radius():
    x, y = blobs()
    counts = [len(condensed(x, y, radius).kept) for radius in (0.0, 0.1, 0.2)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_the_greedy_cover_covers():
    x, y = blobs()
    far = torch.cdist(x, x, compute_mode=EXACT)
    reach = torch.where(y[:, None] == y, torch.inf, far).amin(1) / 3.1
    chosen = torch.from_numpy(nearby_set_of(x, y))
    assert (far[:, chosen] <= reach[chosen] + 1e-12).any(1).all()
    assert len(chosen) < len(x) / 4


def test_uncovered_is_at_least_what_is_outside_all_balls():
    x, y = blobs()
    fresh, _ = blobs(500, seed=5)
    reach = torch.where(y[:, None] == y, torch.inf, torch.cdist(x, x)).amin(1) / 3.1
    outside = ~(torch.cdist(fresh, x) <= reach).any(1)
    rate = uncovered(x, y, fresh)
    assert rate.n == 500
    assert rate.value >= float(outside.double().mean())
    assert uncovered(x, y, x).value == 0
    assert uncovered(x, y, torch.full((5, 2), 9.0)).value == 1


def test_missing_mass_is_bounded_as_often_as_promised():
    rng = np.random.default_rng(0)
    mass = rng.dirichlet(np.full(200, 0.3))
    held, errors = 0, []
    for _ in range(100):
        cells = rng.choice(200, size=400, p=mass)
        true = mass[~np.isin(np.arange(200), cells)].sum()
        estimate, upper = missing_mass(cells, 0.05)
        errors.append(estimate - true)
        held += true <= upper
    assert held >= 95
    assert abs(float(np.mean(errors))) < 0.01


def test_bad_input_is_refused():
    x, y = blobs(6)
    with pytest.raises(StackelbergError, match="radius must be a number >= 0"):
        condensed(x, y, -1.0)
    with pytest.raises(StackelbergError, match="delta must lie in"):
        missing_mass(np.array([1, 2]), 0.0)
