"""A game around another game: whatever a wrapper does not change is the inner game's."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.games.game import Game, Inputs, Labels, Payoffs, Play
from stackelberg.threat import Ball


@dataclass(frozen=True)
class Wrapper(Game):
    """Passes every question on to the game inside; a subclass answers some of them itself.

    Attributes:
        game: the game inside.
    """

    game: Game

    @property
    def threat(self) -> Ball | None:
        return self.game.threat

    @property
    def reads_weights(self) -> bool:
        return self.game.reads_weights

    @property
    def parameter_bound(self) -> float | None:
        return self.game.parameter_bound

    def start(self) -> dict[str, float]:
        return self.game.start()

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        return self.game.answer(play, x, y)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self.game.losses(model, x, y, moved)

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return self.game.pay(play, model, x, y, moved)

    def proved(self, model: nn.Module, x: Inputs, y: Labels) -> Bool[Tensor, " B"] | None:
        return self.game.proved(model, x, y)

    def after(self, play: Play, x: Tensor, moved: Tensor) -> None:
        self.game.after(play, x, moved)

    def weights(self, payoffs: Payoffs) -> Payoffs:
        return self.game.weights(payoffs)

    def score(self, measured: dict[str, Any], state: dict[str, float], progress: float) -> list[float]:
        return self.game.score(measured, state, progress)


@dataclass(frozen=True)
class ParameterBox(Wrapper):
    """The game inside with the leader confined to [-E, E]^K (Gao, Liu and Yu 2022), by clamping after every step.

    Attributes:
        bound: E > 0.
    """

    bound: float

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise StackelbergError(f"the parameter box must have E > 0, got {self.bound}")

    @property
    def parameter_bound(self) -> float | None:
        inner = self.game.parameter_bound
        return self.bound if inner is None else min(inner, self.bound)
