"""Norm-based bounds: the norms by another way, and complexities beside those of a class where they are known."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from stackelberg.bounds import Norms, norm_bounds, norms_of
from stackelberg.bounds.fitting import Answers
from stackelberg.bounds.norms import (
    Sizes,
    frobenius_complexity,
    path_complexity,
    power_above,
    sizes,
    spectral_complexity,
)
from stackelberg.certify import Unsupported
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).eval()


def matrices(net: nn.Sequential) -> list[np.ndarray]:
    """[[W, b], [0, 1]] of each linear layer, the last without the new row."""
    found = []
    layers = [part for part in net if isinstance(part, nn.Linear)]
    for layer in layers:
        top = np.hstack([layer.weight.detach().numpy(), layer.bias.detach().numpy()[:, None]])
        found.append(top if layer is layers[-1] else np.vstack([top, np.eye(1, top.shape[1], top.shape[1] - 1)]))
    return found


def test_norms_are_those_of_the_matrices_with_their_biases() -> None:
    net = perceptron()
    found, dense = norms_of(net, (1, 1, 3)), matrices(net)
    assert found.spectral == pytest.approx([np.linalg.norm(a, 2) for a in dense], rel=1e-3)
    assert all(ours >= np.linalg.norm(a, 2) * (1 - 1e-6) for ours, a in zip(found.spectral, dense, strict=True))
    assert found.two_one == pytest.approx([np.linalg.norm(a, axis=1).sum() for a in dense])
    whole = [np.linalg.norm(a) for a in dense[:-1]] + [np.linalg.norm(dense[-1], axis=1).max()]
    assert found.frobenius == pytest.approx(whole)
    assert (found.width, found.inputs, found.classes, found.depth) == (6, 4, 2, 3)


def test_the_path_norm_is_the_sum_over_all_paths() -> None:
    net = perceptron()
    a, b, c = (np.abs(matrix) for matrix in matrices(net))
    for k in range(2):
        paths = itertools.product(range(6), range(5), range(4))
        total = sum(c[k, h] * b[h, g] * a[g, x] for h, g, x in paths)
        assert total <= norms_of(net, (1, 1, 3)).path * (1 + 1e-9)
    assert (c @ b @ a).sum(1).max() == pytest.approx(norms_of(net, (1, 1, 3)).path)


def test_a_convolution_and_a_batch_norm_count_as_the_matrix_they_are() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean = torch.tensor([0.3, -0.2])
    norm.running_var = torch.tensor([2.0, 0.5])
    net.eval()
    zero = torch.zeros(1, 1, 5, 5)
    first = net[:2]
    matrix = torch.autograd.functional.jacobian(lambda x: first(x).flatten(), zero)
    assert isinstance(matrix, torch.Tensor)
    a = np.hstack([matrix.reshape(8, 25).numpy(), first(zero).detach().flatten().numpy()[:, None]])
    a = np.vstack([a, np.eye(1, 26, 25)])
    found = norms_of(net, (1, 5, 5))
    assert found.depth == 2
    assert found.spectral[0] == pytest.approx(np.linalg.norm(a, 2), rel=1e-3)
    assert found.frobenius[0] == pytest.approx(np.linalg.norm(a), rel=1e-5)
    assert found.two_one[0] == pytest.approx(np.linalg.norm(a, axis=1).sum(), rel=1e-5)


def complexity(x: np.ndarray, order: float, trials: int = 4000) -> float:
    """E sup over ||w|| <= 1 of (1/n) sum s_i w . x_i: the dual norm of sum s_i x_i, by trials."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (trials, len(x)))
    return float(np.linalg.norm(signs @ x, order, axis=1).mean() / len(x))


def test_complexities_of_linear_functions_lie_under_the_bounds_but_not_under_a_tenth() -> None:
    rng = np.random.default_rng(2)
    for n, d in ((50, 3), (200, 8)):
        x = rng.random((n, d))
        size = Sizes(float((x**2).sum()), float((x**2).sum(0).max()), n)
        l2, l1 = complexity(x, 2), complexity(x, np.inf)
        assert 0.1 * frobenius_complexity(1.0, 1, size) < l2 <= frobenius_complexity(1.0, 1, size)
        assert 0.1 * path_complexity(1.0, 1, d, size) < l1 <= path_complexity(1.0, 1, d, size)


def test_two_layers_lie_under_the_bounds() -> None:
    """Of relu networks with two layers a lower estimate, by many first layers on a grid of directions."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 2))
    size = Sizes(float((x**2).sum()), float((x**2).sum(0).max()), 40)
    angles = np.linspace(0, 2 * np.pi, 400)
    for directions, bound in (
        (np.stack([np.cos(angles), np.sin(angles)], 1), frobenius_complexity(1.0, 2, size)),
        (np.array([[1, 0], [-1, 0], [0, 1], [0, -1.0]]), path_complexity(1.0, 2, 2, size)),
    ):
        outputs = np.maximum(x @ directions.T, 0)
        signs = rng.choice([-1.0, 1.0], (4000, 40))
        found = np.abs(signs @ outputs).max(1).mean() / 40  # one unit of norm 1, its output weight +-1
        assert 0.1 * bound < found <= bound


def test_the_spectral_complexity_by_hand() -> None:
    found = spectral_complexity(3.0, (2.0, 4.0), 100, Sizes(500.0, 1.0, 1000))
    r = 4 * 500 * math.log(2 * 100**2) * 9 * (2 ** (2 / 3) + 4 ** (2 / 3)) ** 3
    assert found == pytest.approx(4 / 1000**1.5 + 18 * math.log(1000) * math.sqrt(r) / 1000)


def test_powers_share_out_delta() -> None:
    values = [2.0**j for j in range(-60, 61)]
    assert sum(math.exp(-power_above(v)[1]) for v in values) <= 1
    for value in (0.3, 1.0, 5.0):
        power, _ = power_above(value)
        assert value <= power < 2 * value


def test_the_bound_of_a_known_law_is_not_violated_and_can_speak() -> None:
    """Linear scores of two classes on four atoms, a million examples: here the theorems are below 1."""
    rng = np.random.default_rng(4)
    atoms, chance = np.array([-0.9, -0.2, 0.3, 1.0]), np.array([0.02, 0.3, 0.6, 0.99])
    n = 10**6
    norms = Norms((1.0,), (math.sqrt(2.0),), (math.sqrt(0.5),), 0.7, 2, 2, 2)
    spoke = 0
    for _ in range(20):
        counts = rng.multinomial(n, np.full(4, 0.25))
        ones = rng.binomial(counts, chance)
        margins = np.repeat(np.concatenate([atoms, -atoms]), np.concatenate([ones, counts - ones]))
        truth = float(np.mean(np.where(atoms > 0, 1 - chance, chance)))
        size = Sizes(float(counts @ atoms**2) + n, float(n), n)
        found = Answers(torch.from_numpy(margins), torch.ones(n))
        for bound in norm_bounds(norms, size, found):
            assert bound.value >= truth
            spoke += bound.value < 0.6
    assert spoke >= 20


def test_networks_whose_paths_meet_and_other_activations_are_named() -> None:
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))
    with pytest.raises(Unsupported, match="sigmoid"):
        norms_of(smooth, (1, 2, 2))
    pooled = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2))
    with pytest.raises(Unsupported, match="paths meet"):
        norms_of(pooled, (1, 2, 2))


def test_sizes_count_the_constant() -> None:
    x = torch.tensor([[0, 255], [51, 0]], dtype=torch.uint8).view(2, 1, 1, 2)
    found = sizes(Dataset(x, torch.tensor([0, 1]), ["a", "b"], "two"))
    assert (found.squares, found.column, found.n) == (pytest.approx(1.04 + 2), 2.0, 2)
    with pytest.raises(StackelbergError, match="delta"):
        norm_bounds(norms_of(perceptron(), (1, 1, 3)), found, Answers(torch.ones(2), torch.ones(2)), 0.0)
