"""Normalisation is part of the model: an attack moves the image the user sees, in [0, 1]."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.shapes import Images, Logits


class Normalized(nn.Module):
    """net((x - mean) / std), channel by channel; mean and std are buffers, saved with the weights.

    Attributes:
        net: what takes the normalised images.
        mean: [C, 1, 1], in input units.
        std: [C, 1, 1], in input units, > 0.

    >>> Normalized(nn.Flatten(), mean=[0.5], std=[0.25])(torch.ones(1, 1, 1, 1))
    tensor([[2.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not len(mean):
            raise StackelbergError(f"mean and std need one number per channel, got {len(mean)} and {len(std)} numbers")
        if not all(math.isfinite(number) for number in (*mean, *std)) or min(std) <= 0:
            raise StackelbergError(
                f"mean must be finite and std > 0 in every channel, got {list(mean)} and {list(std)}"
            )
        self.net = net
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Images) -> Logits:
        return self.net((x - self.mean) / self.std)
