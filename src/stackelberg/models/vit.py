"""A small vision transformer (Dosovitskiy et al. 2021): pre-normalised blocks, learned places, mean over the tokens."""

import torch
import torch.nn.functional as F
from torch import nn

from stackelberg.errors import StackelbergError
from stackelberg.models.shapes import Images, Logits, Shape, Tokens

_HEADS = 4
_DEPTH = 6


class _Attention(nn.Module):
    """softmax(q k' / sqrt(d)) v in each of the heads, and a linear map of all heads together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tokens) -> Tokens:
        heads = self.qkv(x).unflatten(2, (3, _HEADS, -1)).permute(2, 0, 3, 1, 4)  # 3, B, heads, T, d
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return self.out(mixed.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = _Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tokens) -> Tokens:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches of 4 pixels (2 for images below 16) as tokens of w numbers, six blocks of four heads, fc K.

    Args:
        classes: K.
        shape: (C, H, W) of an image, whole patches along both sides.
        width: w, a multiple of 4, 128 by default (810,890 parameters for 3x32x32 and K = 10, 64 tokens).

    Raises:
        StackelbergError: the patches do not fill the image, or the heads do not divide the width.
    """

    def __init__(self, classes: int, shape: Shape, width: int = 128) -> None:
        super().__init__()
        channels, height, breadth = shape
        patch = 4 if min(height, breadth) >= 16 else 2
        if height % patch or breadth % patch:
            raise StackelbergError(
                f"vit needs images whose sides are multiples of {patch}, got {height}x{breadth}; pad them"
            )
        if width % _HEADS:
            raise StackelbergError(f"vit needs a width that is a multiple of {_HEADS} (its heads), got {width}")
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.place = nn.Parameter(0.02 * torch.randn((height // patch) * (breadth // patch), width))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Images) -> Logits:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(tokens)).mean(1))
