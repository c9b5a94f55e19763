"""The block of a transformer: pre-normalised attention and perceptron (Vaswani et al. 2017; Xiong et al. 2020)."""

import torch.nn.functional as F
from torch import nn

from stackelberg.errors import StackelbergError
from stackelberg.models.shapes import Tokens

HEADS = 4


def check_width(name: str, width: int) -> None:
    """Refuse a width that the heads do not divide."""
    if width % HEADS:
        raise StackelbergError(f"{name} needs a width that is a multiple of {HEADS} (its heads), got {width}")


class Attention(nn.Module):
    """softmax(q k' / sqrt(d)) v in each of the heads, and a linear map of all heads together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tokens) -> Tokens:
        heads = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # 3, B, heads, T, d
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tokens) -> Tokens:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))
