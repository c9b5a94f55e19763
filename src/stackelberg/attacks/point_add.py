"""Point addition: the cloud stays as it is, and a few points join it (Xiang, Qi and Li 2019, section 4.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stackelberg.attacks.cloud_attack import CloudAttack, Worst, gradient_and_margin, near, point_steps
from stackelberg.attacks.oracle import Oracle
from stackelberg.errors import StackelbergError
from stackelberg.threat import chance
from stackelberg.threat.clouds import squared_to_nearest
from stackelberg.threat.payoff import margin


@dataclass(frozen=True)
class PointAdd(CloudAttack):
    """max margin(f(x with `count` more points), y), each new point within `radius` of where it was born.

    A new point is born at one to which the network listens most, of those with the longest gradients: elsewhere a
    max-pooling network hears nothing. It starts half a radius away in a random direction, as of two equal points such
    a network hears only one.

    Attributes:
        count: points that are added.
        radius: how far a new point may go from its birthplace on the cloud, in units of the points; so the one-sided
            Hausdorff distance to the clean cloud is at most the radius.
        steps: gradient steps, each of 2.5 * radius / steps a point.
    """

    count: int = 32
    radius: float = 0.2
    steps: int = 20

    def __post_init__(self) -> None:
        if self.count < 1 or not self.radius >= 0 or self.steps < 1:
            raise StackelbergError(
                f"count and steps must be at least 1 and radius >= 0, got count={self.count}, steps={self.steps},"
                f" radius={self.radius}"
            )

    def search(self, oracle: Oracle, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        gradient, _ = gradient_and_margin(oracle, x, y)
        born = gradient.norm(dim=2)
        places = born.topk(min(self.count, x.shape[1]), dim=1).indices
        home = x.gather(1, self._enough(places)[:, :, None].expand(-1, -1, 3))
        apart = self.radius / 2 * point_steps(chance.normal(keys, (self.count, 3)).to(x))
        new = (home + apart).clamp(self.low, self.high)
        worst = Worst(torch.cat([x, home], 1), torch.full_like(born[:, 0], -torch.inf))
        for _ in range(self.steps):
            whole = torch.cat([x, new], 1)
            gradient, value = gradient_and_margin(oracle, whole, y)
            worst = worst.or_else(whole, value)
            step = 2.5 * self.radius / self.steps * point_steps(gradient[:, x.shape[1] :])
            new = near((new + step).clamp(self.low, self.high), home, self.radius)
        whole = torch.cat([x, new], 1)
        return worst.or_else(whole, margin(oracle.exact(whole), y)).clouds

    def _enough(self, places: Tensor) -> Tensor:
        return places[:, torch.arange(self.count, device=places.device) % places.shape[1]]

    def allowed(self, moved: Tensor, x: Tensor) -> Tensor:
        same = (moved[:, : x.shape[1]] == x).flatten(1).all(1)
        new = moved[:, x.shape[1] :]
        inside = ((new >= self.low) & (new <= self.high)).flatten(1).all(1)
        apart = squared_to_nearest(new, x).sqrt() if len(x) else new[:, :, 0]
        return same & inside & (apart <= self.radius * (1 + 1e-5) + 1e-6).all(1)

    def idle(self, x: Tensor) -> Tensor:
        first = torch.arange(self.count, device=x.device) % x.shape[1]
        return torch.cat([x, x[:, first]], 1)
