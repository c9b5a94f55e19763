"""The most accurate network among the most robust ones: a bi-level problem, not a weighted sum."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.games.certified import bare
from stackelberg.games.displaced import At, unmoved
from stackelberg.games.game import Inputs, Labels, Payoffs, Play
from stackelberg.games.wrapper import Wrapper
from stackelberg.threat.payoff import cross_entropy

MEMORY = 0.95
"""Of the running mean of the robust payoff, per step."""


@dataclass(frozen=True)
class Tradeoff(Wrapper):
    """min over theta of E CE(f(x), y) subject to R(theta) <= min R + slack, R the payoff of the game inside.

    Gao, Liu and Yu 2022 ask for the least clean loss among the Stackelberg equilibria. In two steps: for the first
    `settle` of the training the leader descends on R alone, whose running mean at its end stands for min R. Then it
    follows the dynamic barrier method (Gong, Liu and Liu 2021): the direction nearest to the clean gradient along which
    R falls by at least phi,

        d = grad C + weight * grad R,  weight = max(0, (phi - <grad C, grad R>) / ||grad R||^2),
        phi = min(pull * (R - (min R + slack)), ||grad R||^2)

    so within the slack R may rise and the weight is mostly 0, beyond it R must fall. d is divided by 1 + weight, which
    bounds its length. R is a running mean over batches, the gradients are the batch's. For a network the minima are
    local ones; for a convex R and C they are the problem's.

    Attributes:
        slack: by how much R may exceed its least value, in R's own unit.
        settle: share of the training given to R alone, in (0, 1).
        pull: how fast the constraint is restored, per step length.
    """

    slack: float = 0.02
    settle: float = 0.5
    pull: float = 10.0

    def __post_init__(self) -> None:
        if not self.slack >= 0 or not self.pull > 0:
            raise StackelbergError(f"slack must be >= 0 and pull > 0, got {self.slack} and {self.pull}")
        if not 0 < self.settle < 1:
            raise StackelbergError(f"settle must lie in (0, 1), got {self.settle}; half the training is usual")

    @property
    def reads_weights(self) -> bool:
        return True

    def start(self) -> dict[str, float]:
        return {**self.game.start(), "moves": 0.0, "robust_payoff": 0.0, "least": 0.0}

    def weights(self, payoffs: Payoffs) -> Payoffs:
        return torch.full_like(payoffs, 1 / len(payoffs)).detach()  # the inner game's are in the payoffs already

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        robust = self.game.pay(play, model, x, y, moved)
        robust = len(robust) * self.game.weights(robust.detach()) * robust
        self._remember(play, float(play.mean(robust.detach().mean())))
        if play.progress < self.settle:
            return robust
        clean = cross_entropy(model(x), y)
        weight = self._weight(play, unmoved(bare(model)), x, y, moved)
        return (clean + weight * robust) / (1 + weight)

    def _remember(self, play: Play, now: float) -> None:
        """The running mean of R, and its value when the leader turns to the clean loss."""
        state = play.state
        state["moves"] = state.get("moves", 0.0) + 1
        share = max(1 - MEMORY, 1 / state["moves"])
        state["robust_payoff"] = state.get("robust_payoff", 0.0) + share * (now - state.get("robust_payoff", 0.0))
        if play.progress < self.settle:
            state["least"] = state["robust_payoff"]

    def _weight(self, play: Play, model: At, x: Tensor, y: Tensor, moved: Tensor) -> float:
        """The dynamic barrier's weight from the two gradients at the present parameters."""
        paid = self.game.pay(play, model, x, y, moved)
        r = _slope((self.game.weights(paid.detach()) * paid).sum(), model)
        c = _slope(cross_entropy(model(x), y).mean(), model)
        across, steep = float(play.mean(c @ r)), float(play.mean(r @ r))
        over = play.state["robust_payoff"] - play.state["least"] - self.slack
        return max(0.0, (min(self.pull * over, steep) - across) / max(steep, 1e-30))

    def score(self, measured: dict[str, Any], state: dict[str, float], progress: float) -> list[float]:
        """Networks within twice the slack of the least R come first, the more accurate the better."""
        within = progress > self.settle and state["robust_payoff"] <= state["least"] + 2 * self.slack
        return [float(within), measured["clean"]]


def _slope(value: Tensor, model: At) -> Tensor:
    """d value / d parameters, one long vector."""
    trained = [p for p in model.tensors.values() if p.requires_grad]
    slopes = torch.autograd.grad(value, trained, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(trained, slopes, strict=True)]
    )
