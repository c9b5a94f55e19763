"""Adversarial weight perturbation: a second follower moves the weights (Wu, Xia and Wang 2020)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stackelberg.errors import StackelbergError
from stackelberg.games.certified import IntervalBound, SmallBoxes, bare
from stackelberg.games.game import Inputs, Labels, Payoffs, Play
from stackelberg.games.wrapper import Wrapper


@dataclass(frozen=True)
class WeightPerturbed(Wrapper):
    """AWP: min over w of max over v of the game's objective at w + v, ||v_l|| <= size * ||w_l|| in each layer l.

    v is one step of steepest ascent from 0 in every weight of two or more dimensions (eq. 10 of the paper, one step);
    the leader's gradient is taken at w + v and applied at w. Batch-norm statistics move once, at w + v. In several
    processes the ascent direction is the mean of theirs.

    Attributes:
        size: relative length of v in each layer, > 0; 0.005 in the paper.
    """

    size: float = 0.005

    def __post_init__(self) -> None:
        if not self.size > 0:
            raise StackelbergError(f"size must be > 0, got {self.size}; the paper's value is 0.005")
        inside = self.game
        while isinstance(inside, Wrapper):
            inside = inside.game
        if isinstance(inside, IntervalBound | SmallBoxes):
            raise StackelbergError(f"WeightPerturbed cannot wrap {type(inside).__name__}, which needs the weights")

    @property
    def reads_weights(self) -> bool:
        return True

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        shift = self._shift(play, bare(model), x, y, moved)
        places = {id(p): v for p, v in shift}
        tensors = {name: p + places[id(p)] for name, p in model.named_parameters() if id(p) in places}
        return self.game.pay(play, At(model, tensors), x, y, moved)

    def _shift(self, play: Play, model: nn.Module, x: Tensor, y: Tensor, moved: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(weight, v) for every weight that moves; the model is left as it was, its buffers too."""
        seen = unmoved(model)
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad and p.dim() > 1}
        with torch.enable_grad():
            payoffs = self.game.pay(play, seen, x, y, moved)
            objective = (self.game.weights(payoffs.detach()) * payoffs).sum()
            slopes = torch.autograd.grad(objective, [seen.tensors[name] for name in weights], allow_unused=True)
        moves = []
        for weight, slope in zip(weights.values(), slopes, strict=True):
            if slope is not None:
                slope = play.mean(slope)
                moves.append((weight, self.size * weight.detach().norm() * slope / slope.norm().clamp(min=1e-12)))
        return moves


class At(nn.Module):
    """A network seen with other tensors in the place of some of its own; it owns nothing."""

    def __init__(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.__dict__["model"] = model  # no child: its parameters are not this module's
        self.tensors = tensors
        self.training = model.training

    def forward(self, x: Tensor) -> Any:
        # the wrapper of processes and precision holds the network under two names: one of them is enough, and both at
        # once are not given back rightly
        return functional_call(self.__dict__["model"], self.tensors, (x,), tie_weights=False)


def unmoved(model: nn.Module) -> At:
    """The network at copies of its parameters and buffers: what is asked of it moves no statistics and no hooks."""
    copies = {name: p.detach().clone().requires_grad_(p.requires_grad) for name, p in model.named_parameters()}
    return At(model, copies | {name: b.clone() for name, b in model.named_buffers()})
