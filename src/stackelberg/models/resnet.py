"""ResNet-18 (He, Zhang, Ren and Sun 2016) with the stem for small images: one 3x3 convolution, no pooling."""

from itertools import pairwise

import torch.nn.functional as F
from torch import nn

from stackelberg.models.shapes import Features, Images, Logits, Shape


class _Block(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)); the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Features) -> Features:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class ResNet18(nn.Module):
    """Four stages of two blocks with w, 2w, 4w, 8w channels, each stage but the first halving; mean over pixels; fc K.

    Args:
        classes: K.
        shape: (C, H, W) of an image, any size.
        width: w, 64 by default (11,173,962 parameters for 3 channels and K = 10).
    """

    def __init__(self, classes: int, shape: Shape, width: int = 64) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        blocks: list[nn.Module] = []
        for stage, (before, after) in enumerate(pairwise(widths)):
            blocks += [_Block(before, after, 1 if stage == 0 else 2), _Block(after, after, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Images) -> Logits:
        inner = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.head(self.pool(inner).flatten(1))
