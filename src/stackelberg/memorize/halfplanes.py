"""Is there a region for some points of the plane?  By trying every direction, with no program and no bound on weights.

The independent second method for `hardness` in two dimensions. Of all half-planes with one outer normal that hold a
class, the smallest leaves out the most of the other one, and which points those are changes only at normals orthogonal
to a difference of two points. So one normal between each two neighbours of that finite list stands for all of them.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64


def ruled_out(x: Float64[np.ndarray, "N 2"], y: Int64[np.ndarray, " N"], radius: float, grid: int = 3) -> bool:
    """Whether no two-neuron network, of whatever weights, is right on grid x grid points of each of N closed balls.

    True: no robust memorizer. False: one of these points there may be; the balls have more of them.
    """
    ticks = np.linspace(-radius, radius, grid)
    offsets = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    points = (x[:, None] + offsets).reshape(-1, 2)
    labels = np.repeat(y, len(offsets))
    return not any(_region(points[labels == inside], points[labels != inside]) for inside in (0, 1))


def _region(held: Float64[np.ndarray, "H 2"], outside: Float64[np.ndarray, "P 2"]) -> bool:
    """Whether a wedge or a cut holds the first points and leaves out the others."""
    first_angle, last_angle, left_out = _half_planes(held, outside)
    either = left_out[:, None] | left_out[None]
    if either.all(2).any():
        return True  # a wedge, or a strip
    turned = (first_angle[None] - last_angle[:, None]) % (2 * np.pi)  # counterclockwise, at least
    for first in range(len(left_out)):
        ahead = (np.arange(len(left_out)) != first) & (turned[first] < np.pi)
        between = turned[first]
        for second in np.flatnonzero(ahead):
            missing = ~either[first, second]
            third = ahead & (between < between[second])
            if left_out[third][:, missing].all(1).any():
                return True  # a cut: the third normal lies between the two
    return False


def _half_planes(
    held: Float64[np.ndarray, "H 2"], outside: Float64[np.ndarray, "P 2"]
) -> tuple[Float64[np.ndarray, " A"], Float64[np.ndarray, " A"], Bool[np.ndarray, "A P"]]:
    """(first angle, last angle of the outer normals, which points the smallest half-plane round `held` leaves out), for
    each run of normals that leave out the same ones."""
    every = np.concatenate([held, outside])
    step = (every[:, None] - every[None]).reshape(-1, 2)
    step = step[np.abs(step).max(1) > 1e-12]
    turns = np.unique(np.round((np.arctan2(step[:, 1], step[:, 0]) + np.pi / 2) % (2 * np.pi), 12))
    angles = (turns + np.append(turns[1:], turns[0] + 2 * np.pi)) / 2
    normals = np.stack([np.cos(angles), np.sin(angles)])
    left_out = outside @ normals > (held @ normals).max(0) + 1e-12
    left_out = left_out.T
    changed = (left_out != np.roll(left_out, 1, axis=0)).any(1) | (np.arange(len(angles)) == 0)
    first = np.flatnonzero(changed)
    last = np.append(first[1:], len(angles)) - 1
    useful = left_out[first].any(1)
    return angles[first[useful]], angles[last[useful]], left_out[first[useful]]
