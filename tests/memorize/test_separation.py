"""The separation bound against brute force: every entry of the table, in every norm, on sets that defeat filters."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from stackelberg.errors import StackelbergError
from stackelberg.memorize import separation

METRICS: dict[str, Any] = {"linf": "chebyshev", "l2": "sqeuclidean", "l1": "cityblock"}
NORMS = list(METRICS)


def table(x: np.ndarray, y: np.ndarray, norm: str, other: Any = None, theirs: Any = None) -> np.ndarray:
    """By scipy, in the points' own units: least distance of every two classes (l2: squared), inf on the diagonal."""
    there, their = (x, y) if other is None else (other, theirs)
    apart = cdist(x.reshape(len(x), -1).astype(float), there.reshape(len(there), -1).astype(float), METRICS[norm])
    classes = int(max(y.max(), their.max())) + 1
    least = np.full((classes, classes), np.inf)
    for a in range(classes):
        for b in range(classes):
            some = apart[np.ix_(y == a, their == b)]
            if a != b and some.size:
                least[a, b] = some.min()
    return least


def check(x: np.ndarray, y: np.ndarray, norm: str, **options) -> None:
    """Value, table and pairs are those of brute force: bytes to the last bit, floats to rounding."""
    found, other = separation(x, y, norm, **options), options.get("against", (None, None))
    least = table(x, y, norm, *other)
    there, their = (x, y) if other[0] is None else other
    assert found.by_classes is not None
    assert found.pairs_by_classes is not None
    unit = 255.0 if x.dtype == np.uint8 else 1.0
    expected = (np.sqrt(least) if norm == "l2" else least) / unit
    if x.dtype == np.uint8:
        assert found.levels == least.min()
        np.testing.assert_array_equal(found.by_classes, expected)
    else:
        assert found.levels is None
        np.testing.assert_allclose(found.by_classes, expected, rtol=1e-12, atol=1e-12)
    assert found.value == pytest.approx(expected.min(), rel=1e-12, abs=1e-12)
    assert y[found.pair[0]] != their[found.pair[1]]
    i, j = found.pair
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    gap = (x[i].astype(float) - there[j].astype(float)).ravel()
    assert np.linalg.norm(gap, order) / unit == pytest.approx(found.value, rel=1e-12, abs=1e-12)
    for a, b in zip(*np.nonzero(np.isfinite(expected)), strict=True):
        i, j = found.pairs_by_classes[a, b]
        assert (y[i], their[j]) == (a, b)
        gap = (x[i].astype(float) - there[j].astype(float)).ravel()
        assert np.linalg.norm(gap, order) / unit == pytest.approx(expected[a, b], rel=1e-12, abs=1e-12)


def bytes_like(kind: str, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Sets on which a filter has little to hold on to."""
    x = rng.integers(0, 256, (n, d))
    if kind == "mostly zero":
        x *= rng.random((n, d)) < 0.05
    elif kind == "saturated":
        x = 255 * (x > 127)
    elif kind == "constant coordinates":
        x[:, ::2] = 7
    elif kind == "all equal":
        x[:] = 9
    elif kind == "one coordinate tells":
        x = np.full((n, d), 100)
        x[:, -1] = rng.integers(0, 256, n)
    elif kind == "clustered":
        x = 40 * rng.integers(0, 6, (20, d))[rng.integers(0, 20, n)] + rng.integers(0, 9, (n, d))
    return x.astype(np.uint8)


KINDS = [
    "uniform",
    "mostly zero",
    "saturated",
    "constant coordinates",
    "all equal",
    "one coordinate tells",
    "clustered",
]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d", "classes"), [(2, 1, 2), (65, 3, 2), (290, 70, 30)])
def test_every_entry_is_that_of_brute_force(norm: str, kind: str, n: int, d: int, classes: int) -> None:
    rng = np.random.default_rng(n * d)
    y = np.concatenate([[0, 1], rng.integers(0, classes, n - 2)])
    x = bytes_like(kind, n, d, rng)
    check(x, y, norm)
    check(x / 255.0 - 0.3, y, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_a_set_of_several_parts_and_tiles(norm: str) -> None:
    rng = np.random.default_rng(3)
    n = 6_401  # classes 0 and 1 are cut in pieces, the others share one; stored points fill two rows of bits
    y = rng.choice(6, n, p=[0.6, 0.3, 0.04, 0.03, 0.02, 0.01])
    check(bytes_like("clustered", n, 40, rng), y, norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["uniform", "clustered", "mostly zero"])
def test_a_test_set_against_a_training_set(norm: str, kind: str) -> None:
    rng = np.random.default_rng(4)
    x, there = bytes_like(kind, 150, 30, rng), bytes_like(kind, 700, 30, rng)
    y, their = rng.integers(0, 3, 150), rng.integers(1, 5, 700)  # class 0 has no stored point, class 4 no query
    check(x, y, norm, against=(there, their))
    check(x / 9.0, y, norm, against=(there / 9.0, their))


@pytest.mark.parametrize("norm", NORMS)
def test_more_classes_than_a_table_holds(norm: str) -> None:
    rng = np.random.default_rng(5)
    x = bytes_like("clustered", 1_500, 30, rng)
    y = rng.permutation(1_500)
    y[1] = y[0]
    found = separation(x, y, norm)
    assert found.by_classes is None
    assert found.pairs_by_classes is None
    apart = cdist(x.astype(float), x.astype(float), METRICS[norm])
    apart[y[:, None] == y] = np.inf
    assert found.levels == apart.min() == apart[found.pair]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_shift_scale_and_permutation(data: st.DataObject) -> None:
    norm = data.draw(st.sampled_from(NORMS))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, d = data.draw(st.integers(2, 90)), data.draw(st.integers(1, 40))
    y = np.concatenate([[0, 1], rng.integers(0, 3, n - 2)])
    x = rng.normal(size=(n, d))
    least = separation(x, y, norm)
    points, places = rng.permutation(n), rng.permutation(d)
    moved = separation(x[points][:, places], y[points], norm)
    assert moved.value == pytest.approx(least.value, rel=1e-12)
    assert {points[k] for k in moved.pair} == set(least.pair)
    scale, shift = 2.0 ** data.draw(st.sampled_from([-300, -60, -1, 60, 300])), data.draw(st.floats(-3, 3))
    assert separation(scale * x, y, norm).value == pytest.approx(scale * least.value, rel=1e-9)
    assert separation(x + shift, y, norm).value == pytest.approx(least.value, rel=1e-9)
    assert separation(-x, 2 - y, norm).value == pytest.approx(least.value, rel=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_one_far_point_does_not_hide_the_near_ones(norm: str) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(400, 20)), rng.integers(0, 2, 400)
    x[0] = 1e9
    check(x, y, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_equal_points_of_different_classes_are_named(norm: str) -> None:
    rng = np.random.default_rng(7)
    x, y = bytes_like("uniform", 500, 60, rng), rng.integers(0, 3, 500)
    x[321], y[321], y[77] = x[77], 2, 0
    found = separation(x, y, norm)
    assert (found.value, found.levels, found.pair) == (0.0, 0, (77, 321))
    assert "77 and 321" in str(found)


def test_the_value_is_the_fraction() -> None:
    x = np.array([[0, 10], [3, 14], [200, 0]], np.uint8)
    y = np.array([0, 1, 0])
    assert Fraction(separation(x, y, "linf").value * 255).limit_denominator(1000) == 4
    assert separation(x, y, "l1").levels == 7
    assert (separation(x, y, "l2").levels, separation(x, y, "l2").value) == (25, 5 / 255)


@pytest.mark.parametrize("norm", NORMS)
def test_digits_by_brute_force(real_data, norm: str) -> None:
    digits = real_data("mnist", "train").take(2_000)
    check(digits.x.numpy(), digits.y.numpy(), norm)


def test_all_of_mnist(real_data) -> None:
    digits = real_data("mnist", "train")
    found = separation(digits.x, digits.y)
    assert (found.levels, found.value, found.pair) == (188, 188 / 255, (3532, 33406))
    assert found.by_classes is not None
    x, y = digits.x.flatten(1).numpy(), digits.y.numpy()
    for a, b in ((0, 5), (4, 9), (1, 7)):  # entries of the table, from some points of one class to all of the other
        some = cdist(x[y == a][:200].astype(float), x[y == b].astype(float), "chebyshev")
        assert round(255 * found.by_classes[a, b]) <= some.min()


@pytest.mark.parametrize(
    ("x", "y", "norm", "words"),
    [
        (np.zeros((3, 2)), [0, 1, 0], "l3", r"unknown norm 'l3': did you mean 'l\w+'"),
        (np.zeros((3, 2)), [1, 1, 1], "l2", "at least two classes, got 3 of class 1 alone"),
        (np.zeros((1, 2)), [0], "linf", "at least two classes, got 1 of class 0 alone"),
        (np.zeros((3, 2)), [0, 1], "linf", r"one label for each point .* got 3 points of 2 and labels of shape \(2,\)"),
        (np.zeros((0, 2)), [], "linf", "one label for each point"),
        (np.zeros((3, 0)), [0, 1, 1], "linf", "at least one coordinate"),
        (np.array([[0.0], [np.nan]]), [0, 1], "l1", "number 1 holds NaN or infinity"),
        (np.array([[0.0], [1e200]]), [0, 1], "l2", "must stay within .* got 1e.200; rescale"),
        (np.zeros((2, 2)), [0, -1], "linf", "whole numbers from 0 up, got int64 from -1"),
        (np.zeros((2, 2)), [0.0, 1.0], "linf", "whole numbers from 0 up, got float64"),
    ],
)
def test_bad_input_is_told_in_a_sentence(x: np.ndarray, y: list, norm: str, words: str) -> None:
    with pytest.raises(StackelbergError, match=words):
        separation(x, np.array(y), norm)


def test_unlike_sets_are_refused() -> None:
    x, y = np.zeros((2, 3)), np.array([0, 1])
    with pytest.raises(StackelbergError, match=r"one type and size, got float64 \[3\] and float64 \[4\]"):
        separation(x, y, against=(np.zeros((2, 4)), y))
    with pytest.raises(StackelbergError, match=r"one type and size, got float64 .* and uint8"):
        separation(x, y, against=(np.zeros((2, 3), np.uint8), y))
