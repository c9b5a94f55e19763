"""The optimal memorizer: right on every ball below lambda / 2, and its network is its evaluator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.memorize.layers import Layered
from stackelberg.memorize.optimal import OptimalMemorizer, optimal


def points(kind: str, count: int = 60, width: int = 9, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    y = torch.from_numpy(rng.permutation(np.arange(count) % classes))
    if kind == "bytes":
        return torch.from_numpy(rng.integers(0, 256, (count, 1, 3, width // 3), np.uint8)), y
    return torch.from_numpy(rng.standard_normal((count, width)) - 5), y


def units(x: torch.Tensor) -> torch.Tensor:
    return x.double() / 255 if x.dtype == torch.uint8 else x


def towards_enemies(x: torch.Tensor, y: torch.Tensor, radius: float) -> torch.Tensor:
    """Each point moved by `radius` at most in every coordinate towards every other point of another class."""
    flat = units(x).flatten(1)
    moved = flat[:, None] + (flat[None] - flat[:, None]).clamp(-radius, radius)
    return moved[y[:, None] != y[None]]


def literal_f(memorizer: OptimalMemorizer, x: torch.Tensor) -> torch.Tensor:
    """F by the recurrence of the paper."""
    a = torch.zeros(len(x), dtype=torch.float64)
    stored, labels = torch.from_numpy(memorizer.points), torch.from_numpy(memorizer.labels)
    gap = memorizer.separation.value - 2 * memorizer.radius
    for point, label in zip(units(stored), (labels + 1).double(), strict=True):
        s = ((x.flatten(1) - point).abs() - memorizer.radius).relu().sum(1)
        a = torch.maximum(a, label - label / gap * s)
    return a


@pytest.mark.parametrize("share", [0.25, 0.45, 0.499])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_every_ball_is_right_however_it_is_moved(kind: str, share: float) -> None:
    x, y = points(kind)
    truth = torch.cdist(units(x).flatten(1), units(x).flatten(1), p=torch.inf)
    truth[y[:, None] == y[None]] = torch.inf
    memorizer = optimal(x, y, radius=share * float(truth.min()))
    assert memorizer.separation.value == pytest.approx(float(truth.min()), rel=1e-12)
    moved = towards_enemies(x, y, memorizer.radius)
    owner = y[:, None].expand(-1, len(y))[y[:, None] != y[None]]
    assert float((memorizer.scores(moved) - owner - 1).abs().max()) < 1e-9
    assert torch.equal(memorizer.predict(moved), owner)
    corners = units(x).flatten(1) + memorizer.radius * (2 * torch.randint(0, 2, (len(x), 9)) - 1).double()
    assert float((memorizer.scores(corners) - y - 1).abs().max()) < 1e-9


def test_just_past_half_the_separation_the_known_pair_breaks_it() -> None:
    x, y = points("floats")
    memorizer = optimal(x, y)
    assert memorizer.radius == pytest.approx(0.999 * memorizer.separation.value / 2)
    i, j = memorizer.separation.pair
    far = 1.001 * memorizer.separation.value / 2
    moved = x[[i, j]] + (x[[j, i]] - x[[i, j]]).clamp(-far, far)
    assert int((memorizer.predict(moved) != y[[i, j]]).sum()) >= 1


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_evaluator_network_and_recurrence_are_one_function(kind: str) -> None:
    x, y = points(kind)
    memorizer = optimal(x, y)
    flat = units(x).flatten(1)
    noise = memorizer.separation.value * torch.randn(20, *flat.shape, dtype=torch.float64)
    share = torch.rand(20, len(flat), 1, dtype=torch.float64)  # of the way from a ball to where its term is 0
    beside = flat + torch.eye(9, dtype=torch.float64)[3] * (memorizer.radius + share * memorizer.gap)
    moved = towards_enemies(x, y, 1.3 * memorizer.radius)
    queries = torch.cat([(flat + noise).flatten(0, 1), beside.flatten(0, 1), flat, moved])
    values = memorizer.scores(queries)
    assert float(((values > 0.1) & (values < 0.9)).sum()) > 10  # between the answers, too
    network = memorizer.network()
    assert float((network(queries)[:, 0] - values).abs().max()) < 1e-9
    above = torch.maximum(queries, torch.from_numpy(memorizer.floor))
    assert float((literal_f(memorizer, above) - values).abs().max()) < 1e-9
    assert float((network.dense()(above)[:, 0] - values).abs().max()) < 1e-9


@pytest.mark.parametrize(("d", "count", "nonzero"), [(2, 12, 254), (5, 40, 1805), (20, 60, 9920)])
def test_width_depth_and_parameters_are_the_theorems(d: int, count: int, nonzero: int) -> None:
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.random((count, d))), torch.arange(count) % 3
    memorizer = optimal(x, y, radius=0.4 * optimal(x, y).separation.value)
    layers = list(memorizer.network().layers())
    assert (memorizer.width, memorizer.depth, memorizer.num_parameters) == (3 * d + 1, 2 * count + 1, nonzero)
    assert (max(len(layer.bias) for layer in layers), len(layers)) == (memorizer.width, memorizer.depth)
    zeros = int((x[1:] == x.amin(0)).sum())  # the layout holds the biases x_kj - min x_j
    weights = sum(int((layer.weight.to_dense() != 0).sum()) for layer in layers)
    biases = sum(int((layer.bias != 0).sum()) for layer in layers)
    assert weights + biases == nonzero - zeros
    assert sum(layer.bias.numel() * (layer.weight.shape[1] + 1) for layer in layers) == memorizer.num_dense
    largest = max(float(layer.weight.to_dense().abs().max()) for layer in layers)
    assert largest == pytest.approx(memorizer.largest_weight, rel=1e-12)


def test_the_lipschitz_constant_bounds_and_is_attained() -> None:
    x, y = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64), torch.tensor([0, 1])
    memorizer = optimal(x, y, radius=0.4)
    corner = x[1] + 0.4
    out = corner + 1e-3
    slope = float((memorizer.scores(corner[None]) - memorizer.scores(out[None]))[0]) / 1e-3
    assert slope == pytest.approx(memorizer.lipschitz, rel=1e-6)
    pairs = 2 * torch.rand(2, 2000, 2, dtype=torch.float64)
    rise = (memorizer.scores(pairs[0]) - memorizer.scores(pairs[1])).abs()
    assert bool((rise <= memorizer.lipschitz * (pairs[0] - pairs[1]).abs().amax(1) + 1e-9).all())


def test_far_from_all_points_there_is_no_answer_which_is_not_class_zero() -> None:
    x, y = points("floats")
    memorizer = optimal(x, y)
    far = torch.full((3, 9), 40.0, dtype=torch.float64)
    assert memorizer.predict(far).tolist() == [-1, -1, -1]
    assert memorizer.scores(far).tolist() == [0, 0, 0]


def test_onnx_gives_the_same_and_a_large_one_is_refused(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    x, y = points("bytes")
    memorizer = optimal(x, y)
    network = memorizer.network()
    network.to_onnx(tmp_path / "m.onnx", memorizer.shape)
    queries = torch.rand(50, 1, 3, 3, dtype=torch.float64)
    queries[:20] = units(x[:20])
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"x": queries.numpy()})[0]
    np.testing.assert_allclose(answer[:, 0], memorizer.scores(queries).numpy(), atol=1e-9)
    wide = optimal(torch.from_numpy(np.random.default_rng(0).random((40, 500))), torch.arange(40) % 2)
    with pytest.raises(StackelbergError, match="more than 16777216 numbers"):
        wide.network().to_onnx(tmp_path / "wide.onnx", (500,))
    assert isinstance(network, Layered)
    assert not (tmp_path / "wide.onnx").exists()


def test_what_cannot_be_memorized_is_refused_in_a_sentence() -> None:
    x, y = points("floats")
    found = optimal(x, y).separation.value
    bad = x.clone()
    bad[7, 2] = torch.nan
    with pytest.raises(StackelbergError, match="x: number 7 holds NaN or infinity"):
        optimal(bad, y)
    with pytest.raises(StackelbergError, match="class 0 alone"):
        optimal(x, torch.zeros_like(y))
    with pytest.raises(StackelbergError, match="needs at least two points, of two classes, got 1"):
        optimal(x[:1], y[:1])
    twin = torch.cat([x, x[5:6]])
    with pytest.raises(StackelbergError, match="points 5 and 60 are identical, with labels"):
        optimal(twin, torch.cat([y, (y[5:6] + 1) % 4]))
    with pytest.raises(StackelbergError, match=rf"separation bound lambda = {found:.6g}, attained by points"):
        optimal(x, y, radius=found / 2)
    with pytest.raises(StackelbergError, match=r"got -0.1; pass less"):
        optimal(x, y, radius=-0.1)
    with pytest.raises(StackelbergError, match=r"is too near to lambda / 2 = .* for float64"):
        optimal(x, y, radius=found / 2 * (1 - 1e-15))
    with pytest.raises(StackelbergError, match=r"is for linf, got norm 'l2'; use memorize.lipschitz"):
        optimal(x, y, "l2")
    with pytest.raises(StackelbergError, match="y needs one whole number per point"):
        optimal(x, y[:-1])
    with pytest.raises(StackelbergError, match="labels must be >= 0"):
        optimal(x, y - 1)
