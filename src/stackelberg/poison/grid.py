"""How does a moved image become bytes again without leaving its ball?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball

_SLACK = 1e-4
"""Of a grey level: what float32 may lose in radius * 255."""


@dataclass(frozen=True)
class Grid:
    """The images whose pixels are whole grey levels k / 255 and that lie in the ball around x, itself on the grid.

    linf: the nearest grid point, then at most floor(255 radius) levels from x. Other norms: every coordinate's move is
    cut towards 0 to whole levels, which shrinks every |delta_j| and so every norm. Both stay in [0, 1].

    Attributes:
        ball: with low 0 and high 1.

    Raises:
        StackelbergError: the ball's box is not [0, 1], or it holds no other grid point than x.
    """

    ball: Ball

    def __post_init__(self) -> None:
        ball = self.ball
        if (ball.low, ball.high) != (0, 1):
            raise StackelbergError(
                f"images of 8 bits lie in [0, 1], got a ball with low={ball.low:g}, high={ball.high:g}; leave both out"
            )
        least = 1 if ball.norm == "l0" else 1 / 255
        if ball.radius < least * (1 - 1e-6):
            raise StackelbergError(
                f"radius {ball.radius:g} allows no change: an image of 8 bits moves by at least"
                f" {'one pixel value' if ball.norm == 'l0' else '1/255'}; for 8 grey levels pass 8/255"
            )

    @property
    def levels(self) -> int:
        """By how many grey levels a pixel may move at most."""
        whole = int(self.ball.radius * 255 + _SLACK)
        return 255 if self.ball.norm == "l0" else min(255, whole)

    def places(self, moved: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The grey levels 0..255 of the grid point, no gradient; `moved` lies in the ball around x, up to rounding."""
        with torch.no_grad():
            centre = (x * 255).round()
            if self.ball.norm == "linf":
                wanted = (moved * 255).round()
                return wanted.clamp(centre - self.levels, centre + self.levels).clamp(0, 255)
            return (centre + ((moved - x) * 255 * (1 + 1e-6)).trunc()).clamp(0, 255)

    def straight(self, moved: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The grid point's value with the gradient of `moved` (the straight-through estimator)."""
        return moved + (self.places(moved, x) / 255 - moved).detach()

    def bytes(self, moved: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"]) -> UInt8[Tensor, "B C H W"]:
        """The grid point as it is stored."""
        return self.places(moved, x).to(torch.uint8)
