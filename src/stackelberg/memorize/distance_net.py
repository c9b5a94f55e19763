"""How is a memorizer trained on?  As a network of distances (`models.DistanceNet`): its stored points are neurons.

The nearest stored point of every class, by three layers of neurons ||v - w||_inf. All coordinates lie in [0, 1], so the
first layer's y_j = ||x - x_j||_inf does, and with s = SPREAD, any |r| <= s and z = the second layer,

    z_o     = max_j |y_j - w_oj|,  w_oj = 2 + s for x_j of class o, else mean_j + r:
              = 2 + s - min over j of class o of y_j, as there |y_j - w_oj| >= 1 + s, and elsewhere it is at most that;
    logit_c = -(max_o |z_o - w_co| - 1 - s),  w_co = 3 + 2 s for o of class c, else mean_o + r:
              = -(3 + 2 s - z_c - 1 - s) = -min over j of class c of y_j,

the score f_c of `memorize.lipschitz`. Each layer takes its running mean off, so w - mean is what is stored. The r are
drawn, so that neurons of one class, which begin as one function, do not learn as one.
"""

import torch
from torch import Tensor

from stackelberg import models
from stackelberg.errors import StackelbergError
from stackelberg.memorize.lipschitz import LipschitzMemorizer
from stackelberg.memorize.memorizer import Memorizer, in_units
from stackelberg.models.distance_net import SPREAD, DistanceLayer, DistanceNet


def distance_net(memorizer: Memorizer, width: int | None = None, seed: int = 0) -> DistanceNet:
    """A network of distances with the memorizer's answers and certified radii, to be trained on by `LipschitzMargin`.

    For x in [0, 1]^d, not below the memorizer's floor, its logits are the memorizer's scores but for float32. They
    move at most as far as x, so its certificate (`certify.steepness`) is half the lead, as the memorizer's.

    >>> import torch
    >>> from stackelberg.memorize import lipschitz
    >>> x = torch.tensor([[[[0.0, 0.2]]], [[[1.0, 0.6]]]])  # two images [1, 1, 2]
    >>> memorizer = lipschitz(x, torch.tensor([0, 1]))
    >>> torch.allclose(distance_net(memorizer)(x).double(), memorizer.scores(x), atol=1e-6)
    True

    Args:
        memorizer: that of `memorize.lipschitz`, of images [C, H, W] in linf.
        width: neurons of the first two layers, at least as many as there are stored points and classes; the first
            layer repeats points where it is more. None is as many as needed.
        seed: of the r above, which change nothing until it is trained.

    Raises:
        StackelbergError: another kind or norm, points outside [0, 1], no images, or more points than neurons.
    """
    if not isinstance(memorizer, LipschitzMemorizer):
        raise StackelbergError(
            f"distances compute the scores of memorize.lipschitz, got a memorizer of the kind {memorizer.kind!r}"
        )
    points = torch.from_numpy(in_units(memorizer.points))
    classes, least = memorizer.classes, max(len(points), memorizer.classes)
    width = least if width is None else width
    if memorizer.norm != "linf":
        raise StackelbergError(f"a network of distances is for linf, the memorizer is of {memorizer.norm!r}")
    if len(memorizer.shape) != 3:
        raise StackelbergError(f"a network of distances takes images [C, H, W], got points {list(memorizer.shape)}")
    if not (float(points.min()) >= 0 and float(points.max()) <= 1):
        raise StackelbergError(
            f"stored points must lie in [0, 1], they reach from {float(points.min()):g} to {float(points.max()):g};"
            " scale them before they are memorized"
        )
    if width < least:
        raise StackelbergError(
            f"width must be at least {least} for {len(points)} stored points of {classes} classes, got {width};"
            " memorize fewer, for example those of memorize.medoids"
        )
    model = models.build("distance-net", classes, memorizer.shape, width, seed=seed)
    assert isinstance(model, DistanceNet)
    chance, place = torch.Generator().manual_seed(seed), torch.arange(width)
    kept, own = points[place % len(points)].float(), place % classes
    label = torch.from_numpy(memorizer.labels)[place % len(points)]
    first, second, last = (layer for layer in model.layers if isinstance(layer, DistanceLayer))
    with torch.no_grad():
        first.weight.copy_(kept)
        y, average = _averaged(first, kept)
        second.weight.copy_(_chosen(own[:, None] == label, 2 + SPREAD, average, chance))
        _, average = _averaged(second, y)
        last.weight.copy_(_chosen(torch.arange(classes)[:, None] == own, 3 + 2 * SPREAD, average, chance))
        assert last.bias is not None
        last.bias.fill_(-1 - SPREAD)
    return model.eval()


def _averaged(layer: DistanceLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """(the layer's answers, their mean before it was taken off), which becomes its running mean."""
    assert layer.mean is not None
    layer.mean.zero_()
    layer.mean.copy_(layer.eval()(x).mean(0))
    return layer(x), layer.mean


def _chosen(own: Tensor, far: float, average: Tensor, chance: torch.Generator) -> Tensor:
    """Weights [m, n]: `far` where a neuron listens, near the mean where it does not, less the mean."""
    r = SPREAD * (2 * torch.rand(own.shape, generator=chance) - 1)
    return torch.where(own, far - average, r)
