"""What is a proof about a batch of examples?  A lower bound of each margin over the whole ball."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball


class Unsupported(StackelbergError):
    """A network holds an operation for which the method has no bound, so nothing is proved about it."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """margin[i] <= min over x' in ball(x_i) and k != y_i of z_y(x') - z_k(x'): proved, never measured.

    Attributes:
        method: how it was proved, for example "ibp".
        ball: the set over which it holds.
        margin: the lower bound per example, in logit units; NaN or -inf where nothing is proved.
    """

    method: str
    ball: Ball
    margin: Float[Tensor, " B"]

    @property
    def certified(self) -> Bool[Tensor, " B"]:
        """Whether the label provably stays the same, and is right, everywhere in the ball."""
        return self.margin > 0
