"""PGD on a cloud that pays for what it moves: by the Chamfer or the Hausdorff distance to where it began."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.goal import PAYOFFS, goal_for
from stackelberg.attacks.hunt import Hunt
from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import Ball
from stackelberg.threat.clouds import chamfer, hausdorff

PRICES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"chamfer": chamfer, "hausdorff": hausdorff}


@dataclass(frozen=True)
class PricedPGD(Attack):
    """Ascent on payoff(f(x'), y) - weight * price(x', x), inside the ball: x' keeps near the surface of x.

    A cloud is a set, so a point that slides along the surface, to where another was, costs nothing; the ball alone
    would forbid it and allow noise that a viewer sees. An example rests at its first success: the price, which begins
    near 0, is then about as small as it gets (compare Xiang, Qi and Li 2019, who search the weight instead).

    Attributes:
        ball: the outer limit; with a low weight it binds, with a high one the price does.
        price: "chamfer" (squared units of the points) or "hausdorff" (units of the points).
        weight: of the price, in units of the payoff per unit of the price.
        steps: gradient steps.
        step: their length in the ball's norm; 2.5 * radius / steps when None.
        payoff: "ce", "cw" or "dlr".
    """

    ball: Ball
    price: str = "chamfer"
    weight: float = 100.0
    steps: int = 20
    step: float | None = None
    payoff: str = "cw"

    def __post_init__(self) -> None:
        if self.price not in PRICES:
            raise unknown("price", self.price, PRICES)
        if self.payoff not in PAYOFFS:
            raise unknown("payoff", self.payoff, PAYOFFS)
        if self.steps < 1 or not self.weight >= 0:
            raise StackelbergError(
                f"steps must be at least 1 and weight >= 0, got steps={self.steps}, weight={self.weight}"
            )

    @property
    def name(self) -> str:
        """For example pgd-20-chamfer."""
        return f"pgd-{self.steps}-{self.price}"

    def search(self, hunt: Hunt) -> None:
        """From a start a tenth of the ball away, since at x itself the price has no gradient."""
        goal, price = goal_for(self.payoff, hunt), PRICES[self.price]
        index = hunt.standing(self.within)
        if not len(index):
            return
        x = hunt.x[index]
        length = 2.5 * self.ball.radius / self.steps if self.step is None else self.step
        moved = self.ball.with_radius(self.ball.radius / 10).sample(x, hunt.keys[index])
        for _ in range(self.steps):
            gradient, _ = hunt.ask(index, moved, goal)
            gradient = gradient - self.weight * slope(price, moved, x)
            left = ~hunt.broken[index]
            index, x, moved, gradient = index[left], x[left], moved[left], gradient[left]
            if not len(index):
                return
            moved = self.ball.project(moved + length * self.ball.ascent(gradient, moved), x)
        hunt.look(index, moved)


def slope(
    price: Callable[[Tensor, Tensor], Tensor], moved: Float[Tensor, "B P 3"], x: Float[Tensor, "B P 3"]
) -> Float[Tensor, "B P 3"]:
    """The gradient of each cloud's price in its moved points."""
    with torch.enable_grad():
        point = moved.detach().requires_grad_(True)
        return torch.autograd.grad(price(point, x).sum(), point)[0]
