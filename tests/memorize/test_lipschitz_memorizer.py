"""The Lipschitz memorizer: weights of -1, 0 and 1, half the lead certified, and its network is its evaluator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.memorize.lipschitz import lipschitz

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}


def points(classes: int = 3, width: int = 7, count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(4)
    y = torch.from_numpy(rng.permutation(np.arange(count) % classes))
    return torch.from_numpy(rng.random((count, width))), y


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("classes", [2, 4])
def test_network_and_evaluator_are_one_function_of_the_stated_layout(classes: int, width: int) -> None:
    x, y = points(classes, width)
    memorizer = lipschitz(x, y)
    network = memorizer.network()
    queries = torch.cat([x, 3 * torch.rand(200, width, dtype=torch.float64) - 1])
    assert float((network(queries) - memorizer.scores(queries)).abs().max()) < 1e-12
    layers = list(network.layers())
    levels = int(np.ceil(np.log2(width)))
    assert len(layers) == memorizer.depth == len(x) * (levels + 2) + 1
    assert max(len(layer.bias) for layer in layers) == memorizer.width == 3 * width + classes
    entries = [set(layer.weight.to_dense().flatten().tolist()) for layer in layers]
    assert set().union(*entries) <= {-1.0, 0.0, 1.0}
    weights = sum(int((layer.weight.to_dense() != 0).sum()) for layer in layers)
    biases = sum(int((layer.bias != 0).sum()) for layer in layers)
    assert weights + biases == memorizer.num_parameters
    assert sum(layer.bias.numel() * (layer.weight.shape[1] + 1) for layer in layers) == memorizer.num_dense


@pytest.mark.parametrize("share", [0.25, 0.45, 0.499])
def test_one_network_is_right_for_all_radii_and_the_bound_is_attained(share: float) -> None:
    x, y = points(2)
    memorizer = lipschitz(x, y)
    bound = memorizer.separation.value
    moved = x[:, None] + (x[None] - x[:, None]).clamp(-share * bound, share * bound)
    pairs = y[:, None] != y[None]
    phi = memorizer.scores(moved[pairs]) @ torch.tensor([-1.0, 1], dtype=torch.float64) / bound
    right = (2 * y - 1)[:, None].expand(-1, len(y))[pairs] * phi
    assert float(right.min()) == pytest.approx(1 - 2 * share, abs=1e-9)


@pytest.mark.parametrize("norm", ORDER)
def test_half_the_lead_is_certified_and_cannot_be_more_for_the_closest_pair(norm: str) -> None:
    x, y = points(3)
    memorizer = lipschitz(x, y, norm)
    rng = np.random.default_rng(5)
    queries = rng.random((60, 7)) * 1.4 - 0.2
    label, radius, nearest = memorizer.certified(torch.from_numpy(queries))
    distance = np.stack([np.linalg.norm(x.numpy() - q, ORDER[norm], axis=1) for q in queries])
    assert torch.equal(y[nearest], label)
    if norm != "linf":  # in linf queries below the floor are read as the floor
        np.testing.assert_array_equal(distance.argmin(1), nearest.numpy())
    for _ in range(20):
        step = rng.standard_normal(queries.shape)
        step *= (radius.numpy() * (1 - 1e-9) / np.linalg.norm(step, ORDER[norm], axis=1))[:, None]
        assert torch.equal(memorizer.predict(torch.from_numpy(queries + step)), label)
    i, j = memorizer.separation.pair
    at_data = memorizer.certified(x)
    assert torch.equal(at_data.label, y)
    assert float(at_data.radius.min()) == pytest.approx(memorizer.radius, rel=1e-12)
    past = x[i] + (x[j] - x[i]) * (0.5 + 1e-6)
    assert int(memorizer.predict(past[None])[0]) != int(y[i])


def test_scores_change_by_no_more_than_the_query_moves() -> None:
    x, y = points(3)
    memorizer = lipschitz(x, y)
    a, b = 3 * torch.rand(2, 500, 7, dtype=torch.float64) - 1
    change = (memorizer.scores(a) - memorizer.scores(b)).abs().amax(1)
    apart = (a - b).abs().amax(1)
    assert bool((change <= memorizer.lipschitz * apart + 1e-12).all())
    assert float((change / apart).max()) > 0.3


def test_onnx_gives_the_same(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    x, y = points(3)
    memorizer = lipschitz(x, y)
    memorizer.network().to_onnx(tmp_path / "m.onnx", memorizer.shape)
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    queries = torch.rand(50, 7, dtype=torch.float64)
    np.testing.assert_allclose(
        session.run(None, {"x": queries.numpy()})[0], memorizer.scores(queries).numpy(), atol=1e-12
    )


def test_what_cannot_be_built_is_refused() -> None:
    x, y = points(3)
    with pytest.raises(StackelbergError, match="class 1 has no point"):
        lipschitz(x, torch.where(y == 1, 0, y))
    with pytest.raises(StackelbergError, match="the literal network is built for linf, got 'l2'"):
        lipschitz(x, y, "l2").network()
    with pytest.raises(StackelbergError, match="unknown norm 'l3'"):
        lipschitz(x, y, "l3")
    with pytest.raises(StackelbergError, match=r"x must have 7 coordinates, \[7\], got 6"):
        lipschitz(x, y).scores(x[:, :6])
