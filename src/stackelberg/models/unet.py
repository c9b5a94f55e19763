"""A U-Net: from an image, and its label where it is told one, to a field of numbers in (-1, 1) of the same shape."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.shapes import Shape


class _Pair(nn.Sequential):
    """Twice conv 3x3, batch norm, ReLU."""

    def __init__(self, before: int, after: int) -> None:
        layers: list[nn.Module] = []
        for count in (before, after):
            layers += [nn.Conv2d(count, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """Stages of w, 2w, 4w, 8w channels, each halving by a mean, and back up by bilinear interpolation and skips.

    The last layer is a 1x1 convolution with batch norm before the tanh, so that the whole range of the answer is used
    from the start (Liu, Wang and Gao 2024, after Ronneberger, Fischer and Brox 2015). With `classes` two learned coarse
    maps of each label are added, to the coarsest features and, interpolated, to the answer before the tanh. The second
    begins as normal numbers of deviation `spoken`: with 0 nothing tells the labels apart at the start.

    Args:
        shape: (C, H, W) of an image, any size of at least 4 pixels.
        width: w, 64 in the paper.
        classes: K, how many labels it may be told; 0 for a network that sees the image alone.
        spoken: see above.
        fine: whether the second map has the image's own size and speaks alone at the start (batch norm's gain is 0).
    """

    def __init__(
        self, shape: Shape, width: int = 64, classes: int = 0, spoken: float = 1.5, fine: bool = False
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 4:
            raise StackelbergError(f"a U-Net needs images [C, H, W] of at least 4x4 pixels, got {list(shape)}")
        self.shape, self.width, self.classes, self.fine = tuple(shape), width, classes, fine
        halvings = min(3, min(shape[1:]).bit_length() - 2)
        widths = [width * 2**stage for stage in range(halvings + 1)]
        self.stem = _Pair(shape[0], width)
        self.down = nn.ModuleList(_Pair(before, after) for before, after in pairwise(widths))
        self.up = nn.ModuleList(_Pair(after + before, before) for before, after in reversed(list(pairwise(widths))))
        side = [max(1, length // 2**halvings) for length in shape[1:]]
        if classes:
            self.inner_label = nn.Parameter(torch.randn(classes, widths[-1], *side))
            self.outer_label = nn.Parameter(spoken * torch.randn(classes, shape[0], *(shape[1:] if fine else side)))
        self.last = nn.Sequential(nn.Conv2d(width, shape[0], 1, bias=False), nn.BatchNorm2d(shape[0]))
        if fine:
            nn.init.zeros_(self.last[1].weight)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Float[Tensor, "B C H W"], y: Int64[Tensor, " B"] | None = None) -> Float[Tensor, "B C H W"]:
        """The field; `y` is asked for exactly by a network that sees labels."""
        if (y is None) == bool(self.classes):
            told = "the labels, too" if self.classes else "the images alone"
            raise StackelbergError(f"this U-Net was made for {self.classes} labels: pass it {told}")
        features = [self.stem(x)]
        for stage in self.down:
            features.append(stage(F.avg_pool2d(features[-1], 2)))
        inner = features.pop()
        if y is not None:
            inner = inner + F.interpolate(self.inner_label[y], size=inner.shape[2:])
        for stage in self.up:
            skip = features.pop()
            wide = F.interpolate(inner, size=skip.shape[2:], mode="bilinear", align_corners=False)
            inner = stage(torch.cat([wide, skip], 1))
        answer = self.last(inner)
        if y is not None:
            told = self.outer_label[y]
            answer = answer + F.interpolate(told, size=answer.shape[2:], mode="bilinear", align_corners=False)
        return answer.tanh()
