"""A small vision transformer (Dosovitskiy et al. 2021): pre-normalised blocks, learned places, mean over the tokens."""

import torch
from torch import nn

from stackelberg.errors import StackelbergError
from stackelberg.models.attention import Block, check_width
from stackelberg.models.shapes import Images, Logits, Shape

_DEPTH = 6


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
        check_width("vit", width)
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.place = nn.Parameter(0.02 * torch.randn((height // patch) * (breadth // patch), width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Images) -> Logits:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(tokens)).mean(1))
