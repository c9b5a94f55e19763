"""What networks of clouds must keep: any order, any number of points, and the same numbers as the plain way."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackelberg import models
from stackelberg.attacks.mending import mended
from stackelberg.errors import StackelbergError
from stackelberg.models.dgcnn import SLOPE, EdgeConv
from stackelberg.models.point_norm import BranchedNorm, branches_of, normed_by, on_branch
from stackelberg.models.pointnet import Largest
from stackelberg.threat.clouds import gathered, neighbours

every_network = pytest.mark.parametrize("name", models.CLOUD_NAMES)


def small(name: str, **options: Any) -> nn.Module:
    return models.build(name, 5, (32, 3), width=4, seed=0, **options)


def some(count: int = 3, points: int = 32) -> Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(1)) / 3


@every_network
def test_the_order_of_points_does_not_matter(name: str) -> None:
    net, x = small(name).eval(), some()
    order = torch.randperm(32, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(net(x[:, order]), net(x), rtol=1e-5, atol=1e-6)


@every_network
def test_any_number_of_points_and_finite_gradients(name: str) -> None:
    net = small(name)
    for points in (20, 45):
        x = some(4, points).requires_grad_()
        logits = net(x)
        assert logits.shape == (4, 5)
        F.cross_entropy(logits, torch.arange(4)).backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 0
    models.check_output(net, some(4, 45), 5)


@every_network
def test_input_gradients_against_finite_differences(name: str) -> None:
    net, x = small(name).eval().double(), some(2).double()
    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(point)[:, 0].sum(), point)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    along = float((net(x + 1e-7 * direction) - net(x - 1e-7 * direction))[:, 0].detach().sum()) / 2e-7
    assert float((slope * direction).sum()) == pytest.approx(along, rel=1e-4)


@every_network
def test_no_gradient_is_hidden(name: str) -> None:
    net = small(name).eval().requires_grad_(False)
    mend = mended(net, some())
    assert mend is None or not mend.found


@every_network
def test_weights_survive_a_file_and_tell_the_network(name: str, tmp_path: Path) -> None:
    net = small(name).eval()
    models.save_weights(net, tmp_path / "net.safetensors")
    again = models.load(tmp_path / "net.safetensors")
    assert torch.equal(again(some()), net(some()))


def test_standard_sizes() -> None:
    """About the published 3.5 and 1.8 million parameters (PointNet and DGCNN, 40 classes)."""
    nets = {name: models.build(name, 40, (1024, 3)) for name in ("pointnet", "dgcnn")}
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}
    assert sizes["pointnet"] == pytest.approx(3.47e6, rel=0.01)
    assert sizes["dgcnn"] == pytest.approx(1.81e6, rel=0.01)


def signed(norm: nn.Module) -> None:
    """Slopes of both signs, so that some channels turn round."""
    with torch.no_grad():
        assert isinstance(norm, nn.BatchNorm1d)
        norm.weight.uniform_(-1, 1, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("training", [True, False])
def test_largest_is_linear_norm_relu_maximum(training: bool) -> None:
    torch.manual_seed(0)
    layer = Largest(5, 7, 1).double().train(training)
    signed(layer.norm)
    plain = nn.BatchNorm1d(7).double().train(training)
    plain.load_state_dict(layer.norm.state_dict())
    x = torch.randn(4, 9, 5, dtype=torch.float64, requires_grad=True)
    wanted = torch.relu(plain(layer.linear(x.flatten(0, 1)))).view(4, 9, 7).amax(1)
    found = layer(x)
    torch.testing.assert_close(found, wanted)
    weigh = torch.randn(4, 7, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((found * weigh).sum(), [x, layer.linear.weight]),
        torch.autograd.grad((wanted * weigh).sum(), [x, layer.linear.weight]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(layer.norm.state_dict()[name], value)


@pytest.mark.parametrize("training", [True, False])
def test_edge_convolution_is_edge_by_edge(training: bool) -> None:
    torch.manual_seed(0)
    layer = EdgeConv(3, 6, 4, 1).double().train(training)
    signed(layer.norm)
    plain = nn.BatchNorm1d(6).double().train(training)
    plain.load_state_dict(layer.norm.state_dict())
    x = torch.randn(2, 10, 3, dtype=torch.float64, requires_grad=True)
    near = gathered(x, neighbours(x, 4))
    edges = layer.neighbour(near - x[:, :, None]) + layer.centre(x)[:, :, None]
    wanted = F.leaky_relu(plain(edges.flatten(0, 2)).view(edges.shape), SLOPE).amax(2)
    found = layer(x)
    torch.testing.assert_close(found, wanted)
    weigh = torch.randn(found.shape, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((found * weigh).sum(), [x, layer.centre.weight]),
        torch.autograd.grad((wanted * weigh).sum(), [x, layer.centre.weight]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(layer.norm.state_dict()[name], value)


def test_each_branch_has_its_own_norms_and_evaluation_the_first() -> None:
    net = small("pointnet-3bn")
    assert branches_of(net) == 3
    assert branches_of(small("pointnet")) == 1
    before = {name: value.clone() for name, value in net.state_dict().items() if "running_mean" in name}
    with on_branch(net, 2):
        net(some(4))
    moved = {name for name, value in before.items() if not torch.equal(net.state_dict()[name], value)}
    assert moved == {name for name in before if ".norms.2." in name}
    assert all(norm.branch == 0 for norm in net.modules() if isinstance(norm, BranchedNorm))
    net.eval()
    clean = net(some())
    with on_branch(net, 2):
        assert not torch.allclose(net(some()), clean)
    assert torch.equal(net(some()), clean)


def test_a_branch_comes_back_after_an_error() -> None:
    net = small("pointnet-3bn")

    def fail() -> None:
        with on_branch(net, 1):
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert all(norm.branch == 0 for norm in net.modules() if isinstance(norm, BranchedNorm))


def test_known_statistics_are_batch_norm() -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(5))
    ours, theirs = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    found = normed_by(ours, rows[:3], rows.mean(0), rows.var(0, unbiased=False), 50)
    torch.testing.assert_close(found, theirs(rows)[:3])
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_clouds_and_images_do_not_mix() -> None:
    with pytest.raises(StackelbergError, match=r"pointnet takes clouds .* got examples of the shape \[3, 8, 8\]"):
        models.build("pointnet", 5, (3, 8, 8))
    with pytest.raises(StackelbergError, match=r"small-cnn takes images .* got examples of the shape \[32, 3\]"):
        models.build("small-cnn", 5, (32, 3))
    with pytest.raises(StackelbergError, match="mean and std are for images"):
        models.build("dgcnn", 5, (32, 3), mean=[0.0], std=[1.0])


def test_dropout_is_part_of_the_seed() -> None:
    """The same training twice gives the same weights, whatever was drawn in between."""
    from stackelberg.data import Dataset
    from stackelberg.games import Standard, solve

    data = Dataset(some(24).clamp(-1, 1), torch.arange(24) % 5, list("abcde"), "random")
    weights = []
    for _ in range(2):
        torch.rand(7)
        net = small("pointnet")
        solve(Standard(), net, data, 1, device="cpu", progress=False, batch_size=8, held_out=8)
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(*weights)
