"""Two neurons or not: every answer by a second method."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from stackelberg.certify import exact
from stackelberg.errors import StackelbergError
from stackelberg.memorize.halfplanes import ruled_out
from stackelberg.memorize.hardness import decide, least_margins
from stackelberg.threat import Ball


def drawn(n: int, d: int, seed: int, share: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(points, labels, `share` of the separation)."""
    chance = np.random.default_rng(seed)
    x, y = chance.random((n, d)), np.append([0, 1], chance.integers(0, 2, n - 2))
    return x, y, share * float(np.abs(x[y == 0][:, None] - x[y == 1][None]).max(2).min())


def test_on_the_line_it_is_at_most_two_changes_of_label() -> None:
    chance, seen = np.random.default_rng(0), {"yes": 0, "no": 0}
    for _ in range(16):
        n = int(chance.integers(3, 7))
        x, y = np.arange(n)[:, None] + chance.uniform(-0.1, 0.1, (n, 1)), chance.integers(0, 2, n)
        if len(set(y.tolist())) == 2:
            answer = decide(x, y, 0.3).answer
            assert answer == ("yes" if (np.diff(y) != 0).sum() <= 2 else "no")
            seen[answer] += 1
    assert min(seen.values()) > 2


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_in_the_plane_a_no_is_confirmed_by_all_directions_and_a_yes_by_another_verifier(share: float) -> None:
    seen = {"yes": 0, "no": 0}
    for seed in range(6):
        x, y, radius = drawn(5, 2, seed, share)
        decision = decide(x, y, radius)
        seen[decision.answer] += 1
        if decision.answer == "no":
            assert ruled_out(x, y, radius, grid=5)
            continue
        assert not ruled_out(x, y, radius)
        assert decision.net is not None
        assert decision.margin is not None
        pair = nn.Sequential(*list(decision.net)[:2], both_signs(decision.net[2]))
        centres, ball = torch.from_numpy(x), Ball("linf", radius, -2.0, 3.0)
        certificate, _ = exact(pair, centres, torch.from_numpy(y), ball)
        assert bool((certificate.margin > 0).all())
        assert float(certificate.margin.min()) / 2 == pytest.approx(float(decision.margin), abs=1e-2)
    assert seen["yes"] > 0
    if share == 0.4:
        assert seen["no"] > 0


def both_signs(last: nn.Module) -> nn.Linear:
    """Logits (-F, F)."""
    assert isinstance(last, nn.Linear)
    pair = nn.Linear(2, 2, dtype=torch.float64)
    with torch.no_grad():
        pair.weight.copy_(torch.cat([-last.weight, last.weight]))
        pair.bias.copy_(torch.cat([-last.bias, last.bias]))
    return pair


def test_data_that_admit_none_and_data_that_do_until_the_radius_grows() -> None:
    corners = np.array([[0, 0], [1, 1], [0, 1], [1, 0]], dtype=float)
    y = np.array([0, 0, 1, 1])
    assert decide(corners, y, 0.1).answer == "yes"  # a strip along the diagonal
    assert decide(corners, y, 0.3).answer == "no"
    assert ruled_out(corners, y, 0.3)
    assert not ruled_out(corners, y, 0.1)
    grid = np.array([[i, j] for i in range(3) for j in range(3)], dtype=float)
    checked = grid.sum(1).astype(int) % 2
    assert decide(grid, checked, 0.01).answer == "no"
    assert ruled_out(grid, checked, 0.01)


def test_labels_given_by_two_neurons_are_never_ruled_out() -> None:
    chance = np.random.default_rng(0)
    for _ in range(60):
        x, w, c = chance.normal(size=(9, 2)), chance.normal(size=(2, 2)), chance.normal(size=2)
        value = np.maximum(x @ w.T + c, 0) @ chance.choice([-1.0, 1.0], 2)
        y = (value > np.median(value)).astype(np.int64)
        if 0 < y.sum() < 9:
            assert not ruled_out(x, y, 1e-6, grid=1)


def test_what_one_plane_separates_two_neurons_separate() -> None:
    separable = 0
    for seed in range(6):
        x, y, radius = drawn(4, 3, seed, 0.3)
        sign = 2.0 * y - 1
        # s (w.x + c) - radius |w|_1 >= 1, variables w+, w-, c
        body = np.concatenate([-sign[:, None] * x + radius, sign[:, None] * x + radius, -sign[:, None]], 1)
        bounds = [(0, 40)] * 6 + [(None, None)]
        if linprog(np.zeros(7), A_ub=body, b_ub=-np.ones(4), bounds=bounds).status == 0:
            separable += 1
            assert decide(x, y, radius).answer == "yes"
    assert separable > 1


def test_the_least_margin_is_exact() -> None:
    """Against a dense sample, and attained."""
    torch.manual_seed(1)
    for d in (1, 2, 3):
        net = nn.Sequential(nn.Linear(d, 2), nn.ReLU(), nn.Linear(2, 1)).double()
        x, y = np.random.default_rng(d).normal(size=(3, d)), np.array([0, 1, 0])
        least, where = least_margins(net, x, y, 0.7)
        assert np.abs(where - x).max() <= 0.7 + 1e-15
        ticks = np.linspace(-0.7, 0.7, 41)
        offsets = np.stack(np.meshgrid(*[ticks] * d), -1).reshape(-1, d)
        for centre, label, value, point in zip(x, y, least, where, strict=True):
            assert isinstance(value, Fraction)
            with torch.no_grad():
                sampled = (2 * label - 1) * net(torch.from_numpy(centre + offsets))[:, 0]
                there = (2 * label - 1) * float(net(torch.from_numpy(point[None]))[0, 0])
            assert float(value) == pytest.approx(there, abs=1e-12)
            assert float(value) <= float(sampled.min()) + 1e-12
            assert float(value) >= float(sampled.min()) - 0.1


def test_the_time_is_kept() -> None:
    x, y, radius = drawn(12, 3, 0, 0.45)
    decision = decide(x, y, radius, seconds=0.01)
    assert decision.answer == "unknown"
    assert decision.net is None


def test_bad_input_is_named() -> None:
    x, y, radius = drawn(4, 2, 0, 0.3)
    with pytest.raises(StackelbergError, match=r"radius must lie in \(0, .*half the separation"):
        decide(x, y, 2 * radius)
    with pytest.raises(StackelbergError, match="labels must be 0 and 1, both of them"):
        decide(x, np.zeros(4, int), radius)
    with pytest.raises(StackelbergError, match="one label each, got"):
        decide(x, y[:3], radius)
    x[2, 1] = np.inf
    with pytest.raises(StackelbergError, match="point 2 has a NaN or infinite"):
        decide(x, y, radius)
