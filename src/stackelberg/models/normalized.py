"""Normalisation is part of the model: an attack moves the image the user sees, in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.shapes import Images, Logits


class Normalized(nn.Module):
    """net((x - mean) / std), per channel, with mean and std as buffers that are saved with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not len(mean):
            raise StackelbergError(f"mean and std need one number per channel each, got {list(mean)} and {list(std)}")
        if min(std) <= 0:
            raise StackelbergError(f"std must be > 0 in every channel, got {list(std)}")
        self.net = net
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Images) -> Logits:
        return self.net((x - self.mean) / self.std)
