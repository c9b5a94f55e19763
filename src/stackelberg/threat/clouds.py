"""What does an adversary pay for moving a cloud of points?  Chamfer and Hausdorff distances, by nearest neighbours.

A cloud is a set: its points have no order, so a distance compares each point with the nearest one of the other cloud.
The nearest ones are found by one matrix product per pair of clouds, in parts that fit the cache, and the distance to
them is then computed from the coordinates themselves: exact where two clouds nearly agree, and differentiable.
"""

from typing import TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stackelberg.errors import StackelbergError

Cloud: TypeAlias = Float[Tensor, "B P 3"]
Other: TypeAlias = Float[Tensor, "B Q 3"]

ENTRIES = 2**21
"""So many squared distances are held at once: 8 MiB in float32."""


def neighbours(
    points: Float[Tensor, "B P D"], k: int, others: Float[Tensor, "B Q D"] | None = None, *, ordered: bool = True
) -> Int64[Tensor, "B P k"]:
    """The places of the k nearest of `others` to each point, nearest first if `ordered`; of ties any.

    Without `others` the points themselves are searched, and each point is its own first neighbour (distance 0).

    Args:
        points: [B, P, D], any unit.
        k: how many, 1..Q.
        others: [B, Q, D] in the same unit.
        ordered: False where the order among the k does not matter, which is faster.

    Raises:
        StackelbergError: k is not in 1..Q, or a coordinate is NaN.
    """
    to = points if others is None else others
    if not 1 <= k <= to.shape[1]:
        raise StackelbergError(f"k must lie in 1..{to.shape[1]} (the points to choose from), got {k}; pass fewer")
    found = [_nearest(a, b, k, ordered) for a, b in _parts(points, to)]
    return torch.cat(found) if found else points.new_empty((0, points.shape[1], k), dtype=torch.long)


def _parts(points: Tensor, others: Tensor) -> list[tuple[Tensor, Tensor]]:
    size = max(1, ENTRIES // max(1, points.shape[1] * others.shape[1]))
    return list(zip(points.split(size), others.split(size), strict=True)) if len(points) else []


def _nearest(a: Tensor, b: Tensor, k: int, ordered: bool) -> Tensor:
    """argmin_j |a_i - b_j|^2 = argmin_j |b_j|^2 / 2 - <a_i, b_j>, around the middle of b, where rounding is least."""
    middle = b.mean(1, keepdim=True)
    a, b = a - middle, b - middle
    half = b.square().sum(2)[:, None, :] / 2
    apart = torch.baddbmm(half, a, b.transpose(1, 2), alpha=-1)
    return apart.argmin(2, keepdim=True) if k == 1 else apart.topk(k, dim=2, largest=False, sorted=ordered).indices


def gathered(rows: Float[Tensor, "B Q D"], places: Int64[Tensor, "B P k"]) -> Float[Tensor, "B P k D"]:
    """rows[b, places[b, p, j]] for all b, p, j; differentiable in the rows."""
    batch, count, width = rows.shape
    first = torch.arange(batch, device=rows.device).view(-1, 1, 1) * count
    return rows.reshape(-1, width)[(places + first).flatten()].view(*places.shape, width)


def squared_to_nearest(cloud: Cloud, other: Other) -> Float[Tensor, "B P"]:
    """min_j |cloud_i - other_j|^2 of each point; differentiable in both (almost everywhere)."""
    place = neighbours(cloud, 1, other)
    return (cloud - gathered(other, place)[:, :, 0]).square().sum(2)


def chamfer(cloud: Cloud, other: Other) -> Float[Tensor, " B"]:
    """1/2 (mean_i min_j |a_i - b_j|^2 + mean_j min_i |a_i - b_j|^2), in squared units of the points.

    The average of both directions and the mean over points, as the FC-EM code has it (Zhu et al. 2024); the sum over
    points is P times as large. Differentiable in both clouds.
    """
    return (squared_to_nearest(cloud, other).mean(1) + squared_to_nearest(other, cloud).mean(1)) / 2


def hausdorff(cloud: Cloud, other: Other) -> Float[Tensor, " B"]:
    """max(max_i min_j |a_i - b_j|, max_j min_i |a_i - b_j|), in units of the points; differentiable."""
    worst = torch.maximum(squared_to_nearest(cloud, other).amax(1), squared_to_nearest(other, cloud).amax(1))
    tiny = torch.finfo(worst.dtype).tiny
    return torch.where(worst > 0, worst.clamp(min=tiny).sqrt(), worst)


def spacing(cloud: Cloud, k: int = 5) -> Float[Tensor, "B P"]:
    """Mean distance of each point to its k nearest other points, in units of the points: how dense the cloud is."""
    near = neighbours(cloud, k + 1)[:, :, 1:]
    return (cloud[:, :, None] - gathered(cloud, near)).norm(dim=3).mean(2)
