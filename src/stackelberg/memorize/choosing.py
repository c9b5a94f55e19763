"""Which face leaves which point out?  The mixed-integer program behind `hardness`."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import Bounds, LinearConstraint, milp

FACES: dict[str, tuple[tuple[int, int], ...]] = {"wedge": ((1, 0), (0, 1)), "cut": ((1, 0), (1, 1), (0, 1))}
"""p of each face p_1 g_1 + p_2 g_2 = beta of a region."""


@dataclass(frozen=True, eq=False)
class Task:
    """Balls to be held in a region, and points to be left out.

    Attributes:
        held: centres of the balls, within [-1, 1]^d, [H, d].
        radius: of the balls, linf.
        bound: of the weights.
        kind: "wedge" or "cut".
    """

    held: Float64[np.ndarray, "H d"]
    radius: float
    bound: float
    kind: str


@dataclass(frozen=True, eq=False)
class Region:
    """A solution: the region {p . (w x + c) < beta for each face p}.

    Attributes:
        weight: (w, c) of the two affine forms, [2, d + 1].
        beta: the offset of a cut; 0 for a wedge.
    """

    weight: Float64[np.ndarray, "2 e"]
    beta: float


def region(task: Task, outside: Float64[np.ndarray, "P d"], seconds: float) -> Region | bool | None:
    """A region with margin 1: p . g + |p . w|_1 radius - beta <= -1 at each ball held for all p, p . g - beta >= 1 at
    each point outside for some p; None where there is none of these weights, False where the time was up.

    Variables: w_1, c_1, w_2, c_2, beta; |p . w| of each face; a binary for each point outside and face.
    """
    d, faces = task.held.shape[1], FACES[task.kind]
    first = 2 * (d + 1) + 1
    sizes, choices = first + d * len(faces), len(faces) * len(outside)
    limit = task.bound * (d + 1)
    most = 1 + task.bound * (2 * d + 3 * (d + 1))  # p . g - beta >= 1 - most everywhere
    rows, low, high = [], [], []

    def demand(block: Float64[np.ndarray, "m V"], least: float, greatest: float) -> None:
        rows.append(block)
        low.append(np.full(len(block), least))
        high.append(np.full(len(block), greatest))

    for number, p in enumerate(faces):
        own = slice(first + d * number, first + d * (number + 1))
        for sign in (1.0, -1.0):  # sizes >= |p . w|
            block = np.zeros((d, sizes + choices))
            for k in range(2):
                block[:, k * (d + 1) : k * (d + 1) + d] = -sign * p[k] * np.eye(d)
            block[:, own] += np.eye(d)
            demand(block, 0.0, np.inf)
        block = np.zeros((len(task.held), sizes + choices))
        block[:, : first - 1] = _values(task.held, p)
        block[:, first - 1], block[:, own] = -1.0, task.radius
        demand(block, -np.inf, -1.0)
        block = np.zeros((len(outside), sizes + choices))
        block[:, : first - 1] = _values(outside, p)
        block[:, first - 1] = -1.0
        block[:, sizes + len(outside) * number : sizes + len(outside) * (number + 1)] = -most * np.eye(len(outside))
        demand(block, 1 - most, np.inf)
    demand(np.hstack([np.zeros((len(outside), sizes)), *[np.eye(len(outside))] * len(faces)]), 1.0, np.inf)
    ends = [*([task.bound] * d + [limit]) * 2, limit if task.kind == "cut" else 0.0]
    lower = np.concatenate(
        [-np.array(ends[:-1]), [1.0 if task.kind == "cut" else 0.0], np.zeros(sizes - first + choices)]
    )
    upper = np.concatenate([ends, np.full(sizes - first, 2 * task.bound), np.ones(choices)])
    found = milp(
        np.zeros(sizes + choices),
        integrality=np.concatenate([np.zeros(sizes), np.ones(choices)]),
        bounds=Bounds(lower, upper),  # pyright: ignore[reportArgumentType]  # arrays are taken
        constraints=LinearConstraint(
            np.concatenate(rows),
            np.concatenate(low),  # pyright: ignore[reportArgumentType]  # arrays are taken
            np.concatenate(high),  # pyright: ignore[reportArgumentType]
        ),
        options={"time_limit": max(seconds, 0.1)},
    )
    if found.x is None:
        return None if found.status == 2 else False
    return Region(found.x[: first - 1].reshape(2, d + 1), float(found.x[first - 1]))


def _values(x: Float64[np.ndarray, "P d"], p: tuple[int, int]) -> Float64[np.ndarray, "P v"]:
    """Rows with which p . g at each point is read off (w_1, c_1, w_2, c_2)."""
    one = np.concatenate([x, np.ones((len(x), 1))], 1)
    return np.concatenate([p[0] * one, p[1] * one], 1)
