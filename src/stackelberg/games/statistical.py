"""The wrapper that makes any game statistically robust: the adversary also re-weighs the sample."""

from dataclasses import dataclass

import torch

from stackelberg.errors import StackelbergError
from stackelberg.games.game import Payoffs
from stackelberg.games.kl import kl_worst_case
from stackelberg.games.wrapper import Wrapper


@dataclass(frozen=True)
class StatisticallyRobust(Wrapper):
    """SR-(game): after the inner follower moved, sup over {q : KL(uniform || q) <= gamma} of sum q_i payoff_i.

    Around `WassersteinDRO` this is SR-WDRO (Liu et al. 2025), around `Adversarial` SR-AT, around `Trades` SR-TRADES.
    The weights are of the batch (all processes' batch): a lower value of the certified objective, in which mass may
    also be put outside the sample.

    Attributes:
        game: the game inside.
        gamma: radius of the KL ball in nats, >= 0; 0.1 in the paper. 0 is the game itself.

    >>> import stackelberg as sb
    >>> game = sb.games.StatisticallyRobust(sb.games.WassersteinDRO(sb.Ball("linf", 0.1)), gamma=0.1)
    >>> round(float(game.weights(torch.tensor([0.1, 0.2, 0.9])).sum()), 6)
    1.0
    """

    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise StackelbergError(f"gamma must be >= 0 in nats, got {self.gamma}; the paper's value is 0.1")

    def weights(self, payoffs: Payoffs) -> Payoffs:
        inner = self.game.weights(payoffs)
        if torch.allclose(inner, inner[:1]):
            return kl_worst_case(payoffs, self.gamma)
        raise StackelbergError(
            "StatisticallyRobust cannot wrap a game that weighs its payoffs already; keep one of the two"
        )
