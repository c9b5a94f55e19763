"""What of an image does one neuron of a convolution see?  Coefficients on a window, where all others are zero."""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from stackelberg.certify.maps import Convolution


@dataclass(frozen=True, eq=False)
class Window:
    """Coefficients [B, M, C, H, W] that are zero outside one window per row.

    Attributes:
        values: those inside, [B, M, h, w, C]; entries that stick out of the image are not zero yet, they mean nothing.
        corner: place of the window's first entry, [B, M, 2], may be outside of the image.
        side: (H, W).
    """

    values: Tensor
    corner: Tensor
    side: tuple[int, int]

    @staticmethod
    def unit(numbers: Tensor, shape: tuple[int, ...]) -> "Window":
        """+1 at one coordinate per row, numbered [B, M] in the flattened image."""
        channels, height, breadth = shape
        place = numbers % (height * breadth)
        values = F.one_hot(numbers // (height * breadth), channels).double()[:, :, None, None]
        corner = torch.stack([place // breadth, place % breadth], -1)
        return Window(values, corner, (height, breadth))

    @property
    def whole(self) -> bool:
        """Whether the window is as large as the image, so that nothing is saved."""
        return self.values.shape[2] * self.values.shape[3] >= self.side[0] * self.side[1]

    @cached_property
    def _index(self) -> Tensor:
        """Per entry its place in the image, H W for all that stick out, [B, M, h, w]."""
        ends = [
            corner[..., None] + torch.arange(count, device=corner.device)
            for corner, count in zip(self.corner.unbind(-1), self.values.shape[2:4], strict=True)
        ]
        height, breadth = self.side
        rows, columns = ends[0][..., :, None], ends[1][..., None, :]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < breadth)
        return torch.where(inside, rows * breadth + columns, height * breadth)

    def seen(self, maps: Tensor) -> Tensor:
        """What the windows show of images [B or 1, C, H, W], zero outside of them: [B, M, h, w, C]."""
        table = F.pad(maps.flatten(2).transpose(1, 2), (0, 0, 0, 1))  # [B, H W + 1, C], the last row zero
        index = self._index
        if len(table) > 1:
            index = index + torch.arange(len(table), device=index.device).view(-1, 1, 1, 1) * table.shape[1]
        return table.reshape(-1, table.shape[2])[index]

    def with_values(self, values: Tensor) -> "Window":
        """Other coefficients on the same windows."""
        return Window(values, self.corner, self.side)

    def inside(self) -> "Window":
        """With zeros where it sticks out."""
        return self.with_values(self.values * (self._index < self.side[0] * self.side[1])[..., None])

    def before(self, maps: Convolution) -> "Window":
        """Through the transpose of a convolution of one group; all of `values` must be inside the image or zero."""
        weight = maps.weight.permute(0, 2, 3, 1)  # [out, k, k, in]
        _, down, right, channels = weight.shape
        high, wide = self.values.shape[2:4]
        steps, spread = maps.stride, maps.dilation
        parts = (self.values.flatten(0, 1) @ weight.flatten(1)).unflatten(-1, (down, right, channels))
        size = [
            (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip((high, wide), steps, spread, (down, right), strict=True)
        ]
        out = parts.new_zeros(len(parts), *size, channels)
        for i in range(down):
            for j in range(right):
                top, left = i * spread[0], j * spread[1]
                rows = slice(top, top + (high - 1) * steps[0] + 1, steps[0])
                columns = slice(left, left + (wide - 1) * steps[1] + 1, steps[1])
                out[:, rows, columns] += parts[:, :, :, i, j]
        corner = self.corner * self.corner.new_tensor(steps) - self.corner.new_tensor(maps.padding)
        side = maps.before[-2], maps.before[-1]
        return Window(out.unflatten(0, self.values.shape[:2]), corner, side)

    def plus(self, other: "Window") -> "Window":
        """The sum of two that show the same neurons' views: their corners differ by the same for every row."""
        apart = (other.corner - self.corner)[0, 0].tolist()
        first = [min(0, d) for d in apart]
        ends = [
            max(a, d + b)
            for a, d, b in zip(self.values.shape[2:4], apart, other.values.shape[2:4], strict=True)
        ]  # fmt: skip
        size = [e - f for e, f in zip(ends, first, strict=True)]
        total = self.values.new_zeros(*self.values.shape[:2], *size, self.values.shape[4])
        for part, start in ((self, [0, 0]), (other, apart)):
            top, left = start[0] - first[0], start[1] - first[1]
            total[:, :, top : top + part.values.shape[2], left : left + part.values.shape[3]] += part.values
        return Window(total, self.corner + self.corner.new_tensor(first), self.side)

    def dense(self) -> Tensor:
        """All coefficients, [B, M, C, H, W]."""
        batch, rows, _, _, channels = self.values.shape
        out = self.values.new_zeros(batch, rows, self.side[0] * self.side[1] + 1, channels)
        index = self._index.flatten(2)[..., None].expand(-1, -1, -1, channels)
        out.scatter_add_(2, index, self.values.flatten(2, 3))
        return out[:, :, :-1].transpose(2, 3).unflatten(3, self.side)
