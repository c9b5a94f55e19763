"""MART: what the network already gets wrong counts more (Wang et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import nn

from stackelberg.errors import StackelbergError
from stackelberg.games.adversarial import Adversarial
from stackelberg.games.game import Inputs, Labels, Payoffs
from stackelberg.threat.payoff import kl, others


@dataclass(frozen=True)
class Mart(Adversarial):
    """BCE(p', y) + penalty * KL(p || p') * (1 - p_y), p = softmax f(x), p' = softmax f(x') (Wang et al. 2020, eq. 11).

    BCE(p', y) = -ln p'_y - ln(1 - max_{k != y} p'_k). The follower climbs the cross entropy, as in adversarial
    training.

    Attributes:
        penalty: weight of the last term, 5 in the paper.
    """

    penalty: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.payoff != "ce":
            raise StackelbergError(f"MART climbs the cross entropy, got payoff {self.payoff!r}; leave it out")
        if not self.penalty >= 0:
            raise StackelbergError(f"penalty must be >= 0, got {self.penalty}; the paper's value is 5")

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        clean, answered = model(torch.cat([x, moved])).float().chunk(2)  # one forward: batch norm sees both, once
        logs = answered.log_softmax(1)
        right = logs.gather(1, y[:, None])[:, 0]
        wrong = others(logs, y).amax(1)
        rest = torch.log1p(-wrong.exp().clamp(max=1 - 1e-6))
        doubt = 1 - clean.softmax(1).gather(1, y[:, None])[:, 0]
        return -right - rest + self.penalty * kl(answered, clean) * doubt
