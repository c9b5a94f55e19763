"""A small convolutional network for digits, that trains adversarially in minutes on a CPU."""

import math

from torch import nn

from stackelberg.models.shapes import Images, Logits, Shape


class SmallCNN(nn.Module):
    """conv w, conv w halving, conv 2w, conv 2w halving (all 3x3), fc 8w, fc K, with ReLU between.

    Strided convolutions halve and nothing normalises: every layer is linear or ReLU, easy to bound.

    Args:
        classes: K.
        shape: (C, H, W) of an image, any size.
        width: w, 32 by default (870,634 parameters for 1x28x28 and K = 10).
    """

    def __init__(self, classes: int, shape: Shape, width: int = 32) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        left = 2 * width * math.ceil(height / 4) * math.ceil(breadth / 4)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(left, 8 * width), nn.ReLU(), nn.Linear(8 * width, classes))

    def forward(self, x: Images) -> Logits:
        return self.head(self.features(x))
