"""What is the worst loss if the adversary may also put mass where no sample is?  The certified form of the KL game.

Training plays the sample form (`games.kl_worst_case`): weights on the batch. The set of SR-WDRO,
{D' : KL(D'' || D') <= gamma}, also holds laws with mass outside the support of D''. With l* the largest loss there is,

    v = min over eta >= l* of  eta - e^-gamma exp(mean ln(eta - l))

is never below the sample form, and infinite for a loss without a bound (raw cross entropy).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.games import kl_worst_case


@dataclass(frozen=True)
class WorstLoss:
    """The adversary's answer off the sample.

    Attributes:
        value: v, in the loss's unit.
        weights: on the examples, sum at most 1, [B] float64.
        outside: 1 - sum of the weights: mass where the loss is l*.
    """

    value: float
    weights: Float[Tensor, " B"]
    outside: float


def off_sample_worst_case(losses: Float[Tensor, " B"], gamma: float, highest: float) -> WorstLoss:
    """sup {E_{D'} loss : KL(uniform on the sample || D') <= gamma}, D' anywhere, where the loss is at most `highest`.

    The derivative's root in eta is the sample form's where it lies above l*; else eta = l*, the weights are
    e^-gamma exp(mean ln(l* - l)) / (B (l* - l_i)), and the rest of the mass lies outside. Float64.

    Args:
        losses: of the examples, after the other follower moved them.
        gamma: in nats, >= 0.
        highest: l*, the supremum of the loss over the whole space.

    Raises:
        StackelbergError: an infinite l* (take a bounded loss), or one below a loss of the sample.
    """
    if not math.isfinite(highest):
        raise StackelbergError(
            f"the certified worst case needs a bounded loss, got highest={highest}: cross entropy has none; pass the"
            " error, or a loss clipped at `highest`"
        )
    if not (math.isfinite(gamma) and gamma >= 0):
        raise StackelbergError(f"gamma must be a number >= 0 in nats, got {gamma}; the paper's value is 0.1")
    values = losses.detach().to(torch.float64)
    if not len(values) or not bool((values <= highest).all()):
        raise StackelbergError(f"highest must be at least every loss of the sample, got {highest:g} and no such sample")
    gap = highest - values
    if gamma == 0 or bool((gap == 0).all()):
        return WorstLoss(float(values.mean()), torch.full_like(values, 1 / len(values)), 0.0)
    if bool((gap > 0).all()):
        drop = math.exp(float(gap.log().mean()) - gamma)
        weights = drop / (len(values) * gap)
        if weights.sum() <= 1:  # the objective rises from eta = l* on
            return WorstLoss(highest - drop, weights, float(1 - weights.sum()))
    weights = kl_worst_case(values, gamma)
    return WorstLoss(float((weights * values).sum()), weights, 0.0)
