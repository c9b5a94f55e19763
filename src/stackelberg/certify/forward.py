"""Which signs are sure at little cost?  Every value as an affine function of the input, give or take a remainder.

A value is c + sum_e s_e eps_e +- r, one eps in [-1, 1] for each input that moves: affine arithmetic without symbols
for what an activation adds (Stolfi and de Figueiredo 1997, section 3; "forward mode" in Xu et al. 2020). Affine maps
take c and s to W c + b and W s, and r to |W| r; an activation is put between two parallel lines. For a network wider
than its input this costs a fraction of one backward pass for each neuron, and leaves only the neurons to be bounded
whose sign it cannot tell.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stackelberg.certify.nodes import EXACT, Activation, Affine
from stackelberg.certify.region import Region
from stackelberg.certify.relaxation import lines

MOST = 1 << 23
"""Numbers of one node's slopes for one example; a network that needs more is bounded backward only."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """What a node computes lies within `rest` of centre + sum_e slopes_e eps_e.

    Attributes:
        centre: [B, *shape].
        slopes: [E, B, *shape].
        rest: [B, *shape].
    """

    centre: Tensor
    slopes: Tensor
    rest: Tensor

    def ends(self) -> tuple[Tensor, Tensor]:
        """(least, largest) value."""
        spread = self.slopes.abs().sum(0) + self.rest
        spread = spread + EXACT * (spread + self.centre.abs())
        return self.centre - spread, self.centre + spread


def begun(region: Region, widest: int) -> Sketch | None:
    """Of the inputs; None for a ball that is no box, or where the inputs are too many to gain by it."""
    radius = region.radius.flatten(1)
    moving = (radius > 0).any(0).nonzero()[:, 0]
    if region.origin is not None or 2 * len(moving) > widest or len(moving) * widest > MOST:
        return None
    slopes = torch.zeros(len(moving), *radius.shape, dtype=radius.dtype, device=radius.device)
    slopes[torch.arange(len(moving)), :, moving] = radius[:, moving].T
    return Sketch(region.centre, slopes.view(len(moving), *region.shape), torch.zeros_like(region.low))


def through_affine(node: Affine, parts: list[Sketch], error: Tensor) -> Sketch:
    """W a + b, where the network's own value is off by at most `error`."""
    centres = [part.centre for part in parts]
    slopes = node.linear([part.slopes.flatten(0, 1) for part in parts]).unflatten(0, parts[0].slopes.shape[:2])
    size = [part.centre.abs() + part.slopes.abs().sum(0) for part in parts]
    rest = node.magnitude([part.rest + EXACT * (part.rest + s) for part, s in zip(parts, size, strict=True)])
    return Sketch(node.apply(centres), slopes, rest + error + EXACT * node.size)


def through_activation(node: Activation, part: Sketch, low: Tensor, high: Tensor, error: Tensor) -> Sketch:
    """Between two lines of the same slope on [low, high]; a curve between its two ends."""
    if node.piecewise:  # convex and zero at zero: the chord's parallel through zero is below
        pair = lines(node, low, high)
        slope, half = pair.above, pair.roof / 2
        middle = half
    else:
        bottom, top = node.apply(low), node.apply(high)
        slope, middle, half = torch.zeros_like(low), (bottom + top) / 2, (top - bottom) / 2
    rest = slope.abs() * part.rest + half + error
    return Sketch(slope * part.centre + middle, part.slopes * slope, rest)


def together(region: Region, widest: int) -> int:
    """How many examples to a group, so that their sketches fit."""
    return max(1, 4 * MOST // max(1, widest * math.prod(region.shape[1:])))
