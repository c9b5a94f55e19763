"""The sqrt(N)-parameter memorizer: every label, by its literal network, in whole numbers; and what it costs."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.memorize.compact import Compact, Reading, compact
from stackelberg.memorize.integers import Drawing, Form


def points(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    return chance.integers(0, 256, (n, d)).astype(np.uint8), chance.integers(0, classes, n)


def answered(known: Compact, x: np.ndarray) -> np.ndarray:
    """Classes by the literal network."""
    return known.names[known.network()(known.reading(x)).astype(np.int64)]


@pytest.mark.parametrize("classes", [2, 3, 5, 8])
@pytest.mark.parametrize("groups", [1, 7, 30, None])
def test_the_literal_network_knows_every_label_and_is_the_closed_form_elsewhere(classes: int, groups: int) -> None:
    x, y = points(30, 9, classes)
    known = compact(x, y, groups=groups)
    assert (answered(known, x) == y).all()
    near = np.clip(x.astype(int) + np.random.default_rng(1).integers(-1, 2, x.shape), 0, 255).astype(np.uint8)
    for asked in (x, near, points(50, 9, 2, seed=5)[0], np.zeros((1, 9), np.uint8), np.full((1, 9), 255, np.uint8)):
        assert (answered(known, asked) == known.predict(asked).numpy()).all()
    assert known.width <= 6
    assert known.depth == known.network().depth


@pytest.mark.parametrize("last", [1, 2**5, 2**12])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_block_that_is_a_power_of_two_is_taken_off_in_every_slot(last: int, slots: int) -> None:
    """A digit extractor whose threshold stands half a unit off leaves such a block, where nothing follows it."""
    keys = np.sort(np.array([last, *([] if slots == 1 else [2**13 - 3, 2**13])], dtype=np.int64))
    known = Compact(
        Reading(0.0, 1.0, 255), np.array([1, 256]), keys, np.ones(len(keys), np.int64), np.array([0, 1]), groups=1
    )
    t = np.unique(np.concatenate([keys - 1, keys, keys + 1, [1, 2**13 + 2]]))
    t = t[t > 0]
    levels = np.stack([(t - 1) % 256, (t - 1) // 256], 1)
    assert (known.network()(levels) == np.isin(t, keys)).all()


def test_without_whole_numbers_the_same_network_forgets() -> None:
    x, y = points(200, 9, 2)
    known = compact(x, y, groups=10)
    assert known.slots * known.key_bits > 53  # a word no float64 can hold
    levels = known.reading(x)
    assert (known.names[known.network()(levels).astype(np.int64)] == y).all()
    rounded = known.network().rounded(levels)
    assert (np.where(rounded == 1, known.names[1], known.names[0]) != y).mean() > 0.2


def test_parameters_grow_as_the_square_root() -> None:
    sizes = 2 ** np.arange(6, 15)
    counts = [compact(*points(int(n), 8, 2)).num_parameters for n in sizes]
    exponent = np.polyfit(np.log(sizes), np.log(counts), 1)[0]
    assert 0.45 < exponent < 0.6  # sqrt(N log N): .5 and the logarithm's share
    each = [count / math.sqrt(n * math.log2(n)) for n, count in zip(sizes, counts, strict=True)]
    assert max(each) / min(each) < 1.4
    assert counts[-1] < sizes[-1]  # fewer numbers than labels
    known = compact(*points(1024, 8, 2))
    assert known.bits[1] > 512 * known.key_bits  # the labels' information has not gone: it sits in the digits


def test_counts_are_those_of_the_layers_written_out() -> None:
    known = compact(*points(50, 4, 3))
    network = known.network()
    written = []
    for layer, inputs in zip(network.layers, [4, *(len(layer.forms) for layer in network.layers)], strict=False):
        matrix = np.array([[form.weights.get(i, 0) for i in range(inputs)] for form in layer.forms], dtype=object)
        written.append((matrix, np.array([form.bias for form in layer.forms], dtype=object)))
    assert known.num_parameters == sum(int((w != 0).sum() + (b != 0).sum()) for w, b in written)
    sizes = [4, *(len(w) for w, _ in written)]
    assert network.num_dense == sum(a * (b + 1) for a, b in pairwise(sizes))
    assert known.bits[0] == max(int(abs(n)).bit_length() for w, b in written for n in (*w.ravel(), *b))
    h = known.reading(points(50, 4, 3)[0]).astype(object)  # and evaluated densely
    for w, b in written[:-1]:
        h = np.maximum(h @ w.T + b, 0)
    assert (h @ written[-1][0].T + written[-1][1])[:, 0].tolist() == network(
        known.reading(points(50, 4, 3)[0])
    ).tolist()


def test_fresh_points_get_the_most_frequent_class() -> None:
    x, y = points(2000, 12, 2)
    known = compact(x[:1000], y[:1000])
    assert (known.predict(x[:1000]).numpy() == y[:1000]).all()
    fresh = known.predict(x[1000:]).numpy()
    assert (fresh == np.bincount(y[:1000]).argmax()).all()
    assert abs((fresh == y[1000:]).mean() - 0.5) < 0.05


def test_ten_thousand_digits_by_heart(real_data: Callable[[str, str], Dataset]) -> None:
    digits = real_data("mnist", "test")
    for y in (digits.y, digits.y % 2):
        known = compact(digits.x, y)
        assert (known.predict(digits.x) == y).all()
        part = torch.arange(0, 10_000, 97)
        assert (answered(known, digits.x[part].numpy()) == y[part].numpy()).all()
        assert (known.predict(digits.batch(part)[0]) == y[part]).all()  # greys as floats are read back exactly
        assert known.num_parameters < 2 * 10_000


def test_points_in_space_are_read_on_a_grid_that_keeps_them_apart() -> None:
    chance = np.random.default_rng(0)
    x = chance.normal(size=(100, 5, 3))
    y = chance.integers(0, 4, 100)
    x[1] = x[0] + 1e-6
    y[:2] = 0, 1
    known = compact(x, torch.from_numpy(y))
    assert known.reading.levels > 2**12
    assert (answered(known, x) == y).all()
    assert known.scores(x).argmax(1).tolist() == y.tolist()


def test_equal_points_of_one_class_share_a_slot() -> None:
    x, y = points(30, 4, 2)
    doubled = compact(np.concatenate([x, x]), np.concatenate([y, y]))
    assert len(doubled.keys) == np.bincount(y).min()
    assert (answered(doubled, x) == y).all()


def test_bad_input_is_named() -> None:
    x, y = points(20, 4, 2)
    with pytest.raises(StackelbergError, match="two classes at least, got 1"):
        compact(x, np.zeros(20, int))
    with pytest.raises(StackelbergError, match="got 20 examples and 19 labels"):
        compact(x, y[:19])
    with pytest.raises(StackelbergError, match=r"groups must lie in 1\.\.20"):
        compact(x, y, groups=21)
    x[3], y[3], y[7] = x[7], 0, 1
    with pytest.raises(StackelbergError, match="examples 3 and 7 are equal"):
        compact(x, y)
    with pytest.raises(StackelbergError, match="examples 3 and 7 are equal"):
        compact(x / 255, y)
    floats = points(20, 4, 2)[0] / 255
    floats[5, 2] = np.nan
    with pytest.raises(StackelbergError, match="example 5 has a NaN"):
        compact(floats, y)
    with pytest.raises(StackelbergError, match=r"takes whole numbers \[Q, 4\]"):
        compact(*points(20, 4, 2)).network()(np.zeros((2, 5), np.int64))
    with pytest.raises(StackelbergError, match="62 are held"):
        compact(chance_floats(), np.arange(2000) % 2)


def chance_floats() -> np.ndarray:
    """Points that need 32 bits to be told apart, in many dimensions."""
    x = np.random.default_rng(0).random((2000, 2000))
    x[1] = x[0]
    x[1, 0] = 0.3 + 3e-10
    x[0, 0] = 0.3
    return x


def test_steps_of_whole_numbers() -> None:
    drawing = Drawing()
    (v,) = drawing.relu(Form({0: 1}))
    over, under = drawing.relu(v - 4, v - 5)
    network = drawing.network(1, over - under)
    assert network(np.arange(9)[:, None]).tolist() == [0] * 5 + [1] * 4
    assert (network.width, network.depth, network.num_parameters) == (2, 3, 1 + 4 + 2)
    assert Form({0: 2}, 3) - Form({0: 2}) == Form({}, 3)
