"""The wrapper around attacks whose budget is counted in points: it lends the model, checks, and believes nobody.

Such an attack may give back a cloud of another size, so no ball can hold it: the wrapper asks the attack's own
`allowed` about every cloud that comes out, and the user's own module about every success.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.attack import check_inputs, check_labels
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.errors import StackelbergError
from stackelberg.models import network
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import margin


@dataclass(frozen=True)
class Worst:
    """The worst clouds of a search so far, by the margin of the network's answers; all of one size.

    Attributes:
        clouds: [B, Q, 3].
        value: their margins [B].
    """

    clouds: Tensor
    value: Tensor

    def or_else(self, clouds: Tensor, value: Tensor) -> "Worst":
        """Cloud by cloud the worse of both."""
        more = value > self.value
        return Worst(torch.where(more[:, None, None], clouds, self.clouds), torch.where(more, value, self.value))


@dataclass(frozen=True, kw_only=True)
class CloudAttack(ABC):
    """`attack(model, x, y)` gives clouds [B, Q, 3] that `allowed` accepts; their order is that of x.

    Attributes:
        low: smallest valid coordinate.
        high: largest valid coordinate.
        seed: of the noise; together with a cloud's content it decides all of that cloud's random numbers.
    """

    low: float = -1.0
    high: float = 1.0
    seed: int = 0

    @abstractmethod
    def search(
        self, oracle: Oracle, x: Float[Tensor, "B P 3"], y: Int64[Tensor, " B"], keys: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B Q 3"]:
        """The attack itself."""

    @abstractmethod
    def allowed(self, moved: Float[Tensor, "B Q 3"], x: Float[Tensor, "B P 3"]) -> Bool[Tensor, " B"]:
        """Whether the adversary may hand in `moved` for x."""

    @abstractmethod
    def idle(self, x: Float[Tensor, "B P 3"]) -> Float[Tensor, "B Q 3"]:
        """What comes back where the search has found nothing that is allowed."""

    @final
    def __call__(
        self, model: nn.Module | Callable[..., Any], x: Float[Tensor, " B *shape"], y: Int64[Tensor, " N"]
    ) -> Float[Tensor, "B Q 3"]:
        """Attack `model` at clouds x with labels y.

        Raises:
            StackelbergError: x holds no clouds, or coordinates outside [low, high] or not finite, or labels outside
                the model's classes.
        """
        if x.dim() != 3 or x.shape[2] != 3:
            raise StackelbergError(
                f"{type(self).__name__} needs clouds [B, P, 3], got inputs of the shape {list(x.shape)}"
            )
        model = network(model, x)
        with untouched(model):
            check_inputs(x, Ball("linf", 0, self.low, self.high))
            oracle = Oracle(model, "float32")
            oracle.meet(x)
            check_labels(oracle, x, y)
            moved = self.search(oracle, x, y, chance.example_keys(x, self.seed)).detach()
        wrong = ~self.allowed(moved, x)
        return torch.where(wrong[:, None, None], self.idle(x), moved) if wrong.any() else moved


def gradient_and_margin(oracle: Oracle, clouds: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(gradient of the margin in the points, the margin)."""
    gradient, value, _ = oracle.gradient(clouds, lambda logits: margin(logits, y))
    return gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0), value.nan_to_num(nan=torch.inf)


def point_steps(gradient: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P 3"]:
    """Each point's gradient at length 1; a zero one stays zero."""
    return gradient / gradient.norm(dim=2, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)


def near(moved: Float[Tensor, "B P 3"], home: Float[Tensor, "B P 3"], radius: float) -> Float[Tensor, "B P 3"]:
    """Each point of `moved`, brought back to within `radius` of its home."""
    delta = moved - home
    length = delta.norm(dim=2, keepdim=True).clamp(min=torch.finfo(delta.dtype).tiny)
    return home + delta * (radius / length).clamp(max=1)
