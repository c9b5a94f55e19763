"""The game for networks of which one knows how fast they can move: the follower is the Lipschitz constant itself."""

import math
from dataclasses import dataclass

from jaxtyping import Bool
from lightning_fabric.wrappers import is_wrapped
from torch import Tensor, nn

from stackelberg.certify import steepness
from stackelberg.certify.steepness import Steep
from stackelberg.errors import StackelbergError
from stackelberg.games.game import Game, Inputs, Labels, Payoffs, Play
from stackelberg.models.distance_net import relax
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy, margin


@dataclass(frozen=True)
class LipschitzMargin(Game):
    """clip(1 - m / (2 theta eps), 0, 1) + mix CE(z / (0.6 eps)), m = z_y - max_{k != y} z_k (Zhang et al. 2022, eq. 6).

    Of a network whose logits move at most as far as the input, a margin of 2 eps proves the label in the ball; the
    first term asks for theta times as much, gives up on examples with m < 0, and so counts who is not certified. The
    second keeps those in play; its weight falls, as does the smoothing of the distances: while the share s of
    the radius in force grows from 0 to 1 (`Recipe.radius_warmup`), p = 8 (128 / 8)^s, rounded to a power of two,
    and mix = first (last / first)^s. At s = 1 p is infinite. (The paper goes on to p = 1000 before.)

    Attributes:
        ball: linf.
        theta: how much more than the certificate needs is asked for; 1.5 in the paper for MNIST.
        first: mix at the start; 0.05 in the paper.
        last: mix at the end; 0.0002 in the paper.
    """

    ball: Ball
    theta: float = 1.5
    first: float = 0.05
    last: float = 2e-4

    def __post_init__(self) -> None:
        if self.ball.norm != "linf":
            raise StackelbergError(f"LipschitzMargin plays in linf, got {self.ball.norm!r}; pass Ball('linf', ...)")
        if self.ball.radius <= 0:
            raise StackelbergError("LipschitzMargin needs a radius > 0 to ask a margin of, got 0; pass 0.3 for MNIST")
        if not (self.theta > 0 and self.first > 0 and self.last > 0):
            raise StackelbergError(f"theta, first and last must be > 0, got {self.theta}, {self.first} and {self.last}")

    @property
    def reads_weights(self) -> bool:
        return True

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        """Nobody moves: the bound stands in for every answer."""
        return x

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self._paid(model, x, y, self.last)

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        share = min(play.share, 1.0)
        relax(model, exponent(share))
        return self._paid(model, x, y, self.first * (self.last / self.first) ** share)

    def _paid(self, model: nn.Module, x: Tensor, y: Tensor, mix: float) -> Tensor:
        logits = model(x)
        ramp = (1 + margin(logits, y) / (2 * self.theta * self.ball.radius)).clamp(0, 1)
        return ramp + mix * cross_entropy(logits / (0.6 * self.ball.radius), y)

    def proved(self, model: nn.Module, x: Inputs, y: Labels) -> Bool[Tensor, " B"] | None:
        """By the margins of a network that declares its steepness; None for others, about which they say nothing."""
        bare: nn.Module = model.module if is_wrapped(model) else model  # pyright: ignore[reportAssignmentType]
        return steepness(bare, x, y, self.ball).certified if isinstance(bare, Steep) else None


def exponent(share: float) -> float:
    """p when this share of the radius is in force: 8, 16, 32, 64, 128 in turn, infinity at 1.

    >>> exponent(0.0), exponent(0.5), exponent(1.0)
    (8.0, 32.0, inf)
    """
    return math.inf if share >= 1 else 2.0 ** (3 + int(5 * share))
