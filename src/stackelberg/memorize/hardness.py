"""Can two neurons do it?  The exact decision of robust memorization by ReLU networks of depth 2 and width 2.

Yu, Gao and Zhang, ICLR 2024: deciding this is NP-hard (Theorem 4.1), and for some data the answer is no (Proposition
4.7). The idea of such reductions: two neurons of unlike signs cut out the intersection of two half-spaces, and to find
two half-spaces that hold one class and leave out the other is NP-hard (Megiddo 1988; Blum and Rivest 1992, from set
splitting: an element is a point to be left out, a set is the sum of its elements, to be held with the origin; the
half-space that leaves an element out is its colour, and one that left out a whole set would leave out its sum).

**What two neurons can say.** Scale so that F = s_1 relu(l_1) + s_2 relu(l_2) + b with s_k = +-1. Then one class lies
inside a convex region, the other outside of it:

    wedge   s_1 != s_2:  {g_1 < 0, g_2 < 0} for affine g_1, g_2, any two; F = +-(relu(1 - g_1) - relu(g_2 - g_1) - 1)
    cut     s_1  = s_2:  {l_1 < beta, l_2 < beta, l_1 + l_2 < beta}, beta > 0; F = +-(relu(l_1) + relu(l_2) - beta)

With faces p in {(1, 0), (0, 1)}, for a cut also (1, 1), and beta = 0 for a wedge: a ball is *inside* with margin 1 if
p . g + |p . w|_1 radius - beta <= -1 at its centre for each p, which is linear with variables for |p . w|. A point is
*outside* with margin 1 if p . g - beta >= 1 for some p: a binary for each face. All points of a ball must be, each by
a face of its own, and a ball has infinitely many; so the program knows some of them, at first its corners:

    no region for these points    ->  no region at all: "no"
    a region for these points     ->  the network is verified on the whole balls, in fractions, at all vertices that the
                                      balls have with the lines l_1 = 0 and l_2 = 0: "yes", or the worst vertex of each
                                      ball that failed joins the points, and again.

This ends: if F >= 1 at the known points of a ball and F <= 0 at the new one, that one lies 1 / Lipschitz away from all
of them.

**What the answers mean.** "yes" comes with a network, and its exact least margin over all balls. "no": no network of
these weights, |w| <= bound in units of the data's half width, has y F >= 1 on all balls (to the solver's tolerance of
1e-6); without a bound on the weights a margin says nothing.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.memorize import rational
from stackelberg.memorize.choosing import Region, Task, region


@dataclass(frozen=True, eq=False)
class Decision:
    """Whether two neurons can memorize the data robustly.

    Attributes:
        answer: "yes", "no", or "unknown" where the time came first.
        net: Linear(d, 2), ReLU, Linear(2, 1), float64, positive on class 1; None but for "yes".
        margin: the least y F over all balls, exact for these weights; None but for "yes".
        programs: mixed-integer programs solved.
        seconds: of the wall clock.
    """

    answer: Literal["yes", "no", "unknown"]
    net: nn.Sequential | None
    margin: Fraction | None
    programs: int
    seconds: float


def decide(
    x: NDArray | Tensor, y: Sequence[int] | NDArray | Tensor, radius: float, bound: float = 200.0, seconds: float = 60.0
) -> Decision:
    """Is there a depth-2, width-2 network with sign F = label on every closed linf ball round N points?

    Args:
        x: points [N, d], d small.
        y: two classes, 0 and 1.
        radius: of the balls, in input units.
        bound: of every weight, in units of 1 / (half width of the data); offsets have (d + 1) times that.
        seconds: of the wall clock; then "unknown".

    Raises:
        StackelbergError: unlike sizes, other labels, NaN, a radius <= 0, or not below half the separation (named).
    """
    begun, programs = time.monotonic(), 0
    points, labels = _checked(x, y, radius)
    middle = (points.max(0) + points.min(0)) / 2
    half = float(np.abs(points - middle).max()) or 1.0
    signs = np.array(list(itertools.product((-radius, radius), repeat=points.shape[1])))
    for kind, inside in itertools.product(("wedge", "cut"), (1, 0)):
        task = Task((points[labels == inside] - middle) / half, radius / half, bound, kind)
        known = (points[labels != inside][:, None] + signs).reshape(-1, points.shape[1])
        while True:
            found = region(task, (known - middle) / half, seconds - (time.monotonic() - begun))
            programs += 1
            if found is None:
                break
            if not isinstance(found, Region):
                return Decision("unknown", None, None, programs, time.monotonic() - begun)
            net = _network(found.weight, found.beta, kind, inside, middle, half)
            margins, worst = least_margins(net, points, labels, radius)
            if min(margins) > 0:
                return Decision("yes", net, min(margins), programs, time.monotonic() - begun)
            known = np.concatenate([known, worst[np.array([margin <= 0 for margin in margins])]])
    return Decision("no", None, None, programs, time.monotonic() - begun)


def _network(
    weight: Float64[np.ndarray, "2 e"], beta: float, kind: str, inside: int, middle: NDArray, half: float
) -> nn.Sequential:
    """The network of a solution, in input units; `weight` holds (w, c) of both forms."""
    if kind == "wedge":
        first, second = -weight[0], weight[1] - weight[0]
        first[-1] += 1
        hidden, out, offset = np.stack([first, second]), np.array([1.0, -1.0]), -1.0
    else:
        hidden, out, offset = weight, np.array([-1.0, -1.0]), beta
    sign = 1.0 if inside == 1 else -1.0
    rows = hidden[:, :-1] / half
    net = nn.Sequential(nn.Linear(len(middle), 2, dtype=torch.float64), nn.ReLU(), nn.Linear(2, 1, dtype=torch.float64))
    values = (rows, hidden[:, -1] - rows @ middle, sign * out[None], np.array([sign * offset]))
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), values, strict=True):
            parameter.copy_(torch.from_numpy(value))
    return net


def least_margins(
    net: nn.Sequential, x: Float64[np.ndarray, "N d"], y: Int64[np.ndarray, " N"], radius: float
) -> tuple[list[Fraction], Float64[np.ndarray, "N d"]]:
    """(min of y F over each closed ball, y = +-1, exactly; where it is): F is linear between the ball's vertices.

    Those are its corners, the points where an edge meets l_1 = 0 or l_2 = 0, and where a face of two dimensions meets
    both.
    """
    (rows, shift), _ = layers = rational.affine_layers(net)
    least, where = [], []
    for centre, label in zip(x, y, strict=True):
        middle = rational.vector(centre)
        at = [sum((w * v for w, v in zip(row, middle, strict=True)), s) for row, s in zip(rows, shift, strict=True)]
        corners = [
            [m + o for m, o in zip(middle, offset, strict=True)] for offset in _vertices(rows, at, Fraction(radius))
        ]
        values = [rational.evaluated(layers, corner)[0] * (1 if label == 1 else -1) for corner in corners]
        least.append(min(values))
        where.append([float(v) for v in corners[values.index(least[-1])]])
    return least, np.array(where)


def _vertices(rows: rational.Matrix, at: rational.Vector, radius: Fraction) -> Iterator[rational.Vector]:
    """Offsets from the centre; `at` holds l_1, l_2 there."""
    size = len(rows[0])
    for free_count in range(min(2, size) + 1):
        for free in itertools.combinations(range(size), free_count):
            held = [j for j in range(size) if j not in free]
            for signs in itertools.product((-radius, radius), repeat=len(held)):
                offset = [Fraction(0)] * size
                for j, value in zip(held, signs, strict=True):
                    offset[j] = value
                for lines in itertools.combinations(range(2), free_count):
                    system = [
                        [*(rows[k][j] for j in free), -at[k] - sum((rows[k][j] * offset[j] for j in held), Fraction(0))]
                        for k in lines
                    ]
                    form, pivots = rational.reduced(system)
                    if pivots == list(range(free_count)) and all(abs(row[-1]) <= radius for row in form):
                        yield [form[free.index(j)][-1] if j in free else offset[j] for j in range(size)]


def _checked(x: NDArray | Tensor, y: Sequence[int] | NDArray | Tensor, radius: float) -> tuple[NDArray, NDArray]:
    points, labels = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.int64)
    if points.ndim != 2 or len(points) != len(labels):
        raise StackelbergError(
            f"points must be [N, d] with one label each, got {points.shape} and {len(labels)} labels"
        )
    if not np.isfinite(points).all():
        raise StackelbergError(f"point {int((~np.isfinite(points)).any(1).argmax())} has a NaN or infinite coordinate")
    if sorted(set(labels.tolist())) != [0, 1]:
        raise StackelbergError(f"labels must be 0 and 1, both of them, got {sorted(set(labels.tolist()))}")
    apart = np.abs(points[labels == 0][:, None] - points[labels == 1][None]).max(2).min()
    if not 0 < radius < apart / 2:
        raise StackelbergError(
            f"radius must lie in (0, {apart / 2:g}), half the separation of the classes, got {radius}"
        )
    return points, labels
