"""Residual networks with the stem for small images (3x3, no pooling): ResNet-18 (He et al. 2016, CIFAR stem)."""

import torch.nn.functional as F
from torch import nn

from stackelberg.models.shapes import Images, Logits


class _Block(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):  # noqa: ANN001
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Four stages of two blocks, w, 2w, 4w, 8w channels; `width` w is 64 by default (11.17 M parameters at K = 10)."""

    def __init__(self, classes: int, shape: tuple[int, int, int], width: int = 64) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        stages, before = [], width
        for stage in range(4):
            after = width * 2**stage
            stages += [_Block(before, after, 1 if stage == 0 else 2), _Block(after, after, 1)]
            before = after
        self.blocks = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Images) -> Logits:
        out = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.head(self.pool(out).flatten(1))
