"""The games whose follower is a bound: the leader pays for the worst that cannot be ruled out, so proofs come cheap."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from lightning_fabric.wrappers import is_wrapped
from torch import Tensor, nn

from stackelberg.attacks import ascend
from stackelberg.certify import interval, interval_gaps, linear_gaps
from stackelberg.errors import StackelbergError
from stackelberg.games.game import Game, Inputs, Labels, Payoffs, Play
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy


def worst_cross_entropy(gaps: Float[Tensor, "B K"], y: Labels) -> Payoffs:
    """ln sum_k exp(-gap_k), in nats: cross entropy where each z_y - z_k is as small as its bound (gap_y = 0)."""
    return F.cross_entropy(-gaps, y, reduction="none")


@dataclass(frozen=True)
class IntervalBound(Game):
    """Certified training by interval bounds (Gowal et al. 2018, eq. 13): kappa CE(z) + (1 - kappa) CE(worst logits).

    The worst logits are interval bounds of z_k - z_y over the ball, last layer elided. With `Recipe.radius_warmup` the
    radius rises from 0 and kappa falls from 1 to `kappa` in the same time. Batch normalisation counts with its running
    statistics.

    Attributes:
        ball: over which the bounds hold.
        kappa: weight of the clean cross entropy at the full radius, in [0, 1]; 0.5 in the paper, less proves more.
    """

    ball: Ball
    kappa: float = 0.0

    def __post_init__(self) -> None:
        _check_share("kappa", self.kappa)

    @property
    def reads_weights(self) -> bool:
        return True

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        """Nobody moves: the bound stands in for every answer."""
        return x

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self._paid(model, x, y, self.ball, 1.0)

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self._paid(model, x, y, play.ball(self.ball), min(play.share, 1.0))

    def _paid(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, share: float) -> Tensor:
        kappa = 1 - share * (1 - self.kappa)
        clean = cross_entropy(model(x), y)  # through the wrapped network: processes then share all gradients
        return kappa * clean + (1 - kappa) * worst_cross_entropy(self._gaps(bare(model), x, y, ball, share), y)

    def _gaps(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, share: float) -> Tensor:
        return interval_gaps(model, x, y, ball)

    def proved(self, model: nn.Module, x: Inputs, y: Labels) -> Bool[Tensor, " B"]:
        return interval(model, x, y, self.ball).certified


@dataclass(frozen=True)
class LinearBound(IntervalBound):
    """Certified training by CROWN-IBP (Zhang et al. 2020): the bound is beta CROWN + (1 - beta) intervals.

    CROWN's linear bounds of the last layer, with intervals inside, are tighter early in training and slower; beta falls
    from 1 to `beta` while the radius rises. With beta = 0 the training ends as interval bound training.

    Attributes:
        beta: weight of the linear bounds at the full radius, in [0, 1].
    """

    beta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("beta", self.beta)

    def _gaps(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, share: float) -> Tensor:
        beta = 1 - share * (1 - self.beta)
        gaps = super()._gaps(model, x, y, ball, share)
        return gaps if beta == 0 else beta * linear_gaps(model, x, y, ball) + (1 - beta) * gaps


@dataclass(frozen=True)
class SmallBoxes(Game):
    """Certified training by small boxes, SABR (Mueller, Eckert, Fischer and Vechev 2023): bounds round an attack only.

    The follower moves in the ball of radius (1 - share) * eps by projected ascent; round where it arrives the interval
    bounds of a box of radius share * eps are propagated, all of it inside the ball. The leader pays the cross entropy
    at the worst logits of that box. A share of 1 is interval bound training without its clean term; less gives a
    network that is more accurate and harder to prove, for `certify`'s linear bounds and branch and bound.

    Attributes:
        ball: linf.
        share: of the radius for the boxes, in [0, 1]; 0.4 for MNIST at 0.3 in the paper.
        steps: of the follower's ascent.
        l1: weight of the sum of |weights|, of all linear and convolution layers; 1e-5 in the paper for MNIST.
    """

    ball: Ball
    share: float = 0.4
    steps: int = 8
    l1: float = 0.0

    def __post_init__(self) -> None:
        _check_share("share", self.share)
        if self.ball.norm != "linf":
            raise StackelbergError(f"SmallBoxes plays in linf, got norm {self.ball.norm!r}; pass Ball('linf', ...)")
        if self.steps < 1 or not self.l1 >= 0:
            raise StackelbergError(f"steps must be at least 1 and l1 >= 0, got {self.steps} and {self.l1}")

    def _inner(self, ball: Ball) -> Ball:
        return ball.with_radius(ball.radius * (1 - self.share))

    @property
    def reads_weights(self) -> bool:
        return True

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        inner = self._inner(play.ball(self.ball))
        start = inner.sample(x, play.keys_for(x))
        length = 2.5 * inner.radius / self.steps
        return ascend(play.oracle, x, start, lambda logits: cross_entropy(logits, y), inner, self.steps, length)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self._paid(model, y, moved, self.ball, 0.0)

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self._paid(model, y, moved, play.ball(self.ball), 1 - min(play.share, 1.0))

    def _paid(self, model: nn.Module, y: Tensor, moved: Tensor, ball: Ball, kappa: float) -> Tensor:
        clean = cross_entropy(model(moved), y)
        box = interval_gaps(bare(model), moved, y, ball.with_radius(ball.radius * self.share))
        paid = kappa * clean + (1 - kappa) * worst_cross_entropy(box, y)
        return paid + self.l1 * _size(model) if self.l1 else paid

    def proved(self, model: nn.Module, x: Inputs, y: Labels) -> Bool[Tensor, " B"]:
        return interval(model, x, y, self.ball).certified


def bare(model: nn.Module) -> nn.Module:
    """The network itself, out of what processes and precision have put round it."""
    return model.module if is_wrapped(model) else model  # pyright: ignore[reportReturnType]


def _size(model: nn.Module) -> Tensor:
    return torch.stack([p.abs().sum() for p in model.parameters() if p.dim() > 1]).sum()


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise StackelbergError(f"{name} must lie in [0, 1], got {value}")
