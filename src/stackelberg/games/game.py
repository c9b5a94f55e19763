"""What is a game?  A leader's network, a follower that answers, and a payoff per example."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from stackelberg.attacks import Oracle, untouched
from stackelberg.threat import Ball, chance

Inputs: TypeAlias = Float[Tensor, " B *shape"]
"""A batch of inputs in the box; for images B = batch, shape = (C, H, W)."""
Labels: TypeAlias = Int64[Tensor, " B"]
"""The true class of each, 0..K-1."""
Payoffs: TypeAlias = Float[Tensor, " B"]
"""One number per example."""


def _same(value: Tensor) -> Tensor:
    return value


@dataclass
class Play:
    """What the follower knows when it answers: one move of the game.

    Attributes:
        oracle: a fast view of the leader's present network.
        keys: int64 [B], the seeds of the examples' noise; from their content when None.
        share: how much of the follower's radius is in force, in [0, 1] (training warms up).
        state: numbers the game keeps from move to move, for example the price of moving.
        mean: averages a number, or the numbers of a tensor, over all processes of the run.
        progress: share of the training that is behind, in [0, 1).
        held: examples (x, y) that nobody trains on, for a game that watches itself.
    """

    oracle: Oracle
    keys: Int64[Tensor, " B"] | None = None
    share: float = 1.0
    state: dict[str, float] = field(default_factory=dict)
    mean: Callable[[Tensor], Tensor] = _same
    progress: float = 0.0
    held: tuple[Tensor, Tensor] | None = None

    def ball(self, ball: Ball) -> Ball:
        """The follower's ball at the share of the radius in force."""
        return ball if self.share >= 1 else ball.with_radius(ball.radius * self.share)

    def keys_for(self, x: Tensor) -> Tensor:
        """One key per example."""
        return chance.example_keys(x, 0) if self.keys is None else self.keys


@dataclass(frozen=True)
class Game(ABC):
    """A training game: the leader's network moves, the follower answers on each example, payoffs are weighed.

    `game.payoffs(model, x, y)` gives one number per example [B], differentiable in the model's parameters; the leader
    wants sum(weights * payoffs) small. A new game says how the follower answers and what the leader then pays.
    """

    @abstractmethod
    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        """The follower's best response x' to the present network, no gradient."""

    @abstractmethod
    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        """What the leader pays per example once the follower moved, with gradient in the parameters."""

    @property
    def threat(self) -> Ball | None:
        """The ball in which the follower moves each example, or None where nobody moves."""
        return getattr(self, "ball", None)

    @property
    def reads_weights(self) -> bool:
        """Whether the leader's payoff needs the network's weights themselves, and not its answers alone."""
        return False

    @property
    def parameter_bound(self) -> float | None:
        """E of the leader's strategy space [-E, E]^K, or None for all of R^K."""
        return None

    def start(self) -> dict[str, float]:
        """The game's own numbers before the first move."""
        return {}

    def after(self, play: Play, x: Tensor, moved: Tensor) -> None:
        """Let the game change its own numbers (`play.state`) after a move."""
        return

    def weights(self, payoffs: Payoffs) -> Payoffs:
        """How the payoffs are weighed: sum 1, no gradient; all alike unless a wrapper says otherwise."""
        return torch.full_like(payoffs, 1 / len(payoffs)).detach()

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        """`losses` at the share of the radius in force, for games whose payoff depends on it."""
        return self.losses(model, x, y, moved)

    def proved(self, model: nn.Module, x: Inputs, y: Labels) -> Bool[Tensor, " B"] | None:
        """On which examples the game's own bounds prove the label; None for a game that proves nothing."""
        return None

    def score(self, measured: dict[str, Any], state: dict[str, float], progress: float) -> list[float]:
        """How good a network is on held-out data: the best one of a training has the largest of these lists.

        `measured` holds its "clean", "robust" and "certified" accuracy, None where it has none.
        """
        return [measured[name] for name in ("certified", "robust", "clean") if measured[name] is not None]

    def payoffs(self, model: nn.Module, x: Inputs, y: Labels, play: Play | None = None) -> Payoffs:
        """One number per example after the follower's answer, in nats (or logit units for the margin)."""
        play = Play(Oracle(model), state=self.start()) if play is None else play
        with untouched(model):
            moved = self.answer(play, x, y).detach()
        self.after(play, x, moved)
        return self.pay(play, model, x, y, moved)

    def objective(self, model: nn.Module, x: Inputs, y: Labels, play: Play | None = None) -> Float[Tensor, ""]:
        """sum_i weights_i * payoffs_i, what the leader descends on."""
        payoffs = self.payoffs(model, x, y, play)
        return (self.weights(payoffs) * payoffs).sum()

    def describe(self) -> dict[str, Any]:
        """The game as plain data, for run records: its name and its fields."""
        values = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Game):
                value = value.describe()
            elif is_dataclass(value) and not isinstance(value, type):
                value = asdict(value)
            values[one.name] = value
        return {"name": type(self).__name__, **values}
