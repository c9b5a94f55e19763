"""Adversarial training by one gradient step, at a third of the price, with a guard against its sudden failure."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.games.adversarial import Adversarial, climb
from stackelberg.games.game import Inputs, Labels, Play
from stackelberg.threat.payoff import cross_entropy, margin


@dataclass(frozen=True)
class SingleStep(Adversarial):
    """FGSM from a random start (Wong, Rice and Kolter 2020): one step of `step` radii, then back into the ball.

    Such a follower can be outwitted: from one batch to the next the network learns a surface on which one step finds
    nothing and several find everything ("catastrophic overfitting"). The guard looks for that: every `check_every`
    batches it asks, on held-out examples, how many stand one step but fall to `steps` steps. While that share exceeds
    `tolerance` the follower takes `steps` steps (detect and mend: Li, Wang, Jana and Carin 2020), afterwards one again.

    Attributes:
        steps: of the follower while it is careful, and of the check.
        reach: length of the single step in radii, 1.25 in the paper.
        random: whether the step starts at a random point of the ball; from the example itself (Goodfellow, Shlens and
            Szegedy 2015) the failure comes sooner.
        guard: whether to look.
        check_every: batches between two looks.
        tolerance: share of held-out examples that may stand one step and fall to several.
    """

    reach: float = 1.25
    random: bool = True
    guard: bool = True
    check_every: int = 10
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reach > 0 or self.check_every < 1:
            raise StackelbergError(
                f"reach must be > 0 and check_every at least 1, got {self.reach} and {self.check_every}"
            )
        if not 0 <= self.tolerance <= 1:
            raise StackelbergError(f"tolerance must lie in [0, 1], got {self.tolerance}")

    def start(self) -> dict[str, float]:
        return {"batches": 0.0, "gap": 0.0, "careful_batches": 0.0}

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        state = play.state
        if self.guard and state.get("batches", 0.0) % self.check_every == 0:
            state["gap"] = self.gap(play, *((x, y) if play.held is None else play.held))
        careful = self.guard and state["gap"] > self.tolerance
        state["batches"] = state.get("batches", 0.0) + 1
        state["careful_batches"] = state.get("careful_batches", 0.0) + careful
        return super().answer(play, x, y) if careful else self._one_step(play, x, y)

    def gap(self, play: Play, x: Tensor, y: Tensor) -> float:
        """Share of examples that stand the single step and fall to several, over all processes."""
        alone = Play(play.oracle, share=play.share)  # noise from the examples' content: the same at every look
        one, many = self._one_step(alone, x, y), super().answer(alone, x, y)
        stands = margin(play.oracle.logits(one), y) <= 0
        falls = margin(play.oracle.logits(many), y) > 0
        return float(play.mean((stands & falls).double().mean()))

    def _one_step(self, play: Play, x: Tensor, y: Tensor) -> Tensor:
        start = play.ball(self.ball).sample(x, play.keys_for(x)) if self.random else x
        count = cross_entropy if self.payoff == "ce" else margin
        with torch.no_grad():
            return climb(play, x, start, lambda logits: count(logits, y), self.ball, 1, self.reach * self.ball.radius)
