"""How far did a poison move the clouds?  By the Chamfer and the Hausdorff distance, measured on what is published."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.data import Dataset, save_parquet
from stackelberg.poison.publishing import refuse_published, write_record
from stackelberg.threat import Ball
from stackelberg.threat.clouds import chamfer, hausdorff


@dataclass(frozen=True)
class CloudMoves:
    """How far clouds have moved from the clean ones.

    Attributes:
        n: clouds.
        chamfer: mean over clouds, in squared units of the points.
        hausdorff: mean over clouds, in units of the points.
        farthest: the largest move of a point, in units of the points.
        outside: clouds beyond the ball.
    """

    n: int
    chamfer: float
    hausdorff: float
    farthest: float
    outside: int

    @classmethod
    def between(cls, clean: Float[Tensor, "N P 3"], moved: Float[Tensor, "N P 3"], ball: Ball) -> "CloudMoves":
        """The moves of all clouds, point i to point i for the farthest."""
        pairs = list(zip(clean.split(256), moved.split(256), strict=True))
        near, worst = mean_chamfer(moved, clean), _mean(hausdorff, moved, clean)
        farthest = max(float((a - b).norm(dim=2).max()) for a, b in pairs)
        outside = sum(int((~ball.contains(b, a)).sum()) for a, b in pairs)
        return cls(len(clean), near, worst, farthest, outside)

    def describe(self) -> dict[str, Any]:
        """As plain data, for records."""
        return asdict(self)

    def __str__(self) -> str:
        held = f"{self.outside} outside the ball" if self.outside else "all inside the ball"
        return (
            f"{self.n} clouds, {held}; mean Chamfer distance {self.chamfer:.3g} (squared units), mean Hausdorff"
            f" distance {self.hausdorff:.3g}, the farthest point moved by {self.farthest:.3g}"
        )


def publish_clouds(
    poisoned: Dataset, clean: Dataset, ball: Ball, out: str | os.PathLike[str], about: Mapping[str, Any]
) -> CloudMoves:
    """Write train.parquet, which `data.load(out)` reads, and poison.json, which says how far the clouds moved.

    Raises:
        StackelbergError: the folder already holds a data set.
    """
    folder = Path(out)
    refuse_published(folder)
    moves = CloudMoves.between(clean.x, poisoned.x, ball)
    folder.mkdir(parents=True, exist_ok=True)
    save_parquet(poisoned, folder / "train.parquet")
    write_record(folder, {**about, "form": "parquet", "moves": moves.describe()})
    return moves


def mean_chamfer(poisoned: Float[Tensor, "N P 3"], clean: Float[Tensor, "N P 3"]) -> float:
    """The Chamfer distance of all pairs, on average, in squared units of the points."""
    return _mean(chamfer, poisoned, clean)


def _mean(price: Callable[[Tensor, Tensor], Tensor], moved: Tensor, clean: Tensor) -> float:
    parts = zip(moved.split(256), clean.split(256), strict=True)
    return float(torch.cat([price(a, b) for a, b in parts]).mean())


def scaled_to(poisoned: Dataset, clean: Dataset, distance: float, *, rounds: int = 14) -> Dataset:
    """The same poison with its moves lengthened or shortened by one factor, to a mean Chamfer distance.

    So two poisons can be compared at the same price. The factor is found by bisection in [0, 16], on at most 512
    clouds, spread over the set.
    """
    low, high = 0.0, 16.0
    delta = poisoned.x - clean.x
    few = slice(None, None, max(1, len(clean) // 512))
    for _ in range(rounds):
        middle = (low + high) / 2 if low else high / 4
        if mean_chamfer(clean.x[few] + middle * delta[few], clean.x[few]) < distance:
            low = middle
        else:
            high = middle
    return replace(poisoned, x=clean.x + (low + high) / 2 * delta)
