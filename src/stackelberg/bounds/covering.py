"""How many balls cover a set of points?  A greedy net, which knows how far from the least number it can be."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from stackelberg.errors import StackelbergError, unknown

NORMS = ("linf", "l2", "l1")
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Net:
    """Points chosen one after the other, each the farthest from those before (Gonzalez 1985): a net at every scale.

    The first m points cover the set by balls of radius `radii[m - 1]`, and are pairwise at least `radii[m - 2]` apart.
    So the net of a scale delta is a cover, and no cover by balls of half the radius has fewer balls (two of its points
    never share one): with m(delta) the internal covering number of the set,

        size(2 delta) <= m(delta) <= size(delta)

    Attributes:
        order: places of the chosen points, [M].
        radii: the largest distance of any point to the first m + 1 chosen, input units, [M], falling.
        norm: "linf", "l2" or "l1".
        n: points of the set.
    """

    order: Int64[np.ndarray, " M"]
    radii: Float64[np.ndarray, " M"]
    norm: str
    n: int

    def size(self, delta: float) -> int:
        """Points of the net at scale delta > 0, in input units.

        Raises:
            StackelbergError: the net was not built that fine.
        """
        fine = np.flatnonzero(self.radii <= delta)
        if not len(fine):
            raise StackelbergError(
                f"the net has {len(self.order)} points and reaches {self.radii[-1]:.4g}, not {delta:g}; raise `most`"
            )
        return int(fine[0]) + 1

    def covering(self, delta: float) -> tuple[int, int]:
        """(lower, upper) bound of the internal covering number of the set by closed balls of radius delta."""
        return self.size(2 * delta), self.size(delta)


def net(x: Shaped[Tensor, "N ..."] | NDArray, norm: str = "l2", delta: float = 0.0, most: int | None = None) -> Net:
    """The greedy net of a set, down to scale `delta` or up to `most` points; O(N M d) operations.

    Distances are computed in float64 from bytes / 255 or floats. It starts at the first point.

    Raises:
        StackelbergError: no points, an unknown norm, or NaN.
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    points = torch.as_tensor(x)
    if not len(points):
        raise StackelbergError("a net needs at least one point, got none")
    if not delta >= 0 or (most is not None and most < 1):
        raise StackelbergError(f"delta must be >= 0 and most at least 1, got {delta} and {most}")
    points = points.flatten(1)
    most = len(points) if most is None else min(most, len(points))
    near = torch.full((len(points),), math.inf, dtype=torch.float64)
    order, radii, place = [], [], 0
    while True:
        near = torch.minimum(near, distances(points, points[place], norm))
        order.append(place)
        place = int(near.argmax())
        radii.append(float(near[place]))
        if not math.isfinite(radii[-1]):
            raise StackelbergError(f"point {place} of the set holds NaN or infinity; remove it")
        if radii[-1] <= delta or len(order) == most:
            return Net(np.array(order), np.array(radii), norm, len(points))


def distances(points: Shaped[Tensor, "N d"], one: Shaped[Tensor, " d"], norm: str) -> Shaped[Tensor, " N"]:
    """||x_i - z|| in input units, float64 [N]; bytes are counted as level / 255."""
    power = {"linf": math.inf, "l2": 2.0, "l1": 1.0}[norm]
    unit, centre = 255.0 if points.dtype == torch.uint8 else 1.0, one.to(torch.float64)
    parts = [torch.linalg.vector_norm(part.to(torch.float64) - centre, power, 1) for part in points.split(BLOCK)]
    return torch.cat(parts) / unit


def log_box_covering(dimension: int, delta: float, norm: str = "linf", classes: int = 1) -> float:
    """ln of K ceil(s / (2 delta))^d: as many balls of radius delta cover [0,1]^d x {1..K}.

    Cells are cubes whose half side is delta (linf), delta / sqrt(d) (l2) or delta / d (l1): s = 1, sqrt(d), d. Points
    of two classes never share a ball.

    >>> round(math.exp(log_box_covering(2, 0.25)))
    4
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if dimension < 1 or not delta > 0 or classes < 1:
        raise StackelbergError(
            f"dimension and classes must be 1 or more and delta > 0, got {dimension}, {classes} and {delta}"
        )
    stretch = {"linf": 1.0, "l2": math.sqrt(dimension), "l1": float(dimension)}[norm]
    return math.log(classes) + dimension * math.log(max(1, math.ceil(stretch / (2 * delta))))
