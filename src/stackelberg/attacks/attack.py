"""The one wrapper around every attack: it lends the model, checks the inputs, and believes nobody.

An attack shows points to a `Hunt`, which keeps the score and asks the user's own module, in float32, about every
success; the wrapper checks that what comes out lies in ball and box.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.hunt import Hunt
from stackelberg.attacks.oracle import DRAWS, Oracle, Precision, untouched
from stackelberg.errors import StackelbergError
from stackelberg.models import network
from stackelberg.threat import Ball, chance


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack inside a ball: `attack(model, x, y)` returns x' [B, *shape] in ball and box, of x's type.

    An example that the model already gets wrong comes back as it is; one that no step breaks comes back as the point
    with the largest margin that was seen.

    Attributes:
        seed: of the noise; together with an example's content it decides all of that example's random numbers.
        precision: of the gradients ("auto": bfloat16 where the hardware gains by it); successes are always float32.
        stop: whether an example is left alone at its first success; False goes on to the largest margin.
        within: pass over examples whose margin, by what came before, is still larger than this share of the clean
            one; None passes over none. Of use in a suite.
        draws: of a network that answers at random, for one gradient (expectation over its randomness).
    """

    ball: Ball
    seed: int = 0
    precision: Precision = "auto"
    stop: bool = True
    within: float | None = None
    draws: int = DRAWS

    @property
    def name(self) -> str:
        """How reports call it."""
        return type(self).__name__.lower()

    @abstractmethod
    def search(self, hunt: Hunt) -> None:
        """The attack itself: show the hunt points in ball and box for the examples of `hunt.standing(self.within)`."""

    @final
    def __call__(
        self,
        model: nn.Module | Callable[..., Any],
        x: Float[Tensor, " B *shape"],
        y: Int64[Tensor, " N"],
        target: Int64[Tensor, " N"] | None = None,
    ) -> Float[Tensor, " B *shape"]:
        """Attack `model` at inputs x in [low, high] with labels y; towards `target` labels if given.

        Any callable that answers for a batch will do (see `models.network`).

        Raises:
            StackelbergError: inputs outside the box or not finite, labels outside the model's classes.
        """
        model = network(model, x)
        with untouched(model):
            check_inputs(x, self.ball)
            oracle = Oracle(model, self.precision, draws=self.draws)
            oracle.meet(x)
            check_labels(oracle, x, y, target)
            hunt = Hunt(oracle, self.ball, x, y, chance.example_keys(x, self.seed), target, self.stop)
            hunt.open()
            self.search(hunt)
            hunt.settle()
            return verified(hunt)


def verified(hunt: Hunt) -> Tensor:
    """The best points of a hunt; one that left ball or box is projected back and asked about again."""
    outside = (~hunt.ball.contains(hunt.best, hunt.x)).nonzero()[:, 0]
    if len(outside):
        hunt.best[outside] = hunt.ball.project(hunt.best[outside], hunt.x[outside])
        hunt.value[outside] = hunt.judge(outside, hunt.best[outside], thorough=True)
        hunt.broken[outside] = hunt.value[outside] > 0
    return hunt.best


def check_inputs(x: Tensor, ball: Ball) -> None:
    """Refuse inputs that are not finite or lie outside [low, high]."""
    if not x.is_floating_point():
        raise StackelbergError(
            f"inputs must be floating point, got {x.dtype}; pass images as Dataset.batch gives them, and for texts"
            " models.embedded(model, x), or use attacks.HotFlip"
        )
    if not len(x):
        return
    flat = x.flatten(1)
    finite = torch.isfinite(flat).all(1)
    if not finite.all():
        raise StackelbergError(
            f"input {int((~finite).nonzero()[0])} of the batch holds NaN or infinity; remove or repair it"
        )
    low, high = float(flat.min()), float(flat.max())
    if low < ball.low or high > ball.high:
        cloud = x.dim() == 3 and x.shape[2] == 3
        mend = (
            "clouds come in their own units: give the ball their box, Ball(norm, radius, *data.box)"
            if cloud
            else "put the normalisation into the model: attack Normalized(net, mean, std) on unnormalised inputs"
        )
        raise StackelbergError(f"inputs must lie in [{ball.low:g}, {ball.high:g}], got [{low:g}, {high:g}]; {mend}")


def check_labels(oracle: Oracle, x: Tensor, y: Tensor, target: Tensor | None = None) -> None:
    """Refuse a model output that is not [B, K], and labels outside its K classes."""
    shape = tuple(oracle.exact(x[:1]).shape) if len(x) else (0, 2)
    if len(shape) != 2 or shape[1] < 2:
        raise StackelbergError(f"the model must return logits [B, K] with K >= 2, got shape {shape} for one input")
    for name, labels in (("y", y), ("target", target)):
        if labels is None or not len(x):
            continue
        if len(labels) != len(x):
            raise StackelbergError(
                f"x and {name} must have the same length, got {len(x)} inputs and {len(labels)} labels"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= shape[1]:
            raise StackelbergError(
                f"labels must lie in 0..{shape[1] - 1} (the model has {shape[1]} outputs), got {low}..{high} in {name}"
            )
