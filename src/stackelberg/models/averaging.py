"""How does a running mean follow a network in training?"""

import torch
from torch import nn


@torch.no_grad()
def follow(mean: nn.Module, now: nn.Module, share: float) -> None:
    """Move a copy's weights and statistics by a share of the way to the network's; its counters are copied.

    Args:
        mean: a copy of the network, changed in place.
        now: the network.
        share: in [0, 1]; with 1 the copy is the network.
    """
    theirs = now.state_dict()
    for name, mine in mean.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(theirs[name], share)
        else:
            mine.copy_(theirs[name])
