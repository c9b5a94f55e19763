"""The nearest stored point of each class, against all distances."""

import numpy as np
import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.memorize.nearest import Neighbours, class_distances

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}


def all_distances(stored: np.ndarray, queries: np.ndarray, norm: str) -> np.ndarray:
    """[Q, N], by definition."""
    return np.stack([np.linalg.norm(query - stored, ORDER[norm], axis=1) for query in queries])


@pytest.mark.parametrize("width", [1, 70, 200])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
@pytest.mark.parametrize("norm", ORDER)
def test_distances_are_those_of_the_definition(norm: str, kind: str, width: int) -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 3], 300)
    if kind == "bytes":
        stored = rng.integers(0, 256, (300, width), np.uint8)
        queries, points = rng.uniform(-0.2, 1.2, (40, width)), stored / 255
    else:
        points = stored = 3 * rng.standard_normal((300, width)) + 100
        queries = 4 * rng.standard_normal((40, width)) + 100
    queries[:5] = points[:5]
    distance, index = class_distances(stored, labels, 4, queries, norm)
    truth = all_distances(points, queries, norm)
    for c in (0, 1, 3):
        np.testing.assert_allclose(distance[:, c], truth[:, labels == c].min(1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(truth[np.arange(40), index[:, c]], distance[:, c], rtol=1e-12, atol=1e-12)
        assert (labels[index[:, c]] == c).all()
    assert np.isinf(distance[:, 2]).all()
    assert (index[:, 2] == -1).all()
    assert distance[np.arange(5), labels[:5]].tolist() == [0] * 5


@pytest.mark.parametrize("norm", ORDER)
def test_near_ties_are_told_apart_beyond_the_heads_precision(norm: str) -> None:
    rng = np.random.default_rng(0)
    query = 1000 * rng.standard_normal((1, 90))
    shift = rng.standard_normal(90)
    scale = 1 + 1e-9 * rng.permutation(64)
    stored = query + scale[:, None] * shift
    _, index = class_distances(stored, np.zeros(64, int), 1, query, norm)
    assert index[0, 0] == scale.argmin()


def test_bytes_may_be_asked_of_bytes_and_points_of_many_blocks_are_found() -> None:
    rng = np.random.default_rng(2)
    stored = torch.from_numpy(rng.integers(0, 256, (9000, 1, 3, 3), np.uint8))
    labels = torch.from_numpy(rng.integers(0, 2, 9000))
    neighbours = Neighbours.of(stored, labels, 2)
    distance, index = neighbours.distances(stored[:50])
    assert distance[range(50), labels[:50]].tolist() == [0.0] * 50
    truth = all_distances(stored.flatten(1).numpy() / 255, stored[:50].flatten(1).numpy() / 255, "linf")
    for c in (0, 1):
        np.testing.assert_allclose(distance[:, c], truth[:, labels.numpy() == c].min(1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(truth[np.arange(50)[:, None], index], distance, rtol=1e-12, atol=1e-12)


def test_what_cannot_be_searched_is_refused() -> None:
    stored, labels = np.zeros((3, 2)), np.array([0, 1, 1])
    with pytest.raises(StackelbergError, match=r"unknown norm 'linff': did you mean 'linf'\?"):
        class_distances(stored, labels, 2, stored, "linff")
    with pytest.raises(StackelbergError, match="got 3 points and 2 labels"):
        class_distances(stored, labels[:2], 2, stored)
    with pytest.raises(StackelbergError, match=r"labels must lie in 0\.\.0, got 0\.\.1"):
        class_distances(stored, labels, 1, stored)
    with pytest.raises(StackelbergError, match="queries: number 1 holds NaN"):
        class_distances(stored, labels, 2, np.array([[0.0, 0], [np.nan, 0]]))
    with pytest.raises(StackelbergError, match="queries must have 2 coordinates as the stored points have, got 3"):
        class_distances(stored, labels, 2, np.zeros((1, 3)))
