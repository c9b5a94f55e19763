"""The game in which the data distribution moves, at a price per distance: Wasserstein DRO, trained as UDR."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.games.game import Game, Inputs, Labels, Payoffs, Play
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy


@dataclass(frozen=True)
class WassersteinDRO(Game):
    """inf_theta sup_{W_p(D_N, D') <= eps} E Loss, by its price form E sup_x' [Loss(x') - price * cost(x, x')].

    Published training (UDR; Bui et al. 2022, used by SR-WDRO, Liu et al. 2025): `steps` ascent steps of eps/4 from a
    uniform start; what exceeds eps is pulled back by the price, delta <- delta - price * (delta - eps * sign(delta))
    where |delta| > eps; the price starts at 1 and every 10 batches moves by -0.02 * (eps - mean |delta| per
    coordinate), and stays >= 0. A price of 1 or more pulls back to the ball exactly: there the game is adversarial
    training. linf and l2 (delta <- delta * (1 - price * excess / ||delta||), mean ||delta||).

    Attributes:
        ball: its radius is eps, the mean distance the distribution may move.
        steps: of the follower's ascent.
        step: its length, input units; radius / 4 when None.
        price: at the start, >= 0.
        price_rate: how fast it follows the mean distance.
        price_every: batches between two changes.
    """

    ball: Ball
    steps: int = 10
    step: float | None = None
    price: float = 1.0
    price_rate: float = 0.02
    price_every: int = 10

    def __post_init__(self) -> None:
        if self.ball.norm not in ("linf", "l2"):
            raise StackelbergError(
                f"WassersteinDRO moves in linf or l2, got norm {self.ball.norm!r}; pass Ball('linf', ...)"
            )
        if self.steps < 1 or self.price_every < 1:
            raise StackelbergError(f"steps and price_every must be at least 1, got {self.steps} and {self.price_every}")
        if not self.price >= 0:
            raise StackelbergError(f"price must be >= 0, got {self.price}; the paper starts at 1")

    def start(self) -> dict[str, float]:
        return {"price": self.price, "distance": 0.0, "batches": 0.0}

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        ball = play.ball(self.ball)
        step = (ball.radius / 4) if self.step is None else self.step * play.share
        price = min(play.state.get("price", self.price), 1.0)
        moved = ball.sample(x, play.keys_for(x))
        for _ in range(self.steps):
            gradient, _, _ = play.oracle.gradient(moved, lambda logits: cross_entropy(logits, y))
            delta = moved + step * ball.ascent(gradient, moved) - x
            moved = (x + _pull_back(delta, ball, price)).clamp(ball.low, ball.high)
        return moved

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return cross_entropy(model(moved), y)

    def after(self, play: Play, x: Tensor, moved: Tensor) -> None:
        """price <- max(0, price - rate * (eps - mean distance since the last change)), every `price_every` batches."""
        state = play.state
        delta = (moved - x).detach().flatten(1)
        distance = delta.abs().mean() if self.ball.norm == "linf" else delta.norm(dim=1).mean()
        state["distance"] += float(play.mean(distance))
        state["batches"] += 1
        if state["batches"] >= self.price_every:
            gap = play.ball(self.ball).radius - state["distance"] / state["batches"]
            state.update(price=max(0.0, state["price"] - self.price_rate * gap), distance=0.0, batches=0.0)


def _pull_back(delta: Tensor, ball: Ball, price: float) -> Tensor:
    """Take the share `price` (at most 1) of what exceeds the radius off delta."""
    if ball.norm == "linf":
        return delta - price * (delta - delta.clamp(-ball.radius, ball.radius))
    size = delta.flatten(1).norm(dim=1).view(-1, *[1] * (delta.dim() - 1)).clamp(min=1e-12)
    return delta * (1 - price * torch.relu(size - ball.radius) / size)
