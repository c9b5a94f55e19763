"""The game of an auto-encoder: its images move inside a ball, and it must reconstruct what they were before."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.games.adversarial import climb
from stackelberg.games.game import Game, Inputs, Labels, Payoffs, Play
from stackelberg.models.vae import VAE, divergence
from stackelberg.threat import Ball, chance


@dataclass(frozen=True)
class Reconstruction(Game):
    """min over a VAE of E max over x' in the ball of L(x', x), L(x', x) = E_q(z|x') -log p(x|z) + KL(q(z|x') || p(z)).

    Without a ball this is the training of a VAE, the negative evidence lower bound (Kingma and Welling 2014, eq. 3,
    one draw of z). With one, the encoder sees x' and the decoder must give back x: the follower moves against the loss
    with z at the posterior's mean, the leader pays with a drawn z. Labels are not used. The wrappers of other games
    that weigh examples wrap this one, too.

    Attributes:
        ball: what the follower may do; None if nobody moves.
        steps: of the follower's ascent from a uniform start.
        step: its length, input units; 2.5 * radius / steps when None.
    """

    ball: Ball | None = None
    steps: int = 3
    step: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise StackelbergError(f"steps must be at least 1, got {self.steps}; the usual value is 3")

    @property
    def reads_weights(self) -> bool:
        return True

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        if self.ball is None:
            return x
        vae = cast(VAE, play.oracle.model)
        start = play.ball(self.ball).sample(x, play.keys_for(x))
        return climb(play, x, start, lambda out: vae.loss(vae.seen(out), x), self.ball, self.steps, self.step)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self._pay(cast(VAE, model), x, moved, chance.example_keys(x, 0))

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self._pay(cast(VAE, model), x, moved, chance.fold(play.keys_for(x), 3))

    def _pay(self, vae: VAE, x: Tensor, moved: Tensor, keys: Tensor) -> Payoffs:
        mean, log_variance = vae.encode(moved)
        z = mean + (log_variance / 2).exp() * chance.normal(keys, (vae.latent,))
        return vae.distortion(vae.decode(z), x) + divergence(mean, log_variance)
