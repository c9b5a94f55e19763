"""The one wrapper around every attack: it lends the model, checks the inputs, and believes nobody.

An attack proposes; the wrapper disposes: the proposal is projected into the ball and the box, asked of the user's own
module in float32, and where it does worse than what is already known it is dropped.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.oracle import Oracle, Precision, untouched
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import margin


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack inside a ball: `attack(model, x, y)` returns x' [B, *shape] in ball and box, float32.

    Attributes:
        seed: of the noise; together with an example's content it decides all of that example's random numbers.
        precision: of the gradients ("auto": bfloat16 where the hardware gains by it); successes are always float32.
    """

    ball: Ball
    seed: int = 0
    precision: Precision = "auto"

    @property
    def name(self) -> str:
        """How reports call it."""
        return type(self).__name__.lower()

    @abstractmethod
    def propose(
        self,
        oracle: Oracle,
        x: Float[Tensor, "B *shape"],
        y: Int64[Tensor, " B"],
        keys: Int64[Tensor, " B"],
        target: Int64[Tensor, " B"] | None,
    ) -> Float[Tensor, "B *shape"]:
        """The attack itself: candidates x' for the examples; `keys` seed each example's noise."""

    @final
    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "B *shape"],
        y: Int64[Tensor, " B"],
        target: Int64[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B *shape"]:
        """Attack `model` at inputs x in [low, high] with labels y; towards `target` labels if given.

        Raises:
            StackelbergError: inputs outside the box or not finite, labels outside the model's classes.
        """
        with untouched(model):
            check_inputs(x, self.ball)
            oracle = Oracle(model, self.precision)
            check_labels(oracle.exact(x[:1]), y, x)
            return self.verified(oracle, x, y, target)

    def verified(
        self,
        oracle: Oracle,
        x: Float[Tensor, "B *shape"],
        y: Int64[Tensor, " B"],
        target: Int64[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B *shape"]:
        """`propose`, then the wrapper's checks; for callers that hold an oracle and have checked the inputs."""
        keys = chance.example_keys(x, self.seed)
        moved = self.propose(oracle, x, y, keys, target).detach().float()
        moved = torch.where(torch.isfinite(moved), moved, x)
        return self.ball.project(moved, x)


def broken(oracle: Oracle, moved: Tensor, y: Tensor) -> Tensor:
    """Which examples the user's own module gets wrong, in float32 (bool [B]); logits that are NaN count as wrong."""
    return ~(margin(oracle.exact(moved), y) <= 0)


def check_inputs(x: Tensor, ball: Ball) -> None:
    """Refuse inputs that are not finite or lie outside [low, high]."""
    flat = x.flatten(1)
    finite = torch.isfinite(flat).all(1)
    if not finite.all():
        raise StackelbergError(f"input {int((~finite).nonzero()[0])} of the batch holds NaN or infinity; remove or repair it")
    low, high = float(flat.min()), float(flat.max())
    if low < ball.low or high > ball.high:
        raise StackelbergError(
            f"inputs must lie in [{ball.low:g}, {ball.high:g}], got [{low:g}, {high:g}]; put the normalisation into the"
            " model: attack Normalized(net, mean, std) on unnormalised inputs"
        )


def check_labels(logits: Tensor, y: Tensor, x: Tensor) -> None:
    """Refuse a model output that is not [B, K], and labels outside its K classes."""
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise StackelbergError(f"the model must return logits [B, K] with K >= 2, got shape {tuple(logits.shape)} for one input")
    if len(y) != len(x):
        raise StackelbergError(f"x and y must have the same length, got {len(x)} inputs and {len(y)} labels")
    classes = logits.shape[1]
    if len(y) and not (0 <= int(y.min()) and int(y.max()) < classes):
        raise StackelbergError(
            f"labels must lie in 0..{classes - 1} (the model has {classes} outputs), got {int(y.min())}..{int(y.max())}"
        )
