"""Residual networks that normalise before they convolve: PreAct-ResNet-18 and wide residual networks.

He, Zhang, Ren and Sun 2016, "Identity mappings in deep residual networks"; Zagoruyko and Komodakis 2016. Both with
the stem for small images, and batch normalisation and ReLU before the mean over pixels.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import nn

from stackelberg.models.shapes import Features, Images, Logits, Shape


class _Block(nn.Module):
    """conv(relu(bn(conv(a)))) + shortcut with a = relu(bn(x)); the shortcut is x, or a 1x1 convolution of a."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        changes = stride != 1 or before != after
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if changes else None

    def forward(self, x: Features) -> Features:
        active = F.relu(self.bn1(x))
        inner = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return inner + (x if self.shortcut is None else self.shortcut(active))


class _PreAct(nn.Module):
    """conv, stages of blocks (each but the first halving), bn, relu, mean over pixels, fc K."""

    def __init__(self, classes: int, channels: int, stem: int, stages: list[int], depth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, stem, 3, 1, 1, bias=False)
        blocks: list[nn.Module] = []
        for stage, (before, after) in enumerate(pairwise([stem, *stages])):
            blocks.append(_Block(before, after, 1 if stage == 0 else 2))
            blocks += [_Block(after, after, 1) for _ in range(depth - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(stages[-1])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(stages[-1], classes)

    def forward(self, x: Images) -> Logits:
        inner = F.relu(self.bn(self.blocks(self.conv(x))))
        return self.head(self.pool(inner).flatten(1))


class PreActResNet18(_PreAct):
    """Four stages of two blocks with w, 2w, 4w, 8w channels.

    Args:
        classes: K.
        shape: (C, H, W) of an image, any size.
        width: w, 64 by default (11,172,170 parameters for 3 channels and K = 10).
    """

    def __init__(self, classes: int, shape: Shape, width: int = 64) -> None:
        super().__init__(classes, shape[0], width, [width * 2**stage for stage in range(4)], depth=2)


class WideResNet28(_PreAct):
    """Three stages of four blocks with 16w, 32w, 64w channels after a stem of 16: 28 layers, without dropout.

    Args:
        classes: K.
        shape: (C, H, W) of an image, any size.
        width: the factor w, 10 by default (36,479,194 parameters for 3 channels and K = 10).
    """

    def __init__(self, classes: int, shape: Shape, width: int = 10) -> None:
        super().__init__(classes, shape[0], 16, [16 * width * 2**stage for stage in range(3)], depth=4)
