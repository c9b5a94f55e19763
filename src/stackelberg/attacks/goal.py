"""What does the adversary maximise?  A payoff of the logits, made free of their scale.

A network whose logits are multiplied by 1000 answers the same, but its cross entropy has no gradient left in floating
point. So the logits of each example are divided by one constant: its clean margin, where that is larger than usual.
"""

import torch
from torch import Tensor

from stackelberg.attacks.hunt import Goal, Hunt
from stackelberg.errors import unknown
from stackelberg.threat.payoff import Payoff, cross_entropy, dlr, lead, margin, targeted_dlr

PAYOFFS: dict[str, Payoff] = {"ce": cross_entropy, "cw": margin, "dlr": dlr}

WIDEST = 8.0
"""The largest clean margin, in nats, that cross entropy meets: exp(-8) is far above the rounding of float32."""


def goal_for(payoff: str, hunt: Hunt) -> Goal:
    """Away from the true label, or towards `hunt.target` where it is given.

    Away, "ce", "cw" and "dlr" are the payoffs at the label; towards a target they are minus those at the target.
    With two classes "dlr" is constant, and the margin takes its place.
    """
    if payoff not in PAYOFFS:
        raise unknown("payoff", payoff, PAYOFFS)
    count, sign, labels = PAYOFFS[payoff], 1.0, hunt.y
    if hunt.target is not None:
        sign, labels = -1.0, hunt.target
    # of a hunt that was not opened the points seen so far will do
    clean = torch.where(hunt.opening.isfinite(), hunt.opening, hunt.value)
    scale = (clean.abs() / WIDEST).clamp(min=1.0) if payoff == "ce" else torch.ones_like(hunt.value)
    scale = torch.where(scale.isfinite(), scale, 1.0)

    def goal(logits: Tensor, index: Tensor) -> Tensor:
        shrunk = logits / scale[index, None]
        use = margin if count is dlr and logits.shape[1] < 3 else count
        return sign * use(shrunk, labels[index])

    return goal


def goal_towards(targets: Tensor, hunt: Hunt) -> Goal:
    """Towards one other class of each example [B]: targeted DLR where there are four classes, else z_t - z_y."""

    def goal(logits: Tensor, index: Tensor) -> Tensor:
        y, target = hunt.y[index], targets[index]
        return (targeted_dlr if logits.shape[1] >= 4 else lead)(logits, y, target)

    return goal
