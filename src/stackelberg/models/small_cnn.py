"""A small convolutional network for digits, that trains adversarially in minutes on a CPU."""

import math

from torch import nn

from stackelberg.models.shapes import Images, Logits, Shape


class SmallCNN(nn.Module):
    """conv w 4x4 halving, conv 2w 3x3 halving, conv 2w 3x3, fc 8w, fc K, with ReLU between.

    An image of at most 16 pixels a side keeps its size in the first layer, a 3x3 convolution there. Strided
    convolutions halve and nothing normalises: every layer is linear or ReLU, which bounds pass easily.

    Args:
        classes: K.
        shape: (C, H, W) of an image, any size.
        width: w, 32 by default (861,610 parameters for 1x28x28 and K = 10).
    """

    def __init__(self, classes: int, shape: Shape, width: int = 32) -> None:
        super().__init__()
        channels, height, breadth = shape
        tiny = min(height, breadth) <= 16
        stem = nn.Conv2d(channels, width, 3, padding=1) if tiny else nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.features = nn.Sequential(
            stem,
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
        )
        shrunk = [math.ceil(side / 2) if tiny else math.ceil((side // 2) / 2) for side in (height, breadth)]
        left = 2 * width * math.prod(shrunk)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(left, 8 * width), nn.ReLU(), nn.Linear(8 * width, classes))

    def forward(self, x: Images) -> Logits:
        return self.head(self.features(x))
