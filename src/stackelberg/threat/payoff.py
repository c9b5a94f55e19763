"""How is the damage counted?  One number per example, larger when the adversary does better.

All payoffs take logits [B, K] and labels [B] and return [B]. `margin` is positive exactly when the example is
misclassified, ties included in favour of the adversary only when strictly above.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Payoff = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Float[Tensor, "B K"], y: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """-log softmax(logits)_y, in nats."""
    return F.cross_entropy(logits.float(), y, reduction="none")


def others(logits: Float[Tensor, "B K"], y: Int64[Tensor, " B"]) -> Float[Tensor, "B K"]:
    """Logits with the label's entry at -inf."""
    return logits.scatter(1, y[:, None], -torch.inf)


def margin(logits: Float[Tensor, "B K"], y: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The Carlini-Wagner payoff max_{k != y} z_k - z_y, in logit units; above 0 exactly where the answer is not y.

    The answer is the first of the largest logits, as `argmax` says: where another class ties with y and comes before
    it, the payoff is the least positive float instead of 0.
    """
    z = logits.float()
    value = others(z, y).amax(1) - z.gather(1, y[:, None])[:, 0]
    lost = (value == 0) & (logits.argmax(1) != y)
    return value + lost * torch.finfo(z.dtype).tiny


def lead(logits: Float[Tensor, "B K"], y: Int64[Tensor, " B"], target: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """z_t - z_y, in logit units."""
    z = logits.float()
    return z.gather(1, target[:, None])[:, 0] - z.gather(1, y[:, None])[:, 0]


def dlr(logits: Float[Tensor, "B K"], y: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Difference of logits ratio (Croce and Hein 2020, eq. 6): margin / (z_(1) - z_(3)), free of the logits' scale.

    With fewer than three classes z_(3) does not exist and the margin's own size |z_(1) - z_(2)| is used instead of
    the ratio, which is then constant: binary nets should use `margin`.
    """
    z = logits.float()
    top = z.topk(min(3, z.shape[1]), dim=1).values
    return margin(z, y) / (top[:, 0] - top[:, -1] + 1e-12)


def targeted_dlr(
    logits: Float[Tensor, "B K"], y: Int64[Tensor, " B"], target: Int64[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """Targeted DLR (Croce and Hein 2020, eq. 7): (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2); needs 4 classes."""
    z = logits.float()
    top = z.topk(4, dim=1).values
    return lead(z, y, target) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)


def kl(logits: Float[Tensor, "B K"], reference: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
    """KL(softmax(reference) || softmax(logits)) in nats: how far the answer moved from the one on the clean input."""
    p = F.log_softmax(reference.float(), dim=1)
    q = F.log_softmax(logits.float(), dim=1)
    return (p.exp() * (p - q)).sum(1)
