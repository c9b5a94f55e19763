"""The games in which each example moves inside a ball: none (standard), adversarial training, TRADES."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stackelberg.attacks import ascend
from stackelberg.attacks.oracle import Objective
from stackelberg.errors import StackelbergError, unknown
from stackelberg.games.game import Game, Inputs, Labels, Payoffs, Play
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import cross_entropy, kl, margin


@dataclass(frozen=True)
class Standard(Game):
    """Nobody answers: the leader pays the cross entropy at x itself."""

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        return x

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return cross_entropy(model(moved), y)


def climb(
    play: Play, x: Tensor, start: Tensor, objective: Objective, ball: Ball, steps: int, step: float | None
) -> Tensor:
    """The follower's ascent at the share of the radius in force; `step` defaults to 2.5 * radius / steps."""
    length = (2.5 / steps if step is None else step / max(ball.radius, 1e-12)) * ball.radius * play.share
    return ascend(play.oracle, x, start, objective, play.ball(ball), steps, length)


@dataclass(frozen=True)
class Adversarial(Game):
    """Adversarial training (Madry et al. 2018): each example moves in the ball to where the payoff is largest.

    phi(theta, A) = E Loss(C_theta(x + A(x)), y) (Gao, Liu and Yu 2022), the best response by projected ascent from a
    uniform start. With payoff "ce" the loss is cross entropy. With "cw" follower and leader play on the margin
    max_{k != y} z_k - z_y; the leader pays max(margin, -hinge) + hinge, since beyond it nothing is to be gained (with
    the raw margin the minimax network need not have the largest adversarial accuracy).

    Attributes:
        ball: what the follower may do.
        payoff: "ce" or "cw".
        steps: of the follower's ascent.
        step: its length, input units; 2.5 * radius / steps when None.
        parameter_box: E of the leader's strategy space [-E, E]^K; None for no bound.
        hinge: in logit units, for "cw" only.
    """

    ball: Ball
    payoff: str = "ce"
    steps: int = 10
    step: float | None = None
    parameter_box: float | None = None
    hinge: float = 1.0

    def __post_init__(self) -> None:
        if self.payoff not in ("ce", "cw"):
            raise unknown("payoff", self.payoff, ("ce", "cw"))
        _check_steps(self.steps)
        if self.parameter_box is not None and not self.parameter_box > 0:
            raise StackelbergError(f"parameter_box must be > 0, got {self.parameter_box}; pass None for no bound")

    @property
    def parameter_bound(self) -> float | None:
        return self.parameter_box

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        count = cross_entropy if self.payoff == "ce" else margin
        start = play.ball(self.ball).sample(x, play.keys_for(x))
        return climb(play, x, start, lambda logits: count(logits, y), self.ball, self.steps, self.step)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        logits = model(moved)
        if self.payoff == "ce":
            return cross_entropy(logits, y)
        return torch.relu(margin(logits, y) + self.hinge)


@dataclass(frozen=True)
class Trades(Game):
    """TRADES (Zhang et al. 2019, eq. 5): CE(f(x), y) + beta * max over the ball of KL(f(x) || f(x')).

    Attributes:
        ball: what the follower may do.
        beta: weight of the robust term (1/lambda of the paper), 6 there.
        steps: of the follower's ascent, from x plus 0.001 times standard normal noise.
        step: its length, input units; 2.5 * radius / steps when None.
    """

    ball: Ball
    beta: float = 6.0
    steps: int = 10
    step: float | None = None

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not self.beta >= 0:
            raise StackelbergError(f"beta must be >= 0, got {self.beta}; the paper's value is 6")

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        reference = play.oracle.logits(x)
        ball = play.ball(self.ball)
        start = ball.project(x + 1e-3 * chance.normal(play.keys_for(x), tuple(x.shape[1:])).to(x), x)
        return climb(play, x, start, lambda logits: kl(logits, reference), self.ball, self.steps, self.step)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        clean, answered = model(torch.cat([x, moved])).chunk(2)  # one forward: batch norm sees both, once
        return cross_entropy(clean, y) + self.beta * kl(answered, clean)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise StackelbergError(f"steps must be at least 1, got {steps}; the usual value is 10")
