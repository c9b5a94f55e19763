"""Projected gradient ascent: the follower of every training game, and the attack everybody reports."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.goal import PAYOFFS, goal_for
from stackelberg.attacks.hunt import Goal, Hunt
from stackelberg.attacks.oracle import Objective, Oracle
from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import Ball, chance


def ascend(
    oracle: Oracle,
    x: Float[Tensor, " B *shape"],
    start: Float[Tensor, " B *shape"],
    objective: Objective,
    ball: Ball,
    steps: int,
    step: float,
) -> Float[Tensor, " B *shape"]:
    """`steps` times x' <- project(x' + step * steepest ascent of `objective`), the last iterate (Madry et al. 2018)."""
    moved = start
    coordinates = sparse_coordinates(ball, x)
    for _ in range(steps):
        gradient, _, _ = oracle.gradient(moved, objective)
        moved = ball.project(moved + step * ball.ascent(gradient, moved, coordinates), x)
    return moved


def sparse_coordinates(ball: Ball, x: Tensor) -> int:
    """Over how many coordinates an l1 or l0 step is spread: 5 % of the input, at most the l0 budget."""
    size = x[0].numel()
    return max(1, int(ball.radius)) if ball.norm == "l0" else max(1, size // 20)


@dataclass(frozen=True)
class PGD(Attack):
    """PGD with random starts; of all iterates of all restarts the one with the largest margin is returned.

    Attributes:
        steps: gradient steps per restart.
        step: step length in input units (of the ball's norm); 2.5 * radius / steps when None.
        restarts: independent random starts.
        payoff: "ce", "cw" or "dlr".
        start: "random" (uniform in the ball) or "clean".

    >>> import torch
    >>> net = torch.nn.Flatten()  # two pixels are the two logits
    >>> x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])
    >>> PGD(Ball("linf", 0.25), steps=5)(net, x, y).flatten().tolist()
    [0.5, 0.5]
    """

    ball: Ball
    steps: int = 10
    step: float | None = None
    restarts: int = 1
    payoff: str = "ce"
    start: Literal["random", "clean"] = "random"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise StackelbergError(
                f"steps and restarts must be at least 1, got steps={self.steps}, restarts={self.restarts}"
            )
        if self.payoff not in PAYOFFS:
            raise unknown("payoff", self.payoff, PAYOFFS)

    @property
    def name(self) -> str:
        """For example pgd-20 or pgd-20x5-cw."""
        times = f"x{self.restarts}" if self.restarts > 1 else ""
        return f"pgd-{self.steps}{times}" + ("" if self.payoff == "ce" else f"-{self.payoff}")

    def search(self, hunt: Hunt) -> None:
        goal = goal_for(self.payoff, hunt)
        for restart in range(self.restarts):
            index = hunt.standing(self.within)
            if not len(index):
                return
            x = hunt.x[index]
            self._ascend(
                hunt,
                index,
                x if self.start == "clean" else self.ball.sample(x, chance.fold(hunt.keys[index], restart)),
                goal,
            )

    def _ascend(self, hunt: Hunt, index: Tensor, moved: Tensor, goal: Goal) -> None:
        """One restart: `steps` gradients, then a last look; examples that fall on the way drop out."""
        length = 2.5 * self.ball.radius / self.steps if self.step is None else self.step
        if self.ball.norm == "l0":
            length = self.ball.high - self.ball.low
        x, coordinates = hunt.x[index], sparse_coordinates(self.ball, hunt.x)
        for _ in range(self.steps):
            gradient, _ = hunt.ask(index, moved, goal)
            left = ~hunt.broken[index]
            if not left.all():
                index, x, moved, gradient = index[left], x[left], moved[left], gradient[left]
            if not len(index):
                return
            moved = self.ball.project(moved + length * self.ball.ascent(gradient, moved, coordinates), x)
        hunt.look(index, moved)


@dataclass(frozen=True)
class FGSM(Attack):
    """The fast gradient sign method (Goodfellow, Shlens and Szegedy 2015, eq. 1): x' = x + radius * sign(grad loss).

    In other norms the unit step of steepest ascent of that norm takes the place of the sign.
    """

    ball: Ball
    payoff: str = "ce"

    def search(self, hunt: Hunt) -> None:
        index = hunt.standing(self.within)
        if len(index):
            x = hunt.x[index]
            gradient, _ = hunt.ask(index, x, goal_for(self.payoff, hunt))
            length = self.ball.high - self.ball.low if self.ball.norm == "l0" else self.ball.radius
            step = length * self.ball.ascent(gradient, x, sparse_coordinates(self.ball, x))
            hunt.look(index, self.ball.project(x + step, x))


def bim(ball: Ball, steps: int = 10, step: float | None = None, payoff: str = "ce", seed: int = 0) -> PGD:
    """The basic iterative method (Kurakin, Goodfellow and Bengio 2017): PGD from the clean input.

    The step is 1.25 radii / steps when None, as published: 1.25 times as many unit steps as the radius has.
    """
    return PGD(
        ball, steps, 1.25 * ball.radius / steps if step is None else step, payoff=payoff, start="clean", seed=seed
    )
