"""Who would see it?  How far changed images are from the first ones: linf, l2 and structural similarity."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Stealth:
    """How visible a change is.

    Attributes:
        linf: the largest change of a pixel in any image, input units.
        l2: the mean over the images of the l2 norm of the change, input units.
        ssim: the mean over the images of the structural similarity, 1 for no change.
    """

    linf: float
    l2: float
    ssim: float


def stealth(before: UInt8[Tensor, "B C H W"], after: UInt8[Tensor, "B C H W"]) -> Stealth:
    """The measures of stored images against those they were made from, one by one."""
    a, b = before.float() / 255, after.float() / 255
    change = (b - a).flatten(1)
    similar = float(ssim(a, b).mean())
    return Stealth(float(change.abs().max()), float(change.norm(dim=1).mean()), similar)


def ssim(a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13), images in [0, 1].

    A Gaussian window of deviation 1.5 over 11 pixels, or over the image's odd side where that is smaller; K_1 = .01,
    K_2 = .03; the mean over windows that lie in the image, and over channels.
    """
    side = min(11, *((size - 1) // 2 * 2 + 1 for size in a.shape[2:]))
    place = torch.arange(side, dtype=a.dtype) - side // 2
    row = torch.exp(-(place**2) / (2 * 1.5**2))
    row = row / row.sum()
    channels = a.shape[1]
    window = (row[:, None] * row).expand(channels, 1, side, side).to(a.device)

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(z, window, groups=channels)

    m_a, m_b = mean(a), mean(b)
    v_a, v_b, v_ab = mean(a * a) - m_a**2, mean(b * b) - m_b**2, mean(a * b) - m_a * m_b
    c_1, c_2 = 0.01**2, 0.03**2
    value = (2 * m_a * m_b + c_1) * (2 * v_ab + c_2) / ((m_a**2 + m_b**2 + c_1) * (v_a + v_b + c_2))
    return value.flatten(1).mean(1)
