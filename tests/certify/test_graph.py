"""The graph is the network: the same values in float64, every map with its transpose and its absolute value."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg import models
from stackelberg.certify import Unsupported
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.nodes import Activation, Affine

SHAPE = (2, 6, 6)


class Everything(nn.Module):
    """Every operation with a rule, as modules, functions and methods."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 2, 1, 1), 0.4))
        self.conv = nn.Conv2d(2, 4, 3, padding="same")
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.pool = nn.Sequential(nn.AvgPool2d(2, 1), nn.Dropout(), nn.Identity(), nn.MaxPool2d(2, 1, 1))
        self.acts = nn.Sequential(nn.LeakyReLU(), nn.Sigmoid(), nn.Tanh(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.5))
        self.line = nn.Conv1d(4, 3, 3, stride=2, padding=1, dilation=2)
        self.head = nn.Linear(3 * 5 + 8, 3)

    def forward(self, x):
        x = self.norm(self.conv((x - self.mean) / 0.3))
        y = F.relu(x) + F.leaky_relu(-x, 0.2) + (1 - x.sigmoid()) - x.clamp(-0.1, 0.2)
        y = self.acts(y) * 2 + torch.maximum(x, y) + torch.abs(x)
        y = self.grouped(F.pad(y, (1, 0, 0, 1)))[:, :, :3]
        z = torch.cat([F.avg_pool2d(y, 2), F.max_pool2d(y, 3, 2, 1)[:, :, :1, :1]], 3)
        z = torch.cat([z.mean((2, 3)), F.adaptive_avg_pool2d(z, 1).flatten(1)], 1)
        t = self.line(self.pool(y).flatten(2).transpose(2, 1).transpose(1, 2))
        t = t.permute(0, 2, 1)[:, :6].reshape(y.size(0), -1)
        return self.head(torch.tanh(torch.cat([t, z.view(z.shape[0], -1).unsqueeze(1).squeeze(1)], 1)))


def seeded(make, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = make()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def points(count: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def affine_nodes(graph: Graph) -> list[Affine]:
    return [node for node in graph.nodes if isinstance(node, Affine)]


@pytest.mark.parametrize(
    "make",
    [
        Everything,
        lambda: models.Normalized(models.build("small-cnn", 4, SHAPE, width=4, seed=1), [0.3, 0.2], [0.2, 0.5]),
        lambda: models.build("resnet18", 4, SHAPE, width=4, seed=1),
        lambda: models.build("vgg16", 4, (2, 32, 32), width=4, seed=1),
    ],
    ids=["everything", "small-cnn", "resnet18", "vgg16"],
)
def test_the_graph_computes_what_the_network_computes(make) -> None:
    net = seeded(make)
    shape = (2, 32, 32) if "VGG" in type(net).__name__ else SHAPE
    x = points(5, shape)
    graph = graph_of(net, shape)
    with torch.no_grad():
        torch.testing.assert_close(graph.forward(x), net.double()(x.double()), atol=1e-6, rtol=1e-6)


def test_every_map_has_its_transpose_and_its_absolute_value() -> None:
    graph = graph_of(seeded(Everything), SHAPE)
    generator = torch.Generator().manual_seed(0)
    for node in affine_nodes(graph):
        for place, maps in zip(node.inputs, node.maps, strict=True):
            a = torch.randn(3, *graph.nodes[place].shape, generator=generator, dtype=torch.float64)
            b = torch.randn(3, *node.shape, generator=generator, dtype=torch.float64)
            forth = (maps.apply(a) * b).flatten(1).sum(1)
            back = (maps.transpose(b) * a).flatten(1).sum(1)
            torch.testing.assert_close(forth, back, atol=1e-10, rtol=1e-10)
            size = maps.size(a.abs())
            assert (maps.apply(a).abs() <= size + 1e-12).all()
            one = torch.zeros_like(a[:1])
            one.view(-1)[1] = 1.0
            assert torch.equal(maps.apply(one).abs(), maps.size(one))


def test_only_three_kinds_of_node_and_a_max_pool_is_made_of_them() -> None:
    graph = graph_of(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 2)), SHAPE)
    kinds = [node.kind for node in graph.nodes if isinstance(node, Activation)]
    assert kinds == ["relu", "relu"]


def test_the_network_comes_back_as_it_was_given_and_the_graph_keeps_copies() -> None:
    net = seeded(Everything).train()
    graph = graph_of(net, SHAPE)
    assert net.training
    x = points(2)
    before = graph.forward(x)
    with torch.no_grad():
        net.head.weight.zero_()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    assert torch.equal(graph.forward(x), before)


class _Of(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (F.gelu, "no rule for gelu"),
        (lambda x: x * x, "multiplies two activations"),
        (lambda x: x.mean(), "mean over the batch"),
        (lambda x: x.flatten(0), "batch dimension"),
        (lambda x: x + torch.ones(2, 2, 6, 6), "one example only"),
        (lambda x: F.leaky_relu(x, 2.0), "slope in"),
        (lambda x: F.dropout(x), "drops out always"),
        (lambda x: torch.ones(2, 3), "depend on the input"),
        (lambda x: x if x.sum() > 0 else -x, "torch.fx can trace"),
        (lambda x: x.relu_() + x, "in place"),
    ],
)
def test_an_operation_without_a_rule_is_named(function, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        graph_of(_Of(function), SHAPE)
