"""A network of distances moves no faster than its input: tried, and attained."""

import math
from typing import cast

import pytest
import torch

from stackelberg import models
from stackelberg.attacks import Oracle
from stackelberg.models.distance_net import DistanceLayer, DistanceNet, relax


def net(width=24, seed=0) -> DistanceNet:
    torch.manual_seed(seed)
    built = cast(DistanceNet, models.build("distance-net", 4, (1, 5, 5), width=width, seed=seed).eval())
    for layer in built.modules():
        if isinstance(layer, DistanceLayer):
            layer.weight.data = torch.randn_like(layer.weight)
            if layer.mean is not None:
                layer.mean.copy_(torch.randn_like(layer.mean))
    return built


@pytest.mark.parametrize("p", [8.0, 64.0, math.inf])
@pytest.mark.parametrize("seed", range(3))
def test_no_logit_moves_faster_than_declared(p, seed):
    model = net(seed=seed).double()
    relax(model, p)
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(400, 1, 5, 5, generator=generator, dtype=torch.float64)
    step = (torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.5).sign() * 0.1
    moved = (model(x + step) - model(x)).abs().amax(1).detach() / 0.1
    assert float(moved.max()) <= model.steepness * (1 + 1e-12)
    assert p != math.inf or model.steepness == 1


def test_the_bound_is_attained_along_the_gradient():
    """At p = inf the gradient is one coordinate's sign, so a small step along its sign moves a logit as far."""
    model = net().double()
    x = torch.rand(50, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (slope,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    moved = model(x + 1e-6 * slope.sign())[:, 0] - model(x)[:, 0]
    assert float(moved.detach().median()) == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.parametrize("p", [8.0, math.inf])
def test_rounding_covers_what_float32_loses(p):
    model = net()
    relax(model, p)
    x = torch.rand(300, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    single = model(x)
    promised = model.rounding(1.0)
    off = float((single.double() - model.double()(x.double())).abs().max().detach())
    assert 0 < off <= promised < 1e-3


def test_training_takes_the_mean_off_and_evaluation_its_average():
    layer = DistanceLayer(6, 3)
    x = torch.rand(50, 6)
    assert torch.allclose(layer(x).mean(0), torch.zeros(3), atol=1e-6)
    for _ in range(200):
        layer(x)
    assert torch.allclose(layer.eval()(x).mean(0), torch.zeros(3), atol=1e-4)


def test_fresh_neurons_of_a_wide_layer_pass_coordinates_on():
    torch.manual_seed(0)
    layer = DistanceLayer(6, 9).eval()
    x = torch.rand(20, 6)
    assert torch.allclose(layer(x), (x + 3.0)[:, torch.arange(9) % 6])


def test_attacks_find_nothing_to_mend():
    """The compiled loops look like no trip out of torch, and an attack's gradient is the network's own."""
    model = net(width=30)
    x = torch.rand(6, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    oracle = Oracle(model)
    slope, _, _ = oracle.gradient(x, lambda logits: logits[:, 0])
    assert not oracle.mends
    start = x.clone().requires_grad_()
    assert torch.equal(slope, torch.autograd.grad(model(start)[:, 0].sum(), start)[0])
