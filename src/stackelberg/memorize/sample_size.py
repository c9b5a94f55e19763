"""How many samples must a memorizing network see before it generalizes?

Yu, Gao, Zhang and Miao, NeurIPS 2024: distributions on [0,1]^n whose classes are c apart in l2. The nearby set is the
smallest set of support points whose balls, a 3.1th of the distance to the other class wide, cover the support; S is
its size. P is the least number of parameters that suffices for every sample (N_D there, P_D in the talk).

    upper   N >= S ln(S / delta) / error is enough for the efficient network (Theorem 7.3), S <= (6.2 n / c + 1)^n
    lower   some distribution needs N of the order 2^(2 floor(n / ceil(c^2))) c^4 / n^2 (Corollary 6.4)
    P       N of the order P^2 is needed by some (Theorem 6.1) and enough for networks of P parameters (Theorem 6.5)

Where the paper has an absolute constant without a value, the function says "order": a number to compare, no bound.
"""

import math
from itertools import pairwise

import numpy as np
from scipy.integrate import quad

from stackelberg.errors import StackelbergError


def nearby_set(dimension: int, separation: float) -> int:
    """An upper bound of S: min of (floor(6.2 n / c) + 1)^n (Proposition 7.7) and ceil(3.1 sqrt(n) / c)^n.

    The second: cells of l2 diameter c / 3.1 hold one class each, since 1 / 3.1 < 1.

    >>> nearby_set(2, 1.0)
    25
    """
    _check(dimension, separation)
    return min(
        (math.floor(6.2 * dimension / separation) + 1) ** dimension,
        math.ceil(3.1 * math.sqrt(dimension) / separation) ** dimension,
    )


def samples_enough(cells: int, error: float, delta: float) -> int:
    """N with P(accuracy >= 1 - error) >= 1 - delta for a network right on the balls: ceil(S ln(S / delta) / error).

    Any cover by `cells` sets, each labelled rightly as soon as one sample falls into it, serves as S.
    """
    _check_rates(error, delta)
    return math.ceil(cells * math.log(cells / delta) / error)


def failure(cells: int, samples: int, error: float) -> float:
    """A bound of P(1 - accuracy > error): sum over i = 1..S of exp(-N error / i), tighter than Theorem 7.3.

    With the sets in order of increasing mass, let i be the heaviest unseen one: the unseen mass is at most i q_i, so if
    it exceeds `error`, q_i > error / i, and (1 - q_i)^N < exp(-N error / i).
    """
    _check_rates(error, 0.5)
    return min(1.0, float(np.exp(-samples * error / np.arange(1, cells + 1)).sum()))


def expected_error(cells: int, samples: int) -> float:
    """E[1 - accuracy] <= S / (e N): each set costs q (1 - q)^N <= 1 / (e N)."""
    return min(1.0, cells / (math.e * samples))


def order_needed(dimension: int, separation: float) -> float:
    """2^(2 floor(n / ceil(c^2))) c^4 / n^2, the order of N that some distribution needs (Corollary 6.4)."""
    _check(dimension, separation)
    power = 2 * (dimension // math.ceil(separation**2))
    return 2.0**power * separation**4 / dimension**2


def order_of_parameters(parameters: int, error: float, delta: float) -> tuple[float, float]:
    """(P^2 / ln^2 P, P^2 ln(P / (error^2 delta)) / error^2): orders of N, needed by some and enough for all.

    Theorems 6.1 and 6.5, each up to its absolute constant.
    """
    _check_rates(error, delta)
    if parameters < 2:
        raise StackelbergError(f"parameters must be 2 or more, got {parameters}")
    square = parameters**2
    return square / math.log(parameters) ** 2, square * math.log(parameters / (error**2 * delta)) / error**2


def unseen_labels(atoms: int, samples: int) -> float:
    """The best expected accuracy of *any* algorithm: 1 - (1/2) (1 - 1/k)^N, k equally likely atoms, random labels.

    Exact: an atom is unseen with probability (1 - 1/k)^N, and its label is then a fair coin. For parity on {0,1}^n,
    k = 2^n, a learner who cannot know the law stands here.
    """
    return 1 - (1 - 1 / atoms) ** samples / 2


def samples_needed(atoms: int, error: float) -> int:
    """The least N at which `unseen_labels` reaches 1 - error: no algorithm is there before.

    >>> samples_needed(64, 0.1)
    103
    """
    _check_rates(error, 0.5)
    if error >= 0.5:
        return 0
    return math.ceil(math.log(2 * error) / math.log1p(-1 / atoms))


def seen_share(atoms: int, samples: int) -> float:
    """1 - (1 - 1/k)^N: the expected accuracy of a network that knows what it saw and abstains elsewhere."""
    return 1 - (1 - 1 / atoms) ** samples


def ball_and_shell(dimension: int, width: int) -> float:
    """The best accuracy of any network whose first layer has `width` neurons, on the law of Theorem 5.1.

    Label +1 uniform on the unit ball, -1 uniform on the shell 2^(1/n) <= |x| <= 3^(1/n), equally likely. The first
    layer sees a projection to w dimensions, of norm t with densities

        f_1 ~ (1 - t^2)^((n-w)/2) t^(w-1),   f_2 ~ [(r_3^2 - t^2)_+^((n-w)/2) - (r_2^2 - t^2)_+^((n-w)/2)] t^(w-1)

    under equal factors, so the accuracy is the integral of max(f_1, f_2) over twice that of f_1.
    """
    if not width >= 1 or dimension < 1:
        raise StackelbergError(f"width and dimension must be 1 or more, got {width} and {dimension}")
    if width >= dimension:
        return 1.0
    half, r2, r3 = (dimension - width) / 2, 2 ** (1 / dimension), 3 ** (1 / dimension)

    def ball(t: float, radius: float = 1.0) -> float:
        return max(radius**2 - t**2, 0.0) ** half * t ** (width - 1)

    def better(t: float) -> float:
        return max(ball(t), ball(t, r3) - ball(t, r2))

    kinks = [0.0, _crossing(dimension, width), 1.0, r2, r3]
    total = sum(quad(better, a, b, limit=200)[0] for a, b in pairwise(kinks))
    return total / (2 * quad(ball, 0, 1, limit=200)[0])


def _crossing(dimension: int, width: int) -> float:
    """Where the two densities are equal, by bisection: the first lies above before, below after."""
    half, low, high = (dimension - width) / 2, 0.0, 1.0
    r2, r3 = 2 ** (2 / dimension), 3 ** (2 / dimension)
    for _ in range(60):
        t = (low + high) / 2
        above = (1 - t * t) ** half > (r3 - t * t) ** half - (r2 - t * t) ** half
        low, high = (t, high) if above else (low, t)
    return low


def first_hopeless_dimension(width: int, accuracy: float = 0.51) -> int:
    """The smallest n at which no network of this first width passes `accuracy` on the ball and the shell.

    >>> first_hopeless_dimension(1)
    47
    """
    if not 0.5 < accuracy < 1:
        raise StackelbergError(f"accuracy must lie in (0.5, 1), got {accuracy}: one half is reached in no dimension")
    dimension = width
    while ball_and_shell(dimension, width) > accuracy:
        dimension += 1
    return dimension


def _check(dimension: int, separation: float) -> None:
    if dimension < 1 or not separation > 0:
        raise StackelbergError(f"dimension must be 1 or more and separation > 0 (l2), got {dimension} and {separation}")


def _check_rates(error: float, delta: float) -> None:
    if not 0 < error < 1 or not 0 < delta < 1:
        raise StackelbergError(f"error and delta must lie in (0, 1), got {error} and {delta}")
