"""Pad-crop and flip: a batch at a time, where the batch lives, with randomness that belongs to keys."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int64, Shaped
from torch import Generator, Tensor

from stackelberg.errors import StackelbergError
from stackelberg.threat import chance


@dataclass(frozen=True)
class Augment:
    """Each image moved by -pad..pad pixels along both axes (zeros come in), and mirrored left to right half the time.

    Attributes:
        pad: in pixels, >= 0; 0 for no move.
        flip: whether to mirror with probability 1/2; wrong for digits and letters.
    """

    pad: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise StackelbergError(f"pad must be >= 0 pixels, got {self.pad}; pass 0 for no crop")

    def __call__(
        self, x: Shaped[Tensor, "B C H W"], keys: Int64[Tensor, " B"] | Generator
    ) -> Shaped[Tensor, "B C H W"]:
        """The moved images, of x's type and on its device.

        Args:
            x: images, as bytes or as floats.
            keys: one 64-bit number per image (see `threat.chance`): the same keys move the images the same way,
                whatever the batch, so that a resumed run repeats itself; or a generator to draw them from.
        """
        if isinstance(keys, Generator):
            drawn = torch.randint(-(2**63), 2**63 - 1, (len(x),), generator=keys, device=keys.device)
            keys = drawn.to(x.device)
        draws = chance.integers(keys, 2 * self.pad + 1, (2,))
        height, breadth = x.shape[2:]
        rows = draws[:, :1] + torch.arange(height, device=x.device)
        columns = draws[:, 1:] + torch.arange(breadth, device=x.device)
        if self.flip:
            mirrored = chance.uniform(keys, (1,), stream=1) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        # one gather: its gradient is no larger than the image, that of a choice among all windows is their number times
        places = (rows[:, :, None] * (breadth + 2 * self.pad) + columns[:, None, :]).flatten(1)
        padded = F.pad(x, (self.pad,) * 4).flatten(2)
        return padded.gather(2, places[:, None].expand(-1, x.shape[1], -1)).view(x.shape)
