"""VGG-16 (Simonyan and Zisserman 2015, configuration D) for small images: batch normalisation, one linear layer."""

from torch import nn

from stackelberg.models.shapes import Images, Logits, Shape

_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (multiple of the width, how many convolutions)


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions (w, 2w, 4w, 8w, 8w), each with batch normalisation and ReLU; a max pool after a stage.

    A map of one pixel is not pooled further, so images below 32 pixels fit too.

    Args:
        classes: K.
        shape: (C, H, W) of an image, any size.
        width: w, 64 by default (14,724,042 parameters for 3 channels and K = 10).
    """

    def __init__(self, classes: int, shape: Shape, width: int = 64) -> None:
        super().__init__()
        before, side = shape[0], min(shape[1:])
        layers: list[nn.Module] = []
        for multiple, count in _STAGES:
            after = multiple * width
            for _ in range(count):
                layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
                before = after
            if side > 1:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Images) -> Logits:
        return self.head(self.pool(self.features(x)).flatten(1))
