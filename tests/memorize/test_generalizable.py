"""The polynomial-time network: its formulas literally, one nearest neighbour where it answers, right on its balls."""

import math

import numpy as np
import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.memorize.generalizable import generalizable
from stackelberg.memorize.memorizer import NO_ANSWER
from stackelberg.memorize.sample_size import failure, samples_enough


def sample(count=40, d=3, classes=3, seed=0):
    """Points labelled by which third of the first coordinate they lie in, without those near the borders."""
    x = torch.rand(6 * count, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y = (x[:, 0] * classes).long()
    clear = ((x[:, 0] * classes) % 1 - 0.5).abs() < 0.4
    return x[clear][:count], y[clear][:count]


def literal(x, points, labels, classes):
    """F by the formulas as they are written, in loops."""
    enemies = [(i, j) for i in range(len(points)) for j in range(len(points)) if labels[i] != labels[j]]
    r = 0.01 * min(float(((points[i] - points[j]) ** 2).sum()) for i, j in enemies)
    u = {i: -r for i in range(len(points))}
    for i, j in enemies:
        u[i] += max(0.0, -float((points[i] - points[j]) @ (x - (0.51 * points[i] + 0.49 * points[j]))))
    return [sum(max(0.0, -u[i]) for i in range(len(points)) if labels[i] == c) for c in range(classes)]


def test_scores_and_network_are_the_formulas():
    x, y = sample(15)
    memorizer = generalizable(x, y)
    queries = torch.rand(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1.4 - 0.2
    wanted = torch.tensor([literal(q, x, y, 3) for q in queries], dtype=torch.float64)
    assert float((wanted > 0).double().mean()) > 0.1
    assert torch.allclose(memorizer.scores(queries), wanted, rtol=0, atol=1e-12)
    assert torch.allclose(memorizer.network()(queries), wanted, rtol=0, atol=1e-12)
    assert torch.allclose(memorizer.network().dense()(queries), wanted, rtol=0, atol=1e-12)


def test_sizes_are_those_of_the_layers():
    x, y = sample(15)
    memorizer = generalizable(x, y)
    layers = list(memorizer.network().layers())
    assert memorizer.depth == len(layers) == 3
    assert memorizer.width == max(len(layer.bias) for layer in layers)
    assert memorizer.num_dense == memorizer.network().numbers()
    held = sum(layer.weight._nnz() for layer in layers) + len(layers[0].bias) + len(layers[1].bias)
    assert memorizer.num_parameters == held


def test_where_it_answers_it_is_the_nearest_neighbour():
    """A8: all of the sample right; one class at most has a score; its sign is 1-NN's."""
    x, y = sample(120)
    memorizer = generalizable(x, y)
    assert torch.equal(memorizer.predict(x), y)
    queries = torch.rand(3000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scores, answer = memorizer.scores(queries), memorizer.predict(queries)
    assert int((scores > 0).sum(1).max()) == 1
    nearest = y[torch.cdist(queries, x).argmin(1)]
    answered = answer != NO_ANSWER
    assert torch.equal(answer[answered], nearest[answered])
    assert 0 < int((~answered).sum()) < len(queries)


def test_right_on_every_ball_towards_the_enemies():
    """Also in the worst direction: on the way to each enemy, at the full radius."""
    x, y = sample(60)
    memorizer = generalizable(x, y)
    radii = torch.from_numpy(memorizer.radii)
    assert float(radii.min()) == pytest.approx(memorizer.radius)
    i, j = (y[:, None] != y).nonzero().T
    way = (x[j] - x[i]) / (x[j] - x[i]).norm(dim=1, keepdim=True)
    assert torch.equal(memorizer.predict(x[i] + way * radii[i, None]), y[i])
    past = memorizer.predict(x[i] + way * radii[i, None] * 1.6)  # beyond half the way to the nearest
    assert not torch.equal(past, y[i])


def test_enough_samples_are_enough():
    """A13: parity on {0,1}^3 has S = 8 exactly; at N = S ln(S/delta)/error failures are as rare as promised."""
    vertices = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], dtype=torch.float64)
    parity = vertices.sum(1).long() % 2
    error, delta = 0.1, 0.2
    count = samples_enough(8, error, delta)
    assert count == math.ceil(8 * math.log(8 / delta) / error)
    rng = np.random.default_rng(0)
    mass = np.array([0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.24, 0.01])
    failures = {count: 0, 8: 0}
    for size in failures:
        for _ in range(60):
            seen = np.unique(rng.choice(8, size=size, p=mass))
            if len(set(parity[seen].tolist())) == 1:
                failures[size] += 1
                continue
            right = (generalizable(vertices[seen], parity[seen]).predict(vertices) == parity).numpy()
            failures[size] += mass[right].sum() < 1 - error
    assert failures[count] / 60 <= min(delta, failure(8, count, error) + 0.05)
    assert failures[8] > 6  # with as many samples as cells it often fails


def test_float_noise_and_bytes():
    x, y = sample(30)
    levels = (x * 255).round().to(torch.uint8)
    memorizer = generalizable(levels, y)
    assert torch.equal(memorizer.predict(levels.double() / 255 + 1e-12), y)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norm": "linf"}, "cells are those of l2, got 'linf'"),
        ({"radius": 9.0}, "radius must lie in"),
        ({"x": torch.full((4, 2), torch.nan)}, "number 0 holds NaN"),
        ({"x": torch.zeros(4, 2)}, "identical, with labels"),
        ({"y": torch.zeros(4, dtype=torch.int64)}, "class"),
        ({"x": torch.zeros(1, 2), "y": torch.zeros(1, dtype=torch.int64)}, "at least two points"),
    ],
)
def test_what_cannot_be_memorized_is_refused(change, said):
    given = {"x": torch.eye(4)[:, :2], "y": torch.tensor([0, 1, 0, 1])} | change
    if "x" not in change and "norm" not in change:
        given["x"] = torch.arange(8.0).view(4, 2)
    with pytest.raises(StackelbergError, match=said):
        generalizable(**given)
