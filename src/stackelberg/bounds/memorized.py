"""How wrong is a network that remembers its sample?  The bounds of memorization, as bounds of an error.

Yu, Gao, Zhang and Miao 2024 (NeurIPS); the sample sizes are `memorize.sample_size`. They speak of networks that are
right on balls round the examples (the efficient memorizer, `memorize.generalizable`), not of whatever fits the labels.
"""

import math
from dataclasses import replace

import torch

from stackelberg.bounds.bound import Bound, of_rate
from stackelberg.bounds.checking import check_delta, check_samples
from stackelberg.bounds.hold_out import upper_rate
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.memorize import separation, uncovered
from stackelberg.memorize.sample_size import nearby_set

HOLDS_FOR = "error of an efficient memorizing network of the training set"
SOURCE = "Yu, Gao, Zhang and Miao 2024"


def efficient(cells: int, samples: int, delta: float = 0.05, what: str = "") -> Bound:
    """The error of the efficient memorizer: the eps with sum over i <= S of exp(-N eps / i) <= delta.

    At most S ln(S / delta) / N (theorem 7.3); by bisection less. Huge S is no trouble: the bound is vacuous then, and
    the theorem's own number is given.

    Args:
        cells: S, sets that cover the support and hold one class each, in which one example suffices.
        samples: N.
        delta: the chance that the bound fails.
        what: how S is known, one sentence.
    """
    check_delta(delta)
    check_samples(samples)
    if cells < 1:
        raise StackelbergError(f"cells must be 1 or more, got {cells}")
    log_cells = math.log(cells)
    plain = (log_cells - math.log(delta)) * math.exp(min(log_cells - math.log(samples), 690.0))
    value = _tighter(cells, samples, delta, plain) if plain < 10 and cells <= 10**6 else plain
    needed = (log_cells - math.log(delta)) * 10
    digits = (log_cells + math.log(needed)) / math.log(10)
    return of_rate(
        name="memorization, E_D",
        value=value,
        delta=delta,
        holds_for=HOLDS_FOR,
        assumptions=(
            what or f"the support is covered by {cells} sets in each of which one example decides",
            f"for an error below 0.1 it asks 10^{digits:.1f} examples",
        ),
        source=f"{SOURCE}, theorem 7.3 and proposition 7.7",
    )


def _tighter(cells: int, samples: int, delta: float, high: float) -> float:
    places = torch.arange(1, cells + 1, dtype=torch.float64)
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        fails = float(torch.exp(-samples * middle / places).sum())
        low, high = (low, middle) if fails <= delta else (middle, high)
    return high


def by_separation(train: Dataset, delta: float = 0.05, n: int = 4000) -> Bound:
    """E_D from the dimension and the classes' separation in l2, S <= (6.2 d / c + 1)^d; c estimated on n examples."""
    few = train.take(min(n, len(train)))
    apart = separation(few.x, few.y, "l2").value
    dimension = math.prod(train.shape)
    if not 0 < apart < math.inf:
        raise StackelbergError(f"the separation of the classes is {apart}; memorization needs different points")
    bound = efficient(
        nearby_set(dimension, apart), len(train), delta,
        f"estimated: the classes of the distribution are {apart:.3g} apart in l2, as {len(few)} training examples are",
    )  # fmt: skip
    return replace(bound, kind="estimate")


def by_balls(train: Dataset, test: Dataset, delta: float = 0.05, n: int = 4000, asked: int = 500) -> Bound:
    """The mass outside the balls in which n stored examples decide, from fresh examples: an upper bound of the error.

    Error <= P(no B(x_i, c_i / 3.1) holds x), if the classes are as far apart off the sample as c_i says.
    """
    check_delta(delta)
    few, fresh = train.take(min(n, len(train))), test.take(min(asked, len(test)))
    found = uncovered(few.x, few.y, fresh.x)
    value = upper_rate(found.hits, found.n, delta)
    return of_rate(
        name="memorization, balls that were seen",
        value=value,
        delta=delta,
        holds_for=HOLDS_FOR,
        assumptions=(
            f"estimated: c_i, the distance of a stored example to the other classes, holds off the sample; with"
            f" {len(few)} stored examples and {found.n} fresh ones",
        ),
        kind="estimate",
        source=f"{SOURCE}, definition 7.1; Clopper and Pearson 1934",
    )


def by_parameters(parameters: int, samples: int, delta: float = 0.05) -> Bound:
    """P_D: the error eps with N = P^2 ln(P / (eps^2 delta)) / eps^2, of a memorizer of at most P_D parameters.

    The theorem has an absolute constant without a value; 1 is put in its place, and P is the network's own number.
    """
    check_delta(delta)
    check_samples(samples)
    if parameters < 2:
        raise StackelbergError(f"parameters must be 2 or more, got {parameters}")
    value = parameters / math.sqrt(samples)
    for _ in range(100):  # eps = P sqrt(ln(P / (eps^2 delta)) / N), a contraction where the logarithm is large
        value = parameters * math.sqrt(max(1.0, math.log(parameters / (value**2 * delta))) / samples)
    return of_rate(
        name="memorization, P_D",
        value=value,
        delta=delta,
        holds_for="error of a memorizing network of at most P_D parameters",
        assumptions=(
            "estimated: the theorem's absolute constant, taken as 1",
            f"estimated: P_D, taken as the network's own {parameters} parameters",
        ),
        kind="estimate",
        source=f"{SOURCE}, theorem 6.5",
    )
