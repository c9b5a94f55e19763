"""A network of distances: its answer moves no faster than its input in linf, so half a margin is a certificate.

Zhang, Cai, Lu, He and Wang 2021, Towards certifying linf robustness using neural networks with linf-dist neurons; the
training of Zhang, Jiang, He and Wang 2022, Boosting the certified robustness of linf distance nets, is
`games.LipschitzMargin`.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, fx, nn

from stackelberg.models.distances import distances
from stackelberg.models.shapes import Images, Inputs, Logits, Shape

SPREAD = 0.3  # of fresh weights: about the standard deviation of an image's pixels
IDENTITY = 10 * SPREAD  # a fresh neuron o of a wide layer stores -IDENTITY at one coordinate i, so it passes on x_i
MOMENTUM = 0.1  # of the running means


@fx.wrap
def _distances(x: Tensor, points: Tensor, reciprocal: Tensor) -> Tensor:
    """With p = 1 / reciprocal; one operation to torch.fx."""
    rate = float(reciprocal)
    return distances(x, points, math.inf if rate == 0 else 2.0 * round(0.5 / rate))


class DistanceLayer(nn.Module):
    """y_o = ||x - w_o||_p - mean_o, or + bias_o in the last layer.

    In linf each y_o moves at most n^(1/p) times as far as x, once as far for p = inf: the triangle inequality, and
    ||u||_p <= n^(1/p) ||u||_inf. The mean over the batch (in evaluation its running average) is taken off, without a
    scale: a constant, which moves nothing.

    Attributes:
        weight: the stored points w [m, n].
        bias: [m], or None.
        mean: [m], running average of the norms, or None.
        reciprocal: 1 / p; 0 for p = inf, which is where a trained network ends.
    """

    mean: Tensor | None
    reciprocal: Tensor

    def __init__(self, n: int, m: int, last: bool = False) -> None:
        super().__init__()
        weight = torch.randn(m, n) * SPREAD
        if n <= m:
            weight[torch.arange(m), torch.arange(m) % n] = -IDENTITY
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(m)) if last else None
        self.register_buffer("mean", None if last else torch.zeros(m))
        self.register_buffer("reciprocal", torch.zeros(()))

    def forward(self, x: Inputs) -> Inputs:
        norm = _distances(x, self.weight, self.reciprocal)
        if self.bias is not None:
            return norm + self.bias
        assert self.mean is not None
        if not self.training:
            return norm - self.mean
        mean = norm.mean(0)
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
        return norm - mean

    @property
    def steepness(self) -> float:
        """n^(1/p)."""
        return self.weight.shape[1] ** float(self.reciprocal)

    def reached(self, size: float, error: float) -> tuple[float, float]:
        """(a bound of |y|, a bound of its rounding error) from such bounds of the input, in evaluation mode."""
        unit = torch.finfo(self.weight.dtype).eps
        apart = size + float(self.weight.detach().abs().max())
        norm = apart * self.steepness
        shift = self.bias if self.mean is None else self.mean
        assert shift is not None
        largest = norm + float(shift.detach().abs().max())
        n, rate = self.weight.shape[1], float(self.reciprocal)
        terms = 1 if rate == 0 else n + 2 / rate
        return largest, self.steepness * (error + unit * apart) + unit * (terms * norm + largest)


class DistanceNet(nn.Module):
    """Flatten, a layer of w distances, a layer of w distances, K distances; logits are minus the distances.

    Each logit moves at most as far as the input in linf (p = inf), so a margin m between the best and the second is a
    certificate for the radius m / 2, free and without relaxation.

    Attributes:
        layers: the three layers.

    Args:
        classes: K.
        shape: (C, H, W) of an image, any size.
        width: w, 256 by default.
    """

    def __init__(self, classes: int, shape: Shape, width: int = 256) -> None:
        super().__init__()
        sizes = (math.prod(shape), width, width)
        layers = [DistanceLayer(n, m) for n, m in pairwise(sizes)]
        self.layers = nn.Sequential(*layers, DistanceLayer(width, classes, last=True))

    def forward(self, x: Images) -> Logits:
        return -self.layers(x.flatten(1))

    @property
    def steepness(self) -> float:
        """At most this times as far as the input in linf moves each logit: the product over the layers, 1 at p = inf.

        A hair is added for the rounding of this number itself.
        """
        product = math.prod(layer.steepness for layer in self._each())
        return product if product == 1 else product * (1 + 1e-9)

    def rounding(self, size: float) -> float:
        """How far a logit as computed may lie from the exact one, for inputs of absolute value at most `size`."""
        error = 0.0
        for layer in self._each():
            size, error = layer.reached(size, error)
        return error

    def _each(self) -> list[DistanceLayer]:
        return [layer for layer in self.layers if isinstance(layer, DistanceLayer)]


def relax(model: nn.Module, p: float) -> None:
    """Let every layer of distances in `model` use the norm p: an even number, or infinity."""
    for layer in model.modules():
        if isinstance(layer, DistanceLayer):
            layer.reciprocal.fill_(1 / p)
