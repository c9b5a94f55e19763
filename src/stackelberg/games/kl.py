"""How would an adversary re-weigh the sample, within a KL distance of it?  Exactly, in closed form up to one root."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.errors import StackelbergError


def kl_worst_case(payoffs: Float[Tensor, "*games B"], gamma: float) -> Float[Tensor, "*games B"]:
    """The weights q [*games, B], sum 1, that attain sup {sum_i q_i l_i : KL(uniform || q) <= gamma}.

    With eta > max l the root of  ln mean(1/(eta - l)) + mean ln(eta - l) = gamma  the weights are q_i proportional to
    1/(eta - l_i) (SR-WDRO, Liu et al. 2025, step 10; the direction of the divergence is empirical first, so this is
    not the exponential tilt). gamma = 0 or equal payoffs give 1/B; gamma to infinity gives the maximum.
    The root is found for t = ln(eta - max l) by safeguarded Newton steps in float64, in logarithms throughout, to
    about 1e-12 relative. The weights carry no gradient: by Danskin's theorem none is needed.

    >>> kl_worst_case(torch.tensor([0.0, 0.0, 0.0, 1.0]), gamma=0.0).tolist()
    [0.25, 0.25, 0.25, 0.25]
    >>> [round(weight, 3) for weight in kl_worst_case(torch.tensor([0.0, 0.0, 0.0, 1.0]), gamma=0.1).tolist()]
    [0.178, 0.178, 0.178, 0.467]

    Args:
        payoffs: l, finite, in any unit; only their differences relative to their range matter.
        gamma: radius of the KL ball in nats, >= 0.
    """
    if not (math.isfinite(gamma) and gamma >= 0):
        raise StackelbergError(f"gamma must be a number >= 0 in nats, got {gamma}; the paper's value is 0.1")
    losses = payoffs.detach().double()
    top = losses.amax(-1, keepdim=True)
    span = top - losses.amin(-1, keepdim=True)
    below = (top - losses) / span.clamp(min=torch.finfo(torch.float64).tiny)  # in [0, 1], 0 at the largest payoff
    log_below = below.log()  # -inf at the largest payoff
    solved = torch.softmax(-torch.logaddexp(_root(log_below, gamma), log_below), dim=-1) if gamma > 0 else below
    uniform = torch.full_like(losses, 1 / losses.shape[-1])
    return torch.where((span > 0) & (gamma > 0), solved, uniform).to(payoffs.dtype)


def _root(log_below: Tensor, gamma: float) -> Tensor:
    """t with F(t) = logsumexp(-a) - ln B + mean a = gamma, a = ln(e^t + below); F falls from infinity to 0."""
    count = log_below.shape[-1]
    shape = (*log_below.shape[:-1], 1)
    # with k payoffs at the top F(t) > -(1 - k/B) t - ln B, and 1 - k/B >= 1/B
    low = torch.full(shape, -(gamma + math.log(count) + 1) * count, dtype=torch.float64, device=log_below.device)
    high = torch.full_like(low, math.log(1 + math.sqrt(1 / gamma)) + 1)
    t = torch.zeros_like(low)
    for _ in range(200):
        a = torch.logaddexp(t, log_below)
        excess = torch.logsumexp(-a, -1, keepdim=True) - math.log(count) + a.mean(-1, keepdim=True) - gamma
        low, high = torch.where(excess > 0, t, low), torch.where(excess > 0, high, t)
        share = torch.exp(t - a)
        slope = share.mean(-1, keepdim=True) - (torch.softmax(-a, -1) * share).sum(-1, keepdim=True)
        newton = t - excess / slope
        inside = (newton > low) & (newton < high)
        following = torch.where(inside, newton, (low + high) / 2)
        if bool(((following - t).abs() <= 1e-13 * (1 + t.abs())).all()):
            return following
        t = following
    return t
