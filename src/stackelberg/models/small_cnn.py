"""The small networks: a convolutional net for digits, LeNet-5, and a multilayer perceptron."""

import math

from torch import nn

from stackelberg.models.shapes import Images, Logits


class SmallCNN(nn.Module):
    """conv w - conv w /2 - conv 2w - conv 2w /2 - fc 8w - fc K, all 3x3 and ReLU; `width` w is 32 by default."""

    def __init__(self, classes: int, shape: tuple[int, int, int], width: int = 32) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        left = 2 * width * math.ceil(height / 4) * math.ceil(breadth / 4)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(left, 8 * width), nn.ReLU(), nn.Linear(8 * width, classes))

    def forward(self, x: Images) -> Logits:
        return self.head(self.features(x))


class MLP(nn.Module):
    """fc w - fc w - fc K with ReLU on the flattened image; `width` w is 256 by default."""

    def __init__(self, classes: int, shape: tuple[int, int, int], width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, classes),
        )  # fmt: skip

    def forward(self, x: Images) -> Logits:
        return self.layers(x)
