"""Pad-crop and flip, a batch at a time, where the batch lives; the randomness belongs to keys, so a resumed run repeats it."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.threat import chance


@dataclass(frozen=True)
class Augment:
    """Each image moved by up to `pad` pixels each way (zeros come in) and mirrored left to right half of the time.

    Attributes:
        pad: in pixels, >= 0.
        flip: whether to mirror with probability 1/2; wrong for digits and letters.
    """

    pad: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise StackelbergError(f"pad must be >= 0 pixels, got {self.pad}; pass 0 for no crop")

    def __call__(self, x: Shaped[Tensor, "B C H W"], keys: Int64[Tensor, " B"]) -> Shaped[Tensor, "B C H W"]:
        """The moved images, of x's type, from one key per example (see `threat.chance`)."""
        b, c, h, w = x.shape
        draws = chance.uniform(keys, (3,))
        span = 2 * self.pad + 1
        down = (draws[:, 0] * span).long().clamp_(max=span - 1)
        right = (draws[:, 1] * span).long().clamp_(max=span - 1)
        rows = torch.arange(h, device=x.device) + down[:, None]
        columns = torch.arange(w, device=x.device).expand(b, w)
        if self.flip:
            columns = torch.where(draws[:, 2:] < 0.5, columns, w - 1 - columns)
        columns = columns + right[:, None]
        padded = torch.nn.functional.pad(x, (self.pad,) * 4).reshape(b, c, -1)
        place = (rows[:, :, None] * (w + 2 * self.pad) + columns[:, None, :]).view(b, 1, h * w)
        return padded.gather(2, place.expand(b, c, h * w)).view(b, c, h, w)
