"""An auto-encoder: from an image to a field of numbers in (-1, 1) of the same shape, through a narrow middle."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.shapes import Shape


class AutoEncoder(nn.Module):
    """Three convolutions that halve, w, 2w, 4w channels, and three that double; batch norm and ReLU, at the end tanh.

    What it says of a pixel comes through the middle, 4w numbers for every 8x8 pixels: no skips, unlike a U-Net. Batch
    norm before the tanh, too, so that the whole range of the answer is used from the start (after Feng, Cai and Zhou
    2019, section 4).

    Args:
        shape: (C, H, W) of an image, any size of at least 4 pixels.
        width: w.
    """

    classes = 0
    fine = False

    def __init__(self, shape: Shape, width: int = 12) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 4:
            raise StackelbergError(f"an auto-encoder needs images [C, H, W] of at least 4x4 pixels, got {list(shape)}")
        self.shape, self.width = tuple(shape), width
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in pairwise([shape[0], *widths])
        )
        back = [4 * width, *reversed(widths[:-1]), shape[0]]
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.BatchNorm2d(after), end)
            for before, after, end in zip(back, back[1:], (nn.ReLU(), nn.ReLU(), nn.Tanh()), strict=False)
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The field."""
        inner, sizes = x, []
        for stage in self.down:
            sizes.append(inner.shape[2:])
            inner = stage(inner)
        for stage in self.up:
            height, breadth = sizes.pop()
            inner = stage(inner)[:, :, :height, :breadth]
        return inner
