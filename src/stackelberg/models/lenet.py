"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, figure 2) as it is used today, and one that normalises."""

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


class NormalizedLeNet(nn.Module):
    """conv5x5 w, mean pool, conv5x5 2w, mean pool, fc 12w, fc K, each with batch norm, also the last, and ReLU between.

    With batch norm after every layer plain gradient steps of one length suit all of them, as a training of few steps
    needs it (so also the networks for digits of Feng, Cai and Zhou 2019).

    Args:
        classes: K.
        shape: (C, H, W) of an image, at least 4x4; padded by 2 where it is too small for a convolution.
        width: w, 20 by default (220,220 parameters for 1x28x28 and K = 10).
    """

    def __init__(self, classes: int, shape: Shape, width: int = 20) -> None:
        super().__init__()
        channels, *sides = shape
        layers: list[nn.Module] = []
        for before, after in ((channels, width), (width, 2 * width)):
            padding = 0 if min(sides) >= 6 else 2
            layers += [nn.Conv2d(before, after, 5, padding=padding), nn.BatchNorm2d(after), nn.ReLU(), nn.AvgPool2d(2)]
            sides = [(side + 2 * padding - 4) // 2 for side in sides]
        self.features = nn.Sequential(*layers)
        inner = 12 * width
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * sides[0] * sides[1], inner),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Linear(inner, classes),
            nn.BatchNorm1d(classes),
        )

    def forward(self, x: Images) -> Logits:
        return self.head(self.features(x))
