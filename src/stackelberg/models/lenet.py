"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, figure 2), as it is used today: ReLU, max pooling, plain softmax."""

from torch import nn

from stackelberg.models.shapes import Images, Logits, Shape


class LeNet5(nn.Module):
    """conv5x5 w, pool, conv5x5 8w/3, pool, fc 120, fc 84, fc K.

    An image below 32 pixels is padded by 2, and so is a feature map too small for its convolution.

    Args:
        classes: K.
        shape: (C, H, W) of an image, at least 4x4.
        width: w, 6 by default (61,706 parameters for 1x28x28 and K = 10).
    """

    def __init__(self, classes: int, shape: Shape, width: int = 6) -> None:
        super().__init__()
        channels, *sides = shape
        wide = 8 * width // 3
        layers: list[nn.Module] = []
        for before, after, enough in ((channels, width, 32), (width, wide, 6)):
            padding = 0 if min(sides) >= enough else 2
            layers += [nn.Conv2d(before, after, 5, padding=padding), nn.ReLU(), nn.MaxPool2d(2)]
            sides = [(side + 2 * padding - 4) // 2 for side in sides]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(wide * sides[0] * sides[1], 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def forward(self, x: Images) -> Logits:
        return self.head(self.features(x))
