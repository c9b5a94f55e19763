"""A multilayer perceptron."""

import math

from torch import nn

from stackelberg.models.shapes import Images, Logits, Shape


class MLP(nn.Module):
    """fc w, fc w, fc K with ReLU between, on the flattened image.

    Args:
        classes: K.
        shape: (C, H, W) of an image, any size.
        width: w, 256 by default.
    """

    def __init__(self, classes: int, shape: Shape, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, classes),
        )

    def forward(self, x: Images) -> Logits:
        return self.layers(x)
