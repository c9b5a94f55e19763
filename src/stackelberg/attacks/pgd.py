"""Projected gradient ascent: the follower of every training game, and the attack everybody reports."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.oracle import Objective, Oracle
from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import Payoff, cross_entropy, dlr, margin

PAYOFFS: dict[str, Payoff] = {"ce": cross_entropy, "cw": margin, "dlr": dlr}


def ascend(
    oracle: Oracle,
    x: Float[Tensor, "B *shape"],
    start: Float[Tensor, "B *shape"],
    objective: Objective,
    ball: Ball,
    steps: int,
    step: float,
) -> Float[Tensor, "B *shape"]:
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


def objective_for(payoff: str, y: Tensor, target: Tensor | None) -> Objective:
    """What the adversary maximises: the payoff at the true label, or minus the payoff at the target label."""
    if payoff not in PAYOFFS:
        raise unknown("payoff", payoff, PAYOFFS)
    count = PAYOFFS[payoff]
    if target is None:
        return lambda logits: count(logits, y)
    return lambda logits: -count(logits, target)


@dataclass(frozen=True)
class PGD(Attack):
    """PGD with random starts; of all iterates of all restarts the one with the largest margin is returned.

    Attributes:
        steps: gradient steps per restart.
        step: step length in input units (of the ball's norm); 2.5 * radius / steps when None.
        restarts: independent random starts.
        payoff: "ce", "cw" or "dlr".
        start: "random" (uniform in the ball) or "clean".
    """

    ball: Ball
    steps: int = 10
    step: float | None = None
    restarts: int = 1
    payoff: str = "ce"
    start: Literal["random", "clean"] = "random"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise StackelbergError(f"steps and restarts must be at least 1, got steps={self.steps}, restarts={self.restarts}")
        if self.payoff not in PAYOFFS:
            raise unknown("payoff", self.payoff, PAYOFFS)

    @property
    def name(self) -> str:
        """For example pgd-20 or pgd-20x5-cw."""
        times = f"x{self.restarts}" if self.restarts > 1 else ""
        return f"pgd-{self.steps}{times}" + ("" if self.payoff == "ce" else f"-{self.payoff}")

    def propose(
        self,
        oracle: Oracle,
        x: Float[Tensor, "B *shape"],
        y: Int64[Tensor, " B"],
        keys: Int64[Tensor, " B"],
        target: Int64[Tensor, " B"] | None,
    ) -> Float[Tensor, "B *shape"]:
        objective = objective_for(self.payoff, y, target)
        success = objective_for("cw", y, target)
        best, best_value = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        for restart in range(self.restarts):
            moved = x if self.start == "clean" else self.ball.sample(x, chance.fold(keys, restart))
            for point, logits in self._iterates(oracle, x, moved, objective):
                value = success(logits)
                better = value > best_value
                best_value = torch.where(better, value, best_value)
                best[better] = point[better]
        return best

    def _iterates(self, oracle: Oracle, x: Tensor, moved: Tensor, objective: Objective):
        """Each iterate with its logits; the last one costs a forward pass only."""
        step = 2.5 * self.ball.radius / self.steps if self.step is None else self.step
        if self.ball.norm == "l0":
            step = self.ball.high - self.ball.low
        coordinates = sparse_coordinates(self.ball, x)
        for _ in range(self.steps):
            gradient, _, logits = oracle.gradient(moved, objective)
            yield moved, logits
            moved = self.ball.project(moved + step * self.ball.ascent(gradient, moved, coordinates), x)
        yield moved, oracle.logits(moved)


@dataclass(frozen=True)
class FGSM(Attack):
    """The fast gradient sign method (Goodfellow, Shlens and Szegedy 2015, eq. 1): x' = x + radius * sign(grad loss).

    In other norms the unit step of steepest ascent of that norm takes the place of the sign.
    """

    ball: Ball
    payoff: str = "ce"

    def propose(
        self,
        oracle: Oracle,
        x: Float[Tensor, "B *shape"],
        y: Int64[Tensor, " B"],
        keys: Int64[Tensor, " B"],
        target: Int64[Tensor, " B"] | None,
    ) -> Float[Tensor, "B *shape"]:
        objective = objective_for(self.payoff, y, target)
        gradient, _, _ = oracle.gradient(x, objective)
        step = self.ball.high - self.ball.low if self.ball.norm == "l0" else self.ball.radius
        return x + step * self.ball.ascent(gradient, x, sparse_coordinates(self.ball, x))
