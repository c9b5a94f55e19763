"""When do the features of a class collide?  The contrastive loss by which FC-EM moves clouds (Zhu et al. 2024)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

TEMPERATURE = 0.1


def collision(
    features: Float[Tensor, "B D"], y: Int64[Tensor, " B"], temperature: float = TEMPERATURE
) -> Float[Tensor, " B"]:
    """-log(sum_{j: y_j = y_i} e^{cos(z_i, z_j) / t} / sum_j e^{cos(z_i, z_j) / t}) for each i, j = i included.

    Small where the features of a class are alike and those of other classes far: a learner then finds the class in
    them without looking at the shape. Unlike the cross entropy it does not vanish once the labels are fitted, and it
    pulls in another direction than the distance to the clean cloud, with which error-minimising noise degenerates.

    Args:
        features: of the last layer but one, any scale.
        y: the class of each.
        temperature: t, 0.1 as published.
    """
    z = F.normalize(features.float(), dim=1)
    alike = z @ z.T / temperature
    same = y[:, None] == y[None, :]
    return alike.logsumexp(1) - alike.masked_fill(~same, -torch.inf).logsumexp(1)
