"""Lipschitz certificates: upper bounds that are close, for every layer, and never broken."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn

from stackelberg.attacks import PGD
from stackelberg.certify import Unsupported, interval, lipschitz
from stackelberg.certify.enclosure import matrices
from stackelberg.certify.graph import graph_of
from stackelberg.certify.lipschitz import slopes, spectral_bound
from stackelberg.certify.nodes import Affine
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin


class Residual(nn.Module):
    """A convolution with a skip connection, batch norm, average pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.pool, self.head = nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.Linear(12, 4)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.tanh(x + self.norm(self.second(x)))
        return self.head(self.pool(x).flatten(1))


def seeded(build: type[nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval()


def images(count: int, seed: int = 1) -> torch.Tensor:
    return 0.3 + 0.4 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 5), (80, 120), (300, 90), (1, 7)])
@pytest.mark.parametrize("density", [1.0, 0.1])
def test_the_spectral_bound_is_above_the_norm_and_close(shape: tuple[int, int], density: float) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal(shape) * (rng.random(shape) < density)
    truth = float(np.linalg.svd(matrix, compute_uv=False)[0])
    bound = spectral_bound(csr_array(matrix))
    assert truth <= bound <= truth * 1.0003


def test_the_spectral_bound_of_simple_matrices() -> None:
    assert spectral_bound(csr_array(np.zeros((3, 4)))) == 0
    assert spectral_bound(csr_array(np.diag([3.0, -5.0, 1.0]))) == pytest.approx(5, rel=1e-9)
    twins = np.diag(np.ones(100))
    twins[:, :2] = 0
    twins[0, 0] = twins[1, 1] = 1  # a hundred equal singular values
    assert 1 <= spectral_bound(csr_array(twins)) <= 1.0003


def test_a_convolution_counts_with_its_own_zero_padding() -> None:
    """The matrix written out is the layer: circular padding would only bound it."""
    layer = nn.Conv2d(2, 3, 3, padding=1, stride=2)
    graph = graph_of(nn.Sequential(layer), (2, 6, 6))
    node = next(node for node in graph.nodes if isinstance(node, Affine))
    (matrix,) = matrices(graph, node)
    x = torch.rand(2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        expected = nn.functional.conv2d(x[None], layer.weight.double(), None, 2, 1).flatten()
    assert np.allclose(matrix @ x.flatten().numpy(), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@torch.no_grad()
def test_one_affine_layer_is_exact(norm: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    x, ball = images(6), Ball(norm, 0.05)
    y = net(x).argmax(1)
    weight = next(part.weight for part in net if isinstance(part, nn.Linear)).double()
    size = torch.linalg.vector_norm(weight[y][:, None] - weight, ord=1 if norm == "linf" else 2, dim=2)
    logits = net(x).double()
    exact = (logits.gather(1, y[:, None]) - logits - 0.05 * size).scatter(1, y[:, None], torch.inf).amin(1)
    proved = lipschitz(net, x, y, ball).margin
    assert (proved <= exact).all()
    torch.testing.assert_close(proved, exact, atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@torch.no_grad()
def test_no_pair_of_inputs_is_steeper(norm: str) -> None:
    net = seeded(Residual)
    steep = torch.from_numpy(slopes(graph_of(net, (1, 8, 8)), norm))
    a, b = images(200, 1).double(), images(200, 2).double()
    b = torch.cat([b[:100], a[100:] + 1e-3 * (b[100:] - 0.5)])
    moved = net.double()(a) - net(b)
    apart = (moved[:, :, None] - moved[:, None, :]).abs()
    assert (apart <= steep * Ball(norm, 0.1).distance(a, b)[:, None, None]).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_certified_stands_every_attack(norm: str) -> None:
    net, x = seeded(Residual, 3), images(64)
    with torch.no_grad():
        y = net(x).argmax(1)
    ball = Ball(norm, {"linf": 0.005, "l2": 0.05}[norm])
    found = lipschitz(net, x, y, ball)
    assert found.certified.sum() > 5
    moved = PGD(ball, steps=30, payoff="cw", precision="float32")(net, x, y)
    with torch.no_grad():
        assert (found.margin <= -margin(net(moved), y)).all()


def test_linf_is_never_above_what_intervals_over_the_whole_line_would_give() -> None:
    """Coordinates one by one are tighter than the product of the layers' norms."""
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 3)))  # pyright: ignore[reportArgumentType]
    weights = [part.weight.detach().double().numpy() for part in net.children() if isinstance(part, nn.Linear)]
    product = np.prod([np.abs(w).sum(1).max() for w in weights[:-1]])
    pairs = np.abs(weights[-1][:, None] - weights[-1]).sum(2) * product
    steep = slopes(graph_of(net, (6,)), "linf")
    assert (steep <= pairs + 1e-9).all()
    assert steep.sum() < 0.8 * pairs.sum()


def test_what_has_no_bound_is_named() -> None:
    net, y = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.tensor([0])
    with pytest.raises(Unsupported, match="known for linf and l2, got the norm l1"):
        lipschitz(net, images(1), y, Ball("l1", 0.1))
    with pytest.raises(Unsupported, match="ends in an affine layer"):
        lipschitz(nn.Sequential(net, nn.ReLU()), images(1), y, Ball("l2", 0.1))
    assert len(lipschitz(net, images(0), y[:0], Ball("l2", 0.1)).margin) == 0
    assert interval(net, images(1), y, Ball("l2", 0.1)).method == "ibp"
