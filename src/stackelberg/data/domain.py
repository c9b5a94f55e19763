"""How does the same task look elsewhere?  Turned, resized, or with its classes in other shares."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from stackelberg.data.corruption import BLOCK
from stackelberg.data.dataset import Dataset
from stackelberg.errors import StackelbergError


def rotated(dataset: Dataset, degrees: float) -> Dataset:
    """Every image turned counter-clockwise about its centre, bilinear; zeros come in at the corners."""
    if not math.isfinite(degrees):
        raise StackelbergError(f"degrees must be a number, got {degrees}")
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
    height, width = _sides(dataset)
    if height != width:
        raise StackelbergError(f"{dataset.name}: only square images can be turned, got {height} x {width}; resize them")

    def turned(part: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(turn.expand(len(part), 2, 3), list(part.shape), align_corners=False)
        return F.grid_sample(part, grid, align_corners=False)

    return replace(dataset, x=_by_blocks(dataset.x, turned), name=f"{dataset.name} turned by {degrees:g} degrees")


def resized(dataset: Dataset, side: int, margin: int = 0) -> Dataset:
    """Every image at `side` x `side` pixels, the outer `margin` of them zero: area means down, bilinear up.

    scikit-learn's digits at side 28, margin 2 look like MNIST's; MNIST at side 8 like scikit-learn's.
    """
    height, width = _sides(dataset)
    inner = side - 2 * margin
    if inner < 1 or margin < 0:
        raise StackelbergError(f"side must leave pixels within the margin, got side={side} and margin={margin}")
    down = inner <= min(height, width)

    def scaled(part: torch.Tensor) -> torch.Tensor:
        small = (
            F.interpolate(part, size=[inner, inner], mode="area")
            if down
            else F.interpolate(part, size=[inner, inner], mode="bilinear", align_corners=False)
        )
        return F.pad(small, (margin,) * 4)

    return replace(dataset, x=_by_blocks(dataset.x, scaled), name=f"{dataset.name} at {side} pixels")


def reweighted_classes(dataset: Dataset, shares: Sequence[float], seed: int = 0) -> Dataset:
    """Of each class a random `shares[k]` of its examples (at least one where the share is positive): label shift.

    Raises:
        StackelbergError: not one share in [0, 1] for each class, or no example is left.
    """
    if len(shares) != len(dataset.classes) or not all(0 <= share <= 1 for share in shares):
        raise StackelbergError(
            f"shares must be {len(dataset.classes)} numbers in [0, 1], one for each class, got {list(shares)}"
        )
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(dataset)))
    kept = []
    for label, share in enumerate(shares):
        places = order[dataset.y[order] == label]
        kept.append(places[: math.ceil(share * len(places))])
    places = torch.cat(kept).sort().values
    if not len(places):
        raise StackelbergError(f"no example of {dataset.name} is left; give some class a share above 0")
    return replace(dataset.take(places), name=f"{dataset.name} in other shares")


def _sides(dataset: Dataset) -> tuple[int, int]:
    if dataset.x.dim() != 4:
        raise StackelbergError(f"{dataset.name} holds {dataset.kind}, not images; pass an image set")
    return dataset.x.shape[2], dataset.x.shape[3]


def _by_blocks(x: torch.Tensor, move) -> torch.Tensor:
    parts = [move(part.to(torch.float32)).clamp_(0, 255).round_().to(torch.uint8) for part in x.split(BLOCK)]
    return torch.cat(parts)
