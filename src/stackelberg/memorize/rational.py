"""How is linear algebra done without rounding?  In fractions: every float is one."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from stackelberg.errors import StackelbergError

Vector: TypeAlias = list[Fraction]
Matrix: TypeAlias = list[Vector]
Affine: TypeAlias = tuple[Matrix, Vector]
"""x -> weight . x + bias."""


def vector(values: Iterable[object] | NDArray | Tensor) -> Vector:
    """Numbers of any kind as fractions, exactly.

    Raises:
        StackelbergError: NaN or infinity.
    """
    plain = values.tolist() if isinstance(values, np.ndarray | Tensor) else list(values)
    try:
        return [Fraction(value) for value in plain]  # pyright: ignore[reportCallIssue, reportArgumentType]  # any kind
    except (ValueError, OverflowError) as error:
        raise StackelbergError("a weight or coordinate is NaN or infinite; pass finite numbers") from error


def matrix(rows: Sequence[Sequence[object]] | NDArray | Tensor) -> Matrix:
    """Rows of numbers of any kind as fractions, exactly."""
    return [vector(row) for row in rows]


def times(rows: Matrix, x: Vector) -> Vector:
    """rows . x."""
    return [sum((w * v for w, v in zip(row, x, strict=True) if w), Fraction(0)) for row in rows]


def reduced(rows: Matrix) -> tuple[Matrix, list[int]]:
    """(the reduced row echelon form, the column of each pivot)."""
    rows, pivots = [list(row) for row in rows], []
    for column in range(len(rows[0]) if rows else 0):
        height = len(pivots)
        found = next((i for i in range(height, len(rows)) if rows[i][column]), None)
        if found is None:
            continue
        rows[height], rows[found] = rows[found], rows[height]
        pivot = rows[height][column]
        rows[height] = [value / pivot for value in rows[height]]
        for i, row in enumerate(rows):
            if i != height and row[column]:
                rows[i] = [value - row[column] * other for value, other in zip(row, rows[height], strict=True)]
        pivots.append(column)
    return rows, pivots


def null_vector(rows: Matrix, width: int) -> Vector | None:
    """Some v of `width` entries, not 0, with rows . v = 0; None where there is none."""
    form, pivots = reduced(rows)
    free = next((column for column in range(width) if column not in pivots), None)
    if free is None:
        return None
    v = [Fraction(0)] * width
    v[free] = Fraction(1)
    for row, pivot in zip(form, pivots, strict=False):
        v[pivot] = -row[free]
    return v


def inverse(rows: Matrix) -> Matrix | None:
    """The inverse of a square matrix; None where it has none."""
    size = len(rows)
    form, pivots = reduced([[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(rows)])
    return [row[size:] for row in form] if pivots == list(range(size)) else None


def affine_layers(net: nn.Sequential) -> list[Affine]:
    """The weights of Linear, ReLU, Linear, .., Linear, as they are.

    Raises:
        StackelbergError: another layer, or another order.
    """
    layers = []
    for place, module in enumerate(net):
        wanted = nn.ReLU if place % 2 else nn.Linear
        if not isinstance(module, wanted):
            raise StackelbergError(
                f"layer {place} must be {wanted.__name__}, got {type(module).__name__}; pass Linear, ReLU, .., Linear"
            )
        if isinstance(module, nn.Linear):
            bias = vector(module.bias.detach()) if module.bias is not None else [Fraction(0)] * module.out_features
            layers.append((matrix(module.weight.detach()), bias))
    if not len(net) % 2:
        raise StackelbergError(f"the last layer must be Linear, got {len(net)} layers; pass Linear, ReLU, .., Linear")
    return layers


def evaluated(layers: Sequence[Affine], x: Vector, slope: Fraction = Fraction(0)) -> Vector:
    """The network at x, exactly; below 0 its units have this slope."""
    for place, (weight, bias) in enumerate(layers):
        x = [z + b for z, b in zip(times(weight, x), bias, strict=True)]
        if place < len(layers) - 1:
            x = [z if z >= 0 else slope * z for z in x]
    return x
