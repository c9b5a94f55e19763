"""Point dropping: the points that matter most vanish (Zheng, Chen, Yuan, Li and Ren 2019, saliency maps)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.attacks.cloud_attack import CloudAttack, gradient_and_margin
from stackelberg.attacks.oracle import Oracle
from stackelberg.errors import StackelbergError


def saliency(
    gradient: Float[Tensor, "B P 3"], points: Float[Tensor, "B P 3"], power: float = 1.0
) -> Float[Tensor, "B P"]:
    """s_i = -(dL / dr_i) r_i^(1 + power), how much the loss grows when a point slides to the cloud's centre.

    r_i is the distance to the centre, the median of each coordinate; dL/dr_i = <grad_i, x_i - centre> / r_i. A point at
    the centre adds nothing to the shape, so sliding it there stands for its loss, and unlike a loss can be
    differentiated (Zheng et al. 2019, eq. 5).
    """
    outward = points - points.median(dim=1, keepdim=True).values
    r = outward.norm(dim=2)
    return -(gradient * outward).sum(2) * r.clamp(min=1e-12) ** power


_MIX = (1.0, 0.6180339887498949, 0.4142135623730951)
"""One number of a point, by which it is found again among the others: equal points have equal numbers."""


@dataclass(frozen=True)
class PointDrop(CloudAttack):
    """The `count` points of largest saliency are dropped, a few at a time, and the saliency is asked anew in between.

    Attributes:
        count: points that are dropped, of every cloud alike.
        rounds: in how many parts.
        power: alpha of the saliency.
    """

    count: int = 100
    rounds: int = 10
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1 or self.rounds < 1:
            raise StackelbergError(f"count and rounds must be at least 1, got count={self.count}, rounds={self.rounds}")

    def search(self, oracle: Oracle, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        if self.count >= x.shape[1]:
            raise StackelbergError(
                f"count must be below the {x.shape[1]} points of a cloud, got {self.count}; leave some points"
            )
        left = x
        rounds = min(self.rounds, self.count)
        for number in range(rounds):
            many = self.count * (number + 1) // rounds - self.count * number // rounds
            gradient, _ = gradient_and_margin(oracle, left, y)
            stay = saliency(gradient, left, self.power).topk(left.shape[1] - many, dim=1, largest=False).indices
            left = left.gather(1, stay.sort(1).values[:, :, None].expand(-1, -1, 3))
        return left

    def allowed(self, moved: Tensor, x: Tensor) -> Tensor:
        """Whether `count` points are gone and the rest are some of x, in their order."""
        if moved.shape[1] != x.shape[1] - self.count:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        own, known = (z.double() @ z.new_tensor(_MIX, dtype=torch.float64) for z in (moved, x))
        known = known.sort(1).values
        at = torch.searchsorted(known, own).clamp(max=x.shape[1] - 1)
        return (known.gather(1, at) == own).all(1)

    def idle(self, x: Tensor) -> Tensor:
        return x[:, : x.shape[1] - self.count]


def dropped_at_random(x: Float[Tensor, "B P 3"], count: int, seed: int = 0) -> Float[Tensor, "B Q 3"]:
    """The same number of points dropped without looking: what the attack must beat."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(x.shape[:2], generator=generator).to(x.device).argsort(1)[:, count:].sort(1).values
    return x.gather(1, order[:, :, None].expand(-1, -1, 3))
