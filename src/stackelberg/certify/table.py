"""Which operation follows which rule?  Modules, functions and methods as torch.fx names them."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackelberg.certify import rules
from stackelberg.certify.certificate import Unsupported
from stackelberg.certify.reading import REARRANGING, Rules
from stackelberg.certify.region import Region

Rule = Callable[..., Region]

# functions that never fall, and by how many roundings the network's own evaluation of them may err
_RISING = {
    nn.ReLU: 0, nn.ReLU6: 0, nn.Hardtanh: 0, nn.Sigmoid: 8, nn.Tanh: 8, nn.ELU: 8, nn.Softplus: 8,
    nn.MaxPool2d: 0, nn.AdaptiveMaxPool2d: 0,
}  # fmt: skip


def _rising(roundings: int) -> Callable[[nn.Module, Region], Region]:
    return lambda module, region: region.monotone(module, roundings)


def _rising_function(function: Callable[..., Tensor], roundings: int) -> Rule:
    def rule(region: Region, *args: Any, **options: Any) -> Region:
        return region.monotone(lambda a: function(a, *args, **options), roundings)

    return rule


def _leaky(region: Region, negative_slope: float = 0.01, inplace: bool = False) -> Region:
    if negative_slope < 0:
        raise Unsupported(f"interval bounds need a leaky ReLU that rises, this one has negative_slope={negative_slope}")
    return region.monotone(lambda a: F.leaky_relu(a, negative_slope), 3)


def _conv2d(layer: nn.Conv2d, region: Region) -> Region:
    if layer.padding_mode != "zeros":
        raise Unsupported(f"interval bounds know zero padding only, this Conv2d pads by {layer.padding_mode!r}")
    return rules.conv2d(region, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, region: Region) -> Region:
    return rules.batch_norm(region, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps)


def _average(module: nn.Module, region: Region) -> Region:
    """No window of a pooling layer is larger than the image."""
    return rules.average(region, module, math.prod(region.shape[2:]))


def _average_function(function: Callable[..., Tensor]) -> Rule:
    def rule(region: Region, *args: Any, **options: Any) -> Region:
        return rules.average(region, lambda a: function(a, *args, **options), math.prod(region.shape[2:]))

    return rule


def _batch_norm_function(
    region: Region,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Region:
    if training:
        raise Unsupported(
            "interval bounds need batch normalisation in eval mode, this one always normalises by its batch"
        )
    return rules.batch_norm(region, running_mean, running_var, weight, bias, eps)


def _dropout_function(region: Region, p: float = 0.5, training: bool = True, inplace: bool = False) -> Region:
    if training:
        raise Unsupported(
            "interval bounds need dropout in eval mode, this network drops out always; pass training=self.training"
        )
    return region


def _same(region: Region, *args: Any, **options: Any) -> Region:
    return region


def _same_module(module: nn.Module, region: Region) -> Region:
    return region


def _rearranged(function: Callable[..., Tensor]) -> Rule:
    return lambda region, *args, **options: region.map(lambda a: function(a, *args, **options))


_gelu = {"none": F.gelu, "tanh": lambda a: F.gelu(a, approximate="tanh")}
_GELU_LOWEST = {"none": -0.7517915246935645, "tanh": -0.7524614220710926}
_SILU_LOWEST = -1.2784645427610738


def _gelu_rule(region: Region, approximate: str = "none") -> Region:
    return rules.valley(region, _gelu[approximate], _GELU_LOWEST[approximate])


def _silu(region: Region, inplace: bool = False) -> Region:
    return rules.valley(region, F.silu, _SILU_LOWEST)


MODULES: dict[type[nn.Module], Callable[[Any, Region], Region]] = {
    nn.Linear: lambda layer, region: rules.linear(region, layer.weight, layer.bias),
    nn.Conv2d: _conv2d,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LeakyReLU: lambda layer, region: _leaky(region, layer.negative_slope),
    nn.GELU: lambda layer, region: _gelu_rule(region, layer.approximate),
    nn.SiLU: lambda layer, region: _silu(region),
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _average,
    nn.Flatten: lambda layer, region: region.map(layer),
    nn.Unflatten: lambda layer, region: region.map(layer),
    nn.Identity: _same_module,
    nn.Dropout: _same_module,
    nn.Dropout2d: _same_module,
} | {kind: _rising(roundings) for kind, roundings in _RISING.items()}

FUNCTIONS: dict[Any, Rule] = {
    operator.add: rules.add, torch.add: rules.add, operator.iadd: rules.add,
    operator.sub: rules.subtract, torch.sub: rules.subtract,
    operator.mul: rules.multiply, torch.mul: rules.multiply,
    operator.truediv: rules.divide, torch.div: rules.divide,
    operator.neg: rules.negate, torch.neg: rules.negate,
    torch.cat: rules.concatenate, torch.mean: rules.mean,
    F.linear: rules.linear, F.conv2d: rules.conv2d, torch.conv2d: rules.conv2d,
    F.batch_norm: _batch_norm_function, F.dropout: _dropout_function,
    F.leaky_relu: _leaky, F.gelu: _gelu_rule, F.silu: _silu,
    F.avg_pool2d: _average_function(F.avg_pool2d), F.adaptive_avg_pool2d: _average_function(F.adaptive_avg_pool2d),
    F.max_pool2d: _rising_function(F.max_pool2d, 0), torch.max_pool2d: _rising_function(torch.max_pool2d, 0),
    F.adaptive_max_pool2d: _rising_function(F.adaptive_max_pool2d, 0),
    F.relu: _rising_function(F.relu, 0), torch.relu: _rising_function(torch.relu, 0),
    F.relu6: _rising_function(F.relu6, 0),
    torch.sigmoid: _rising_function(torch.sigmoid, 8), torch.tanh: _rising_function(torch.tanh, 8),
    F.elu: _rising_function(F.elu, 8), F.softplus: _rising_function(F.softplus, 8),
    torch.clamp: _rising_function(torch.clamp, 0),
} | {getattr(torch, name): _rearranged(getattr(torch, name)) for name in REARRANGING}  # fmt: skip

METHODS: dict[str, Rule] = {
    "add": rules.add, "sub": rules.subtract, "mul": rules.multiply, "div": rules.divide, "neg": rules.negate,
    "mean": rules.mean, "relu": FUNCTIONS[torch.relu], "sigmoid": FUNCTIONS[torch.sigmoid],
    "tanh": FUNCTIONS[torch.tanh], "clamp": FUNCTIONS[torch.clamp], "contiguous": _same,
    "view": _rearranged(torch.Tensor.reshape),
} | {name: _rearranged(getattr(torch.Tensor, name)) for name in REARRANGING}  # fmt: skip

INTERVALS = Rules(
    Region, "interval bounds", MODULES, FUNCTIONS, METHODS, ("shape",),
    "about this network; use linear, convolution, batch norm, pooling, ReLU-like activations, sums and reshapes",
)  # fmt: skip
