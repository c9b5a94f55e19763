"""Turn, jitter, scale and drop points of clouds: a batch at a time, with randomness that belongs to keys."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from stackelberg.errors import StackelbergError
from stackelberg.threat import chance


@dataclass(frozen=True)
class AugmentPoints:
    """Each cloud turned about the vertical, scaled, jittered, and some of its points dropped; in this order.

    A cloud that would reach farther from the origin than it did is shrunk as a whole to its old reach, so that clouds
    in the unit ball stay in it: only the proportions change.

    Dropped points come back as copies of a point that stays, as PointNet++ trains: the shape does not change.

    Attributes:
        turn: the largest angle about the vertical, in degrees: uniform in [-turn, turn]; 180 for any.
        scale: the largest factor, >= 1: log-uniform in [1 / scale, scale], one for each axis.
        jitter: standard deviation of a normal move of each coordinate, in units of the points, cut at three of them.
        drop: the largest share of points dropped, in [0, 1): uniform in [0, drop].
        vertical: which axis points up; 2 (z) in ModelNet.
    """

    turn: float | int = 0.0
    scale: float | int = 1.25
    jitter: float | int = 0.01
    drop: float | int = 0.0
    vertical: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.turn <= 180:
            raise StackelbergError(f"turn must lie in 0..180 degrees, got {self.turn:g}; pass 180 for any angle")
        if not 1 <= self.scale < math.inf:
            raise StackelbergError(f"scale must be a factor >= 1, got {self.scale:g}; pass 1 for no scaling")
        if not 0 <= self.jitter < math.inf:
            raise StackelbergError(f"jitter must be >= 0 in units of the points, got {self.jitter:g}")
        if not 0 <= self.drop < 1:
            raise StackelbergError(f"drop must be a share in [0, 1), got {self.drop:g}; pass 0.5 for up to half")
        if self.vertical not in (0, 1, 2):
            raise StackelbergError(f"vertical must be the axis 0, 1 or 2, got {self.vertical}; in ModelNet z, 2, is up")

    def __call__(self, x: Float[Tensor, "B P 3"], keys: Int64[Tensor, " B"] | Generator) -> Float[Tensor, "B P 3"]:
        """The changed clouds, on x's device.

        Args:
            x: clouds around the origin.
            keys: one 64-bit number per cloud (see `threat.chance`), or a generator to draw them from.
        """
        if isinstance(keys, Generator):
            keys = torch.randint(-(2**63), 2**63 - 1, (len(x),), generator=keys, device=keys.device).to(x.device)
        reach = x.norm(dim=2).amax(1)
        if self.turn:
            x = turned(x, math.radians(self.turn) * (2 * chance.uniform(keys, (1,))[:, 0] - 1), self.vertical)
        if self.scale > 1:
            x = x * self.scale ** (2 * chance.uniform(keys, (1, 3), 1) - 1)
        if self.jitter:
            x = x + self.jitter * chance.normal(keys, tuple(x.shape[1:]), 2).clamp_(-3, 3)
        if self.scale > 1 or self.jitter:
            x = x * (reach / x.norm(dim=2).amax(1).clamp(min=1e-30)).clamp(max=1)[:, None, None]
        if self.drop:
            share = self.drop * chance.uniform(keys, (1,), 3)
            gone = chance.uniform(keys, (x.shape[1],), 4) < share
            first = (~gone).to(torch.uint8).argmax(1)
            x = torch.where(gone[:, :, None], x[torch.arange(len(x), device=x.device), first][:, None], x)
        return x


def turned(x: Float[Tensor, "B P 3"], angle: Float[Tensor, " B"], axis: int) -> Float[Tensor, "B P 3"]:
    """Each cloud turned by its angle, in radians, about one axis, counter-clockwise seen from its positive end."""
    a, b = [other for other in range(3) if other != axis]
    if axis == 1:
        a, b = b, a
    cos, sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    parts = [x[:, :, 0], x[:, :, 1], x[:, :, 2]]
    parts[a], parts[b] = cos * x[:, :, a] - sin * x[:, :, b], sin * x[:, :, a] + cos * x[:, :, b]
    return torch.stack(parts, 2)
