"""How does an image look after something that nobody meant as an attack?  Fifteen kinds of corruption, five severities.

The kinds and the meaning of their five severities are those of Hendrycks and Dietterich (ICLR 2019), at the strengths
for images of about 32 pixels a side. Frost, snow and fog are drawn by noise instead of photographs, and lengths are in
pixels. All randomness belongs to the example (`threat.chance`), so batches and their order do not move a result.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from stackelberg.data.dataset import Dataset
from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import chance

SEVERITIES = (1, 2, 3, 4, 5)
BLOCK = 1024
Pixels = Float[Tensor, "B C H W"]
Keys = Int64[Tensor, " B"]


@dataclass(frozen=True)
class Corruption:
    """One kind at one severity; called on bytes [N, C, H, W] or on a data set, it returns the same, corrupted.

    Attributes:
        kind: one of `CORRUPTIONS`.
        severity: 1 (mild) to 5.
        seed: of the noise; with the example's own bytes it decides all of it.
    """

    kind: str
    severity: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in CORRUPTIONS:
            raise unknown("corruption", self.kind, CORRUPTIONS)
        if self.severity not in SEVERITIES:
            raise StackelbergError(f"severity must be 1, 2, 3, 4 or 5, got {self.severity}; 1 is the mildest")

    @property
    def name(self) -> str:
        """For example fog-3."""
        return f"{self.kind}-{self.severity}"

    def images(self, x: UInt8[Tensor, "N C H W"]) -> UInt8[Tensor, "N C H W"]:
        """The corrupted images; blocks of 1024 at a time are floats."""
        corrupt, strengths = CORRUPTIONS[self.kind]
        strength, parts = strengths[self.severity - 1], []
        for part in x.split(BLOCK):
            pixels = part.to(torch.float32) / 255
            parts.append(corrupt(pixels, chance.example_keys(pixels, self.seed), strength))
        return torch.cat([part.clamp_(0, 1).mul_(255).round_().to(torch.uint8) for part in parts]) if parts else x

    def __call__(self, dataset: Dataset) -> Dataset:
        """The same labels, the images corrupted.

        Raises:
            StackelbergError: the data set holds no images.
        """
        if dataset.x.dim() != 4:
            raise StackelbergError(f"{dataset.name} holds {dataset.kind}, a corruption needs images; pass an image set")
        return replace(dataset, x=self.images(dataset.x), name=f"{dataset.name} {self.name}")


def _gaussian_noise(x: Pixels, keys: Keys, deviation: float) -> Pixels:
    return x + deviation * chance.normal(keys, tuple(x.shape[1:]))


def _shot_noise(x: Pixels, keys: Keys, photons: float) -> Pixels:
    """Poisson(photons * x) / photons, by its normal approximation; each strength has 50 photons or more at white."""
    return x + (x / photons).sqrt() * chance.normal(keys, tuple(x.shape[1:]))


def _impulse_noise(x: Pixels, keys: Keys, share: float) -> Pixels:
    """Salt and pepper: `share` of the values becomes 0 or 1."""
    u = chance.uniform(keys, tuple(x.shape[1:]))
    return torch.where(u < share / 2, 0.0, torch.where(u > 1 - share / 2, 1.0, x))


def _convolved(x: Pixels, kernel: Float[Tensor, "k k"]) -> Pixels:
    pad = kernel.shape[0] // 2
    flat = F.pad(x, (pad,) * 4, mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(flat, kernel[None, None]).view_as(x)


def _smoothed(x: Pixels, deviation: float) -> Pixels:
    reach = max(1, math.ceil(3 * deviation))
    line = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * deviation**2))
    line = line / line.sum()
    flat = F.pad(x, (reach,) * 4, mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(F.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1)).view_as(x)


def _defocus_blur(x: Pixels, keys: Keys, radius: float) -> Pixels:
    """The mean over a disk, its rim weighed by the share of each pixel inside (nine points a side)."""
    reach = math.ceil(radius)
    fine = (torch.arange((2 * reach + 1) * 9) + 0.5) / 9 - reach - 0.5
    inside = (fine[:, None] ** 2 + fine[None] ** 2 <= radius**2).float()
    kernel = F.avg_pool2d(inside[None, None], 9)[0, 0]
    return _convolved(x, kernel / kernel.sum())


def _glass_blur(x: Pixels, keys: Keys, strength: tuple[float, float, int]) -> Pixels:
    """Smoothed, `share` of the pixels swapped with one of their 8 neighbours, `rounds` times, smoothed again."""
    deviation, share, rounds = strength
    x, (height, width) = _smoothed(x, deviation), x.shape[2:]
    rows = torch.arange(len(x))
    for step in range(rounds):
        moves = chance.integers(keys, 3, (2, height, width), stream=2 * step) - 1
        moves = moves * (chance.uniform(keys, (1, height, width), stream=2 * step + 1) < share)
        for i in range(height - 1, -1, -1):
            for j in range(width - 1, -1, -1):
                there = (i + moves[:, 0, i, j]).clamp(0, height - 1), (j + moves[:, 1, i, j]).clamp(0, width - 1)
                other = x[rows, :, *there]
                x[rows, :, *there] = x[:, :, i, j].clone()
                x[:, :, i, j] = other
    return _smoothed(x, deviation)


def _sampled(x: Pixels, down: Tensor, right: Tensor) -> Pixels:
    """x at (row + down, column + right), in pixels, bilinear, the border repeated; fields [B or 1, H or 1, W or 1]."""
    height, width = x.shape[2:]
    row = torch.arange(height, dtype=torch.float32)[None, :, None] + down
    column = torch.arange(width, dtype=torch.float32)[None, None] + right
    row, column = torch.broadcast_tensors(row, column)
    grid = torch.stack(((2 * column + 1) / width - 1, (2 * row + 1) / height - 1), -1)
    return F.grid_sample(x, grid.expand(len(x), height, width, 2), padding_mode="border", align_corners=False)


def _streaked(x: Pixels, angle: Float[Tensor, " B"], length: float, deviation: float) -> Pixels:
    """Smoothed along one direction: weights exp(-t^2 / (2 deviation^2)), |t| <= length / 2 pixels."""
    total, weights = torch.zeros_like(x), 0.0
    for t in range(-int(length / 2), int(length / 2) + 1):
        weight = math.exp(-(t**2) / (2 * deviation**2))
        total += weight * _sampled(x, (t * angle.sin())[:, None, None], (t * angle.cos())[:, None, None])
        weights += weight
    return total / weights


def _motion_blur(x: Pixels, keys: Keys, strength: tuple[float, float]) -> Pixels:
    angle = (chance.uniform(keys, ()) - 0.5) * math.pi / 2
    return _streaked(x, angle, *strength)


def _zoomed(x: Pixels, factor: float) -> Pixels:
    height, width = x.shape[2:]
    row = (torch.arange(height) - (height - 1) / 2)[None, :, None] * (1 / factor - 1)
    column = (torch.arange(width) - (width - 1) / 2)[None, None] * (1 / factor - 1)
    return _sampled(x, row, column)


def _zoom_blur(x: Pixels, keys: Keys, largest: float) -> Pixels:
    """The mean of the image and of its enlargements by 1.01, 1.02, .., `largest`."""
    factors = [1 + 0.01 * k for k in range(round(100 * (largest - 1)) + 1)]
    return torch.stack([_zoomed(x, factor) for factor in factors]).mean(0)


def _clouds(keys: Keys, shape: tuple[int, int], roughness: float, stream: int = 0) -> Float[Tensor, "B 1 H W"]:
    """Noise of all scales in [0, 1]: octaves of random grids, each `roughness` times as high as the one before."""
    total, height, cells, octave = torch.zeros(len(keys), 1, *shape), 1.0, 2, 0
    while cells <= max(shape):
        grid = chance.uniform(keys, (1, cells + 1, cells + 1), stream=stream + octave)
        total += height * F.interpolate(grid, size=shape, mode="bicubic", align_corners=True)
        height, cells, octave = height * roughness, 2 * cells, octave + 1
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    return (total - low) / (high - low).clamp(min=1e-6)


def _fog(x: Pixels, keys: Keys, strength: tuple[float, float]) -> Pixels:
    """(x + amount * clouds) * top / (top + amount): fog is added and the range kept."""
    amount, roughness = strength
    top = x.amax((1, 2, 3), keepdim=True)
    top = torch.where(top > 0, top, 1.0)
    return (x + amount * _clouds(keys, (x.shape[2], x.shape[3]), roughness)) * top / (top + amount)


def _frost(x: Pixels, keys: Keys, strength: tuple[float, float]) -> Pixels:
    """keep * x + amount * crystals: ridges of noise, bright where two of its slopes meet."""
    keep, amount = strength
    shape = (x.shape[2], x.shape[3])
    ridges = 1 - (2 * _clouds(keys, shape, 0.7) - 1).abs()
    return keep * x + amount * ridges * (0.5 + 0.5 * _clouds(keys, shape, 0.9, stream=16))


def _snow(x: Pixels, keys: Keys, strength: tuple[float, float, float]) -> Pixels:
    """Streaks of falling flakes over an image that whitens: keep * x + (1 - keep) * max(x, light) + flakes."""
    share, length, keep = strength
    flakes = (chance.uniform(keys, (1, x.shape[2], x.shape[3])) < share).float()
    angle = math.pi / 2 + (chance.uniform(keys, (), stream=1) - 0.5) * math.pi / 4
    streaks = _streaked(flakes, angle, length, length / 2) * math.sqrt(length)
    light = 0.5 + 0.5 * x.mean(1, keepdim=True)
    return keep * x + (1 - keep) * torch.maximum(x, light) + streaks.clamp(max=1)


def _brightness(x: Pixels, keys: Keys, more: float) -> Pixels:
    """The value of hue, saturation, value grows by `more`."""
    value = x.amax(1, keepdim=True)
    wanted = (value + more).clamp(max=1)
    return torch.where(value > 0, x * wanted / value.clamp(min=1e-6), wanted.expand_as(x))


def _contrast(x: Pixels, keys: Keys, share: float) -> Pixels:
    mean = x.mean((2, 3), keepdim=True)
    return mean + share * (x - mean)


def _elastic(x: Pixels, keys: Keys, strength: tuple[float, float]) -> Pixels:
    """Moved by a smooth random field of root mean square `size` pixels, smooth over `deviation` pixels."""
    size, deviation = strength
    field = _smoothed(chance.normal(keys, (2, x.shape[2], x.shape[3])), deviation)
    field = field * size / field.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    return _sampled(x, field[:, 0], field[:, 1])


def _pixelate(x: Pixels, keys: Keys, share: float) -> Pixels:
    side = [max(1, round(share * length)) for length in x.shape[2:]]
    return F.interpolate(F.interpolate(x, size=side, mode="area"), size=list(x.shape[2:]), mode="area")


def _jpeg(x: Pixels, keys: Keys, quality: int) -> Pixels:
    levels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    decoded = []
    for image in levels[..., 0] if x.shape[1] == 1 else levels:  # the codec takes one image at a time
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)).reshape(image.shape))
    pixels = torch.from_numpy(np.stack(decoded)).to(torch.float32) / 255
    return pixels[:, None] if x.shape[1] == 1 else pixels.permute(0, 3, 1, 2).contiguous()


CORRUPTIONS: dict[str, tuple[Callable[..., Pixels], tuple]] = {
    "gaussian-noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot-noise": (_shot_noise, (500.0, 250.0, 100.0, 75.0, 50.0)),
    "impulse-noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus-blur": (_defocus_blur, (0.7, 0.9, 1.2, 1.6, 2.2)),
    "glass-blur": (_glass_blur, ((0.3, 0.3, 1), (0.4, 0.5, 1), (0.4, 1.0, 1), (0.45, 1.0, 2), (0.5, 1.0, 3))),
    "motion-blur": (_motion_blur, ((6.0, 1.0), (6.0, 1.5), (6.0, 2.0), (8.0, 2.5), (9.0, 3.5))),
    "zoom-blur": (_zoom_blur, (1.05, 1.10, 1.15, 1.20, 1.25)),
    "snow": (_snow, ((0.01, 4.0, 0.95), (0.02, 5.0, 0.9), (0.03, 5.0, 0.85), (0.045, 6.0, 0.8), (0.06, 7.0, 0.7))),
    "frost": (_frost, ((1.0, 0.15), (1.0, 0.25), (0.95, 0.4), (0.9, 0.55), (0.8, 0.75))),
    "fog": (_fog, ((0.2, 0.35), (0.5, 0.35), (0.75, 0.4), (1.0, 0.5), (1.5, 0.6))),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic-transform": (_elastic, ((0.5, 4.0), (0.8, 3.0), (1.0, 2.5), (1.2, 2.0), (1.5, 1.5))),
    "pixelate": (_pixelate, (0.95, 0.8, 0.65, 0.45, 0.3)),
    "jpeg-compression": (_jpeg, (80, 65, 50, 35, 20)),
}
"""Each kind: what it does to floats in [0, 1], and its strength at severities 1 to 5."""


def every(seed: int = 0, severities: tuple[int, ...] = SEVERITIES) -> list[Corruption]:
    """All fifteen kinds at the given severities."""
    return [Corruption(kind, severity, seed) for kind in CORRUPTIONS for severity in severities]
