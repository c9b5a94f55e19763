"""Point perturbation: every point moves, none farther than a radius (after Xiang, Qi and Li 2019; Liu et al. 2019)."""

from dataclasses import dataclass

from torch import Tensor

from stackelberg.attacks.cloud_attack import CloudAttack, Worst, gradient_and_margin, near, point_steps
from stackelberg.attacks.oracle import Oracle
from stackelberg.errors import StackelbergError
from stackelberg.threat import chance
from stackelberg.threat.payoff import margin


@dataclass(frozen=True)
class PointPerturb(CloudAttack):
    """max margin(f(x'), y) with |x'_i - x_i|_2 <= radius for every point i, by projected ascent point by point.

    The Euclidean radius is the same in all directions, so that a turned cloud has the turned adversary; a linf ball on
    coordinates has not.

    Attributes:
        radius: how far a point may go, in units of the points.
        steps: gradient steps, each of 2.5 * radius / steps a point.
    """

    radius: float = 0.05
    steps: int = 20

    def __post_init__(self) -> None:
        if not self.radius >= 0 or self.steps < 1:
            raise StackelbergError(
                f"radius must be >= 0 and steps at least 1, got radius={self.radius}, steps={self.steps}"
            )

    def search(self, oracle: Oracle, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        worst = Worst(x, margin(oracle.exact(x), y))
        noise = chance.normal(keys, tuple(x.shape[1:])).to(x)
        moved = self._back(x + self.radius / 2 * point_steps(noise), x)
        for _ in range(self.steps):
            gradient, value = gradient_and_margin(oracle, moved, y)
            worst = worst.or_else(moved, value)
            moved = self._back(moved + 2.5 * self.radius / self.steps * point_steps(gradient), x)
        return worst.or_else(moved, margin(oracle.exact(moved), y)).clouds

    def _back(self, moved: Tensor, x: Tensor) -> Tensor:
        return near(moved.clamp(self.low, self.high), x, self.radius)

    def allowed(self, moved: Tensor, x: Tensor) -> Tensor:
        inside = ((moved >= self.low) & (moved <= self.high)).flatten(1).all(1)
        return inside & ((moved - x).norm(dim=2) <= self.radius * (1 + 1e-5) + 1e-7).all(1)

    def idle(self, x: Tensor) -> Tensor:
        return x
