"""How narrow is too narrow?  In n dimensions a robust memorizer needs a layer wider than n.

**First layer of width n - 1 or less** (any layers after it). `simplex`: 0 in one class, e_1, .., e_n in the other,
linf separation 1. Such a layer ignores some v, W v = 0; let |v|_inf = v_j = 1 and r = v/2 - e_j. Then |r|_inf <= 1/2,
and e_j + r/2 and -r/2 lie in the closed balls of radius 1/4 round e_j and round 0, differ by v/2, and have one image.
So no network with that first layer is right on both balls, at any radius >= 1/4 of the separation: `collision`.

**All layers of width n or less.** Such a ReLU network F obeys the maximum principle: on a compact K, max F is attained
on the boundary (Hanin and Sellke 2017; Johnson 2019). For with strictly monotone units of slope s > 0 below 0 and
square, invertible weights every layer is a homeomorphism of R^n, so from any x the preimage of the ray h + t a, t >= 0
(h the last hidden layer at x, a the output weights) is a path on which F grows at rate |a|^2 and which leaves every
bounded set; F itself is the uniform limit of such networks on K as s -> 0. `shell`: the centre 0 in one class, and in
the other a grid on the surface of [-1, 1]^n, so fine that its balls cover the surface. If F says "centre" at 0 it says
so somewhere on the surface, that is in a ball of the other class: no such network is robust at radius >= 1/cells of the
separation, however small one makes that by taking more cells.

`refute` turns the second proof into a procedure: for given weights it follows that path in fractions, and hands back a
point of a ball where the network is wrong, with no rounding anywhere.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.memorize import rational
from stackelberg.memorize.rational import Affine, Matrix, Vector

SLOPES = tuple(Fraction(1, 2**k) for k in (10, 20, 40, 80, 160, 320))
"""Below 0, tried in this order until the exit of the path is on the wrong side."""


@dataclass(frozen=True, eq=False)
class Witness:
    """A data set that narrow networks cannot memorize robustly, of linf separation 1.

    Attributes:
        x: points [N, n]; the first is 0.
        y: 1 for the first, 0 for all others.
        radius: from which on (included) it is impossible, in input units.
    """

    x: Float64[np.ndarray, "N n"]
    y: Int64[np.ndarray, " N"]
    radius: float

    @property
    def dimension(self) -> int:
        """The number n of coordinates."""
        return self.x.shape[1]


def simplex(dimension: int) -> Witness:
    """0 against e_1, .., e_n: no first layer of width n - 1 or less, at radius 1/4 or more."""
    _positive("dimension", dimension)
    return Witness(np.eye(dimension + 1, dimension, -1), _first(dimension + 1), 0.25)


def shell(dimension: int, cells: int = 4) -> Witness:
    """0 against (cells + 1)^n - (cells - 1)^n points on the surface of [-1, 1]^n: no widths <= n, radius >= 1/cells."""
    _positive("dimension", dimension)
    if cells < 2 or cells % 2:
        raise StackelbergError(f"cells must be even and 2 or more, got {cells}; 4 gives radius 1/4")
    steps = np.linspace(-1, 1, cells + 1)
    grid = np.array(list(itertools.product(steps, repeat=dimension)))
    surface = grid[np.abs(grid).max(1) == 1]
    return Witness(np.concatenate([np.zeros((1, dimension)), surface]), _first(len(surface) + 1), 1 / cells)


@dataclass(frozen=True, eq=False)
class Collision:
    """Two points of the closed balls of two classes of `simplex` with one image under the first layer.

    Attributes:
        index: j, of the example e_j (counted from 1, example 0 is the origin).
        a: in the ball of radius 1/4 round e_j, [n].
        b: in the ball of radius 1/4 round 0, [n].
    """

    index: int
    a: Vector
    b: Vector


def collision(first_layer_weight: Sequence[Sequence[object]] | NDArray | Tensor, exact: bool = True) -> Collision:
    """The two points for a first layer [m, n] with m < n, or with m >= n and a null vector all the same.

    Args:
        first_layer_weight: W, of integers, fractions or floats (each of which is a fraction).
        exact: in fractions, so that W a = W b holds without rounding; else from a float64 singular value
            decomposition, to about 1e-15 of the weights' size: for many dimensions.

    Raises:
        StackelbergError: W maps no two points to one.
    """
    height, width = np.shape(np.asarray(first_layer_weight, dtype=object))
    if exact:
        v = rational.null_vector(rational.matrix(first_layer_weight), width)
    else:
        weight = np.asarray(first_layer_weight, dtype=np.float64)
        _, sizes, directions = np.linalg.svd(weight)
        flat = height < width or sizes[-1] <= 1e-14 * sizes[0]
        v = rational.vector(directions[-1]) if flat else None
    if v is None:
        raise StackelbergError(
            f"a first layer of {height} neurons on {width} inputs whose weights have rank {width} keeps all points"
            f" apart; it must have rank {width - 1} or less"
        )
    j, largest = max(enumerate(v), key=lambda entry: abs(entry[1]))
    v = [value / largest for value in v]
    r = [value / 2 - (i == j) for i, value in enumerate(v)]
    return Collision(j + 1, [Fraction(i == j) + value / 2 for i, value in enumerate(r)], [-value / 2 for value in r])


@dataclass(frozen=True, eq=False)
class Refutation:
    """Where a network is wrong on a witness.

    Attributes:
        point: in fractions, [n].
        index: of the example whose ball holds it.
        value: of the network there, exactly; "centre" where > 0.
    """

    point: Vector
    index: int
    value: Fraction


def refute(net: nn.Sequential | Sequence[Affine], witness: Witness, radius: float | None = None) -> Refutation:
    """A point of a ball of `shell` where a network of hidden widths <= n errs, exactly.

    Args:
        net: Linear, ReLU, .., Linear with one output, which says "centre" where > 0; or two, the second larger.
        witness: from `shell`.
        radius: of the balls; by default, and at least, witness.radius.

    Raises:
        StackelbergError: a layer is wider than n, or the radius is below the witness's.
    """
    radius = witness.radius if radius is None else radius
    if radius < witness.radius:
        raise StackelbergError(f"balls of radius {radius} do not cover the surface; it takes {witness.radius} or more")
    layers = _scalar(rational.affine_layers(net) if isinstance(net, nn.Sequential) else list(net))
    centre = [Fraction(0)] * witness.dimension
    at_centre = rational.evaluated(layers, centre)[0]
    if at_centre <= 0:
        return Refutation(centre, 0, at_centre)
    for slope in SLOPES:
        point = escape(layers, centre, slope)
        value = rational.evaluated(layers, point)[0]
        if value > 0:
            near = np.abs(witness.x - [float(v) for v in point]).max(1)
            near[0] = np.inf
            return Refutation(point, int(near.argmin()), value)
    raise StackelbergError(f"the network is positive at the centre by {float(at_centre):.3g} only; slopes ended first")


def escape(layers: Sequence[Affine], start: Vector, slope: Fraction) -> Vector:
    """Where the path of growing F leaves [-1, 1]^n, for the network made bijective by this slope below 0, exactly.

    F(exit) >= F(start) - O(slope) for the ReLU network of one output itself.
    """
    size = len(start)
    output = [*layers[-1][0][0], *[Fraction(0)] * (size - len(layers[-1][0][0]))]
    square = [_square(layer, size, slope) for layer in layers[:-1]]
    if not any(output):
        output[0] = Fraction(1)  # a constant: any way out will do
    h = start
    for weight, bias in square:
        z = [a + b for a, b in zip(rational.times(weight, h), bias, strict=True)]
        h = [value if value >= 0 else slope * value for value in z]
    corners, way = [h], output
    for weight, bias in reversed(square):
        corners, way = _unfolded(corners, way, slope)
        back = rational.inverse(weight)
        assert back is not None
        corners = [rational.times(back, [a - b for a, b in zip(z, bias, strict=True)]) for z in corners]
        way = rational.times(back, way)
    return _exit(corners, way)


def _unfolded(corners: list[Vector], way: Vector, slope: Fraction) -> tuple[list[Vector], Vector]:
    """A polygonal path with a ray at its end, before the units that it has passed: bent where a coordinate turns."""
    bent: list[Vector] = []
    for place, corner in enumerate(corners):
        last = place == len(corners) - 1
        step = way if last else [b - a for a, b in zip(corner, corners[place + 1], strict=True)]
        turns = {-value / move for value, move in zip(corner, step, strict=True) if move}
        times = sorted(t for t in turns if t > 0 and (last or t < 1))
        bent += [[v + t * m for v, m in zip(corner, step, strict=True)] for t in (Fraction(0), *times)]
    far = [v + m for v, m in zip(bent[-1], way, strict=True)]
    before = [[v if v >= 0 else v / slope for v in corner] for corner in (*bent, far)]
    return before[:-1], [b - a for a, b in zip(before[-2], before[-1], strict=True)]


def _exit(corners: list[Vector], way: Vector) -> Vector:
    """The first point of the path with |x|_inf = 1."""
    for place, corner in enumerate(corners):
        last = place == len(corners) - 1
        step = way if last else [b - a for a, b in zip(corner, corners[place + 1], strict=True)]
        times = [((1 if m > 0 else -1) - v) / m for v, m in zip(corner, step, strict=True) if m]
        t = min(times, default=None)
        if t is not None and (last or t <= 1):
            return [v + t * m for v, m in zip(corner, step, strict=True)]
    raise AssertionError("a ray leaves every cube")


def _square(layer: Affine, size: int, nudge: Fraction) -> tuple[Matrix, Vector]:
    """The layer as n x n, moved by the order of `nudge` where it has no inverse."""
    weight, bias = layer
    if len(weight) > size or len(weight[0]) > size:
        raise StackelbergError(
            f"every layer must have width {size} or less, as the data has dimensions, got {len(weight[0])} to"
            f" {len(weight)}; wider networks obey no maximum principle"
        )
    zero = Fraction(0)
    rows = [[*row, *[zero] * (size - len(row))] for row in weight] + [[zero] * size for _ in range(size - len(weight))]
    full = [*bias, *[zero] * (size - len(bias))]
    if rational.inverse(rows) is not None:
        return rows, full
    for shift in itertools.count(1):
        moved = [[v + (nudge * (i + shift) if i == j else zero) for j, v in enumerate(r)] for i, r in enumerate(rows)]
        if rational.inverse(moved) is not None:
            return moved, full
    raise AssertionError("a determinant has finitely many zeros")


def _scalar(layers: list[Affine]) -> list[Affine]:
    """With one output: of two, the second less the first."""
    weight, bias = layers[-1]
    if len(weight) == 1:
        return layers
    if len(weight) != 2:
        raise StackelbergError(f"the network must have one output or two, got {len(weight)}")
    row = [b - a for a, b in zip(*weight, strict=True)]
    return [*layers[:-1], ([row], [bias[1] - bias[0]])]


def _first(count: int) -> Int64[np.ndarray, " N"]:
    return (np.arange(count) == 0).astype(np.int64)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise StackelbergError(f"{name} must be 1 or more, got {value}")
