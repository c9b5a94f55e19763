"""Uniform bounds: counted labellings, and a class whose true gap is known in every trial."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from trials import held_and_tight

from stackelberg import models
from stackelberg.bounds import Architecture, architecture_of, vc
from stackelberg.bounds.rademacher import rademacher_gap
from stackelberg.bounds.uniform import log_growth, samples_needed, uniform_gap, vc_dimension
from stackelberg.certify import Unsupported
from stackelberg.errors import StackelbergError

ATOMS, N, TRIALS, DELTA = 64, 60, 3000, 0.05


def thresholds() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(largest gap over all thresholds [T], its training error [T], empirical complexity [T]); labels are coins.

    The class x -> 1{x >= t} on 64 equally likely atoms realises at most N + 1 labellings of N points.
    """
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, ATOMS)
    predict = np.arange(ATOMS)[None, :] >= np.arange(ATOMS + 1)[:, None]
    wrong = (predict != label).astype(float)
    truth = wrong.mean(1)
    counts = rng.multinomial(N, np.full(ATOMS, 1 / ATOMS), TRIALS)
    errors = counts @ wrong.T / N
    best = (truth - errors).argmax(1)
    rows = np.arange(TRIALS)
    complexity = np.zeros(TRIALS)
    for _ in range(20):  # of signs: sum_i s_i over the copies of an atom, given how many there are
        sums = 2 * rng.binomial(counts, 0.5) - counts
        complexity += (sums @ wrong.T).max(1) / N / 20
    return truth[best], errors[rows, best], complexity


def test_the_worst_network_of_a_class_is_within_the_bound() -> None:
    truth, seen, complexity = thresholds()
    growth = math.log(N + 1)
    assert held_and_tight(truth, seen, lambda factor: seen + factor * uniform_gap(growth, N, DELTA), DELTA)
    gaps = np.array([rademacher_gap(c, N, DELTA) for c in complexity])
    assert held_and_tight(truth, seen, lambda factor: seen + factor * gaps, DELTA)


def test_no_more_labellings_are_met_than_counted() -> None:
    chance = torch.Generator().manual_seed(0)
    points = torch.linspace(-1, 1, 7)
    w, b, a = (torch.randn(200_000, 2, generator=chance) for _ in range(3))
    c = torch.randn(200_000, generator=chance)
    answers = (torch.relu(points[:, None, None] * w + b) * a).sum(2) + c > 0
    met = len(torch.unique(answers.T.long(), dim=0))
    small = Architecture((2, 1), (4, 7), (1, 2))
    assert 40 < met <= 2**7
    assert math.log(met) <= log_growth(small, 7)
    one = Architecture((1,), (2,), (1,))  # a threshold with a sign: 2 N labellings
    for samples in (2, 10, 100):
        assert math.log(2 * samples) <= log_growth(one, samples) <= math.log(2 * (math.e * samples) ** 2) + 1e-9


@pytest.mark.parametrize(
    "net", [Architecture((8, 8, 1), (80, 152, 161), (1, 2, 3)), Architecture((3, 1), (6, 9), (1, 2))]
)
def test_the_closed_form_follows_from_the_count(net: Architecture) -> None:
    points = math.ceil(vc_dimension(net)) + 1
    assert log_growth(net, points) < points * math.log(2)
    reach = sum(k * i for k, i in zip(net.units, net.degrees, strict=True))
    by_hand = len(net.units) + sum(net.parameters) * math.log2(4 * math.e * reach * math.log2(2 * math.e * reach))
    assert vc_dimension(net) == pytest.approx(by_hand)


def test_the_count_by_hand() -> None:
    net = Architecture((4, 1), (12, 17), (1, 2))
    first = math.log(2) + 12 * math.log(2 * math.e * 1000 * 4 / 12)
    second = math.log(2) + 17 * math.log(2 * math.e * 1000 * 1 * 2 / 17)
    assert log_growth(net, 1000) == pytest.approx(first + second)
    assert log_growth(net, 3) == pytest.approx(3 * math.log(2))
    assert uniform_gap(50.0, 1000, 0.05) == pytest.approx(math.sqrt(0.1) + math.sqrt(math.log(20) / 2000))
    needed = samples_needed(net, 0.1, 0.05)
    assert uniform_gap(log_growth(net, needed), needed, 0.05) <= 0.1
    assert uniform_gap(log_growth(net, needed // 2), needed // 2, 0.05) > 0.1


def test_layers_are_read_off_the_network() -> None:
    mlp = models.build("mlp", 10, (1, 8, 8), 16)
    assert architecture_of(mlp, (1, 8, 8)) == Architecture((16, 16, 45), (1040, 1312, 1482), (1, 2, 3))
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    found = architecture_of(conv, (1, 8, 8))
    assert found == Architecture((4 * 36, 3), (40 + 8, 48 + 435), (1, 2))
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))
    assert max(architecture_of(pooled, (1, 8, 8)).degrees) == 2
    resnet = architecture_of(models.build("resnet18", 10, (3, 16, 16), 4).eval(), (3, 16, 16))
    assert set(resnet.parameters) == {sum(p.numel() for p in models.build("resnet18", 10, (3, 16, 16), 4).parameters())}


def test_what_is_not_piecewise_linear_is_not_counted() -> None:
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    with pytest.raises(Unsupported, match="piecewise linear"):
        vc(smooth, (1, 2, 2), 100, 0.0)


def test_more_examples_and_fewer_parameters_help() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    values = [vc(net, (1, 2, 2), n, 0.1).value for n in (10**3, 10**4, 10**6)]
    assert values[0] > values[1] > values[2] > 0.1
    assert vc(net, (1, 2, 2), 100, 0.1).vacuous
    with pytest.raises(StackelbergError, match="delta"):
        vc(net, (1, 2, 2), 100, 0.1, 1.5)
    with pytest.raises(StackelbergError, match="got 0"):
        vc(net, (1, 2, 2), 0, 0.1)
