"""Which stored examples are needed?  A condensed set that keeps its promise, and how much of the law was seen."""

import math
from dataclasses import dataclass
from typing import Any, no_type_check

import numba
import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.memorize.memorizer import apart, checked, in_units
from stackelberg.memorize.nearest import POWERS, class_distances
from stackelberg.threat import Rate, clopper_pearson

_HAIR = 1e-9  # of a distance: what rounding may have done to it


@dataclass(frozen=True, eq=False)
class Condensed:
    """Some of the stored examples, by which all of them are answered rightly.

    The promise, for every stored x_i: its nearest kept example has its label, and within
    min(radius, c_i / 2) - 1e-9 of x_i that does not change; c_i is its distance to the other classes.

    Attributes:
        kept: places of the examples that stay, rising.
        radius: promised, in input units.
        norm: "linf", "l2" or "l1".
        certified: the radius that the kept examples certify at each x_i, half the lead; measured afterwards, [N].
    """

    kept: Int64[np.ndarray, " M"]
    radius: float
    norm: str
    certified: Float64[np.ndarray, " N"]


def condensed(x: Tensor | NDArray, y: Tensor | NDArray, radius: float, norm: str = "l2") -> Condensed:
    """Examples thinned as far as a greedy pass gets.

    x_i keeps its promise if a kept example of its class lies within c_i - 2 radius (itself, where that is negative):
    the other classes only lose examples. In order of rising c_i each example that none of those kept serves is kept.
    What comes out is measured again, by the exact distances to the kept examples.

    Raises:
        StackelbergError: points that cannot be memorized, an unknown norm, a negative radius.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise StackelbergError(f"radius must be a number >= 0 in input units, got {radius}; pass 0 for labels alone")
    points, labels = checked(x, y)
    apart(points, labels, norm)
    own = np.arange(len(labels)), labels
    other = _to_others(points, labels, norm)
    order = np.argsort(other, kind="stable")
    room = np.maximum(other - 2 * radius, 0.0) * (1 - _HAIR)
    kept = np.sort(order[_pass(in_units(points)[order], labels[order], room[order], POWERS[norm], False)])
    after, _ = class_distances(points[kept], labels[kept], int(labels.max()) + 1, points, norm)
    near = after[own]
    after[own] = np.inf
    certified = (after.min(1) - near) / 2
    if bool((certified < np.minimum(radius, other / 2) - _HAIR).any()):
        raise AssertionError("the condensed set breaks its promise")
    return Condensed(kept, radius, norm, certified)


def nearby_set_of(x: Tensor | NDArray, y: Tensor | NDArray, ratio: float = 3.1) -> Int64[np.ndarray, " S"]:
    """Places of stored points whose balls B(x_i, c_i / ratio) cover all stored points: greedily, largest ball first.

    An upper bound of the smallest such set of the sample; the law's own nearby set may be larger, as what was not
    sampled is not seen (see `uncovered` for how much that is).
    """
    points, labels = checked(x, y)
    apart(points, labels, "l2")
    reach = _to_others(points, labels, "l2") / ratio
    order = np.argsort(-reach, kind="stable")
    return np.sort(order[_pass(in_units(points)[order], labels[order], reach[order], POWERS["l2"], True)])


def medoids(x: Tensor | NDArray, y: Tensor | NDArray, count: int, seed: int = 0) -> Int64[np.ndarray, " M"]:
    """Places of at most `count` stored points, rising: of each class those nearest to the centres of its k-means in l2.

    They promise nothing about the others (`condensed` does), but may be as few as one likes. Classes get as many
    centres each, the first ones one more where they do not go up; centres with the same nearest point give one.

    Raises:
        StackelbergError: points that cannot be memorized, or fewer than one for each class.
    """
    from sklearn.cluster import MiniBatchKMeans

    points, labels = checked(x, y)
    names = np.unique(labels)
    if count < len(names):
        raise StackelbergError(f"count must be at least {len(names)}, the number of classes, got {count}")
    means: Any = MiniBatchKMeans  # its stub knows n_init as text alone
    found = []
    for number, name in enumerate(names):
        own = np.flatnonzero(labels == name)
        share = count // len(names) + (number < count % len(names))
        if share >= len(own):
            found.append(own)
            continue
        fitted = means(share, random_state=seed, n_init=1, batch_size=1024).fit(in_units(points[own]))
        centres = fitted.cluster_centers_.astype(np.float64)
        _, nearest = class_distances(points[own], np.zeros(len(own), np.int64), 1, centres, "l2")
        found.append(np.unique(own[nearest[:, 0]]))
    return np.sort(np.concatenate(found))


def uncovered(x: Tensor | NDArray, y: Tensor | NDArray, queries: Tensor | NDArray, ratio: float = 3.1) -> Rate:
    """How much of the law lies outside the balls B(x_i, c_i / ratio): from held-out points, with an exact interval.

    On all the rest the network is right if the classes are as far apart everywhere as they are in the sample.
    """
    points, labels = checked(x, y)
    reach = _to_others(points, labels, "l2") / ratio
    near, index = class_distances(points, labels, int(labels.max()) + 1, queries, "l2")
    first = index[np.arange(len(near)), near.argmin(1)]
    outside = near.min(1) > reach[first]  # by the nearest point's own ball: never fewer than are outside all balls
    return clopper_pearson(int(outside.sum()), len(outside))


def missing_mass(cells: NDArray[np.int64], delta: float = 0.05) -> tuple[float, float]:
    """(Good-Turing's estimate of the mass of unseen cells, an upper bound of that mass with probability 1 - delta).

    G = (cells seen once) / N; mass <= G + (2 sqrt 2 + sqrt 3) sqrt(ln(3 / delta) / N) (McAllester and Schapire 2000,
    theorem 9).

    Args:
        cells: the cell of each of N independent samples.
        delta: in (0, 1).
    """
    if not 0 < delta < 1 or not len(cells):
        raise StackelbergError(f"delta must lie in (0, 1) and samples must not be none, got {delta} and {len(cells)}")
    _, counts = np.unique(cells, return_counts=True)
    estimate = float((counts == 1).sum()) / len(cells)
    wide = (2 * math.sqrt(2) + math.sqrt(3)) * math.sqrt(math.log(3 / delta) / len(cells))
    return estimate, min(1.0, estimate + wide)


def _to_others(points: NDArray, labels: NDArray[np.int64], norm: str) -> Float64[np.ndarray, " N"]:
    """c_i, the distance from each stored point to the other classes."""
    distance, _ = class_distances(points, labels, int(labels.max()) + 1, points, norm)
    distance[np.arange(len(labels)), labels] = np.inf
    return distance.min(1)


@numba.njit(cache=True)
@no_type_check  # it is compiled
def _pass(rows: NDArray, labels: NDArray, reach: NDArray, power: int, of_kept: bool) -> NDArray[np.bool_]:
    """Which points are kept: each that is served by none kept before it.

    A kept point serves those of its class within its own reach (`of_kept`), or within theirs.
    """
    served, kept = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    for i in range(len(rows)):
        if served[i]:
            continue
        kept[i] = True
        for j in range(i + 1, len(rows)):
            if served[j] or labels[j] != labels[i]:
                continue
            limit = reach[i] if of_kept else reach[j]
            served[j] = _within(rows[i], rows[j], limit * limit if power == 2 else limit, power)
    return kept


@numba.njit(cache=True)
@no_type_check  # it is compiled
def _within(a: NDArray, b: NDArray, limit: float, power: int) -> bool:
    total = 0.0
    for k in range(len(a)):
        apart = abs(a[k] - b[k])
        total = max(total, apart) if power == 0 else total + (apart if power == 1 else apart * apart)
        if total > limit:
            return False
    return True
