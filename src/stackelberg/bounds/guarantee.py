"""How sure is SR-WDRO of data it has not seen?  Its guarantee, in general and on finitely many points.

Liu, Wang, Zhu, Miao and Gao (ICLR 2025): if the sample's set U_{eps, gamma}(D_N) holds the law D, then every law D_te
near D has E_{D_te} loss <= L_{eps + sigma, gamma}(theta, D_N). In general, with delta = (eps / (diam Z + 1))^2 and
m = m(Z, delta) the internal covering number,

    P(D in U) >= 1 - exp(-gamma N) (4 / delta)^m

On k points eps may be 0, and P(KL(D_N || D) > gamma) is at most

    exp(-gamma N) C(N + k - 1, k - 1)                 ("types"; Cover and Thomas, theorem 11.2.1)
    exp(-gamma N) (e gamma N / (k - 1))^(k - 1)       ("moments", gamma > (k - 1) / N; Agrawal 2020, theorem 1.2)

**How far D_te may be.** The slide writes LP(D_te, D) <= sigma. That is not enough, and W_p(D_te, D) <= sigma with a
finite p is not either: where the sample gives a point more weight than D does, its mass must be carried on a greater
distance in the mean. (Atoms 0, 1, 2; D = (1-a, a, 0), D_te = (1-a, 0, a), so W_1 = a; a sample (1-b, b, 0) with
b > a + eps is as likely as not to occur, and no law within a + eps of it avoids the atom 1, on which a loss may be
smallest. The tests show it.) Enough is W_inf(D_te, D) <= sigma, as for an attack in a ball; or W_p with sigma
replaced by `carried`, the worst mean cost after a re-weighing of at most gamma nats.
"""

import math

from scipy.special import gammaln

from stackelberg.bounds.binary_kl import upper_by_true
from stackelberg.bounds.bound import Bound
from stackelberg.errors import StackelbergError

SOURCE = "Liu et al., ICLR 2025 (SR-WDRO), out-of-distribution guarantee"


def ball_of_measures(eps: float, diameter: float) -> float:
    """delta = (eps / (diam Z + 1))^2: LP(D_N, D'') <= delta gives W_2(D_N, D'') <= eps."""
    if not eps > 0 or not diameter >= 0:
        raise StackelbergError(f"eps must be > 0 and the diameter >= 0 in input units, got {eps} and {diameter}")
    return (eps / (diameter + 1)) ** 2


def carried(sigma: float, gamma: float, diameter: float, power: float = 1.0) -> float:
    """The radius sigma' that replaces sigma where W_p(D_te, D) <= sigma for a finite p, input units:

        sigma' = diam u^(1/p),    u = sup {u : kl(u || (sigma / diam)^p) <= gamma}

    Proof. Carry the D'' of the guarantee (KL(D'' || D) <= gamma) by the optimal coupling of D and D_te to D'''. Data
    processing gives KL(D''' || D_te) <= gamma. The cost dist^p / diam^p in [0, 1] has mean (sigma / diam)^p under the
    coupling and u under the re-weighed one; as outcomes of a coin, kl(u || (sigma / diam)^p) <= gamma.
    """
    if not sigma >= 0 or not (sigma <= diameter or math.isinf(power)) or not power >= 1:
        raise StackelbergError(
            f"sigma must lie in [0, diameter] and power be 1 or more, got {sigma}, {diameter} and {power}"
        )
    if math.isinf(power) or sigma == 0:
        return sigma
    return diameter * upper_by_true((sigma / diameter) ** power, gamma) ** (1 / power)


def log_failure(n: int, gamma: float, log_covering: float, delta: float) -> float:
    """ln of exp(-gamma N) (4 / delta)^m, m = exp(log_covering); may be far above 0: then nothing is said."""
    _check(n, gamma)
    return -gamma * n + math.exp(min(log_covering, 700.0)) * math.log(4 / delta)


def log_samples_needed(confidence: float, gamma: float, log_covering: float, delta: float) -> float:
    """log10 of N = (m ln(4 / delta) + ln(1 / beta)) / gamma, beta = 1 - confidence: enough samples in general."""
    if not 0 < confidence < 1 or not gamma > 0 or not 0 < delta < 4:
        raise StackelbergError(
            f"confidence must be in (0, 1), gamma > 0 and delta in (0, 4), got {confidence}, {gamma} and {delta}"
        )
    first, second = log_covering + math.log(math.log(4 / delta)), math.log(math.log(1 / (1 - confidence)))
    largest = max(first, second)
    return (largest + math.log(math.exp(first - largest) + math.exp(second - largest)) - math.log(gamma)) / math.log(10)


def finite_failure(n: int, k: int, gamma: float, by: str = "moments") -> float:
    """A bound of P(KL(D_N || D) > gamma) for N samples of any law on k points; "types" or "moments", at most 1."""
    _check(n, gamma)
    if k < 1 or by not in ("types", "moments"):
        raise StackelbergError(f"k must be 1 or more and by 'types' or 'moments', got {k} and {by!r}")
    if k == 1:
        return 0.0
    if by == "types":
        log = -gamma * n + float(gammaln(n + k) - gammaln(k) - gammaln(n + 1))
    elif gamma * n <= k - 1:
        return 1.0
    else:
        log = -gamma * n + (k - 1) * (1 + math.log(gamma * n / (k - 1)))
    return min(1.0, math.exp(min(log, 0.0)))


def gamma_needed(n: int, k: int, confidence: float, by: str = "moments") -> float:
    """The least gamma, in nats, at which the finite guarantee has the given confidence; by bisection, from above."""
    if not 0 < confidence < 1:
        raise StackelbergError(f"confidence must be in (0, 1), got {confidence}")
    low, high = 0.0, 1.0
    while finite_failure(n, k, high, by) > 1 - confidence:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if finite_failure(n, k, middle, by) <= 1 - confidence else (middle, high)
    return high


def samples_needed(k: int, gamma: float, confidence: float, by: str = "moments") -> int:
    """The least N at which the finite guarantee on k points has the given confidence at this gamma."""
    if not gamma > 0:
        raise StackelbergError(f"gamma must be > 0 nats, got {gamma}")
    low, high = 0, 1
    while finite_failure(high, k, gamma, by) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if finite_failure(middle, k, gamma, by) <= 1 - confidence else (middle, high)
    return high


def on_finite_space(
    worst: float, n: int, k: int, gamma: float, highest: float, shifted: str, estimate: str | None = None
) -> Bound:
    """The guarantee on k points: E_{D_te} loss <= `worst` = L_{sigma', gamma} (see `finite.worst_nearby`).

    Args:
        worst: L at the radius sigma'.
        n: samples.
        k: points of the space.
        gamma: nats.
        highest: of the loss.
        shifted: which D_te, for `holds_for`.
        estimate: what makes it an estimate, for example how sigma was guessed; None for a theorem.
    """
    failure = finite_failure(n, k, gamma)
    sure = failure < 1
    needed = "" if sure else f"; confidence 95 % needs N = {samples_needed(k, gamma, 0.95):,}"
    return Bound(
        name=f"SR-WDRO on {k} points",
        value=worst if sure else math.inf,
        confidence=1 - failure if sure else 1.0,
        holds_for=f"mean loss on {shifted}",
        assumptions=(
            f"the {n} samples are independent, and independent of the classifier and of the {k} points{needed}",
            "the shifted law lies within the radius, in W_inf, or in W_p with sigma replaced by sigma'",
            *(() if estimate is None else (estimate,)),
        ),
        vacuous=not sure or worst >= highest,
        kind="theorem" if estimate is None else "estimate",
        source=f"{SOURCE}, finite Z; Agrawal 2020",
    )


def in_general(
    worst: float, n: int, gamma: float, log_covering: float, delta: float, highest: float, shifted: str,
    estimate: str | None = None, confidence: float = 0.95,
) -> Bound:  # fmt: skip
    """The guarantee on a space with covering number m: vacuous unless gamma N > m ln(4 / delta); the N needed is said.

    Args:
        worst: L_{eps + sigma', gamma} off the sample.
        n: samples.
        gamma: nats.
        log_covering: ln m(Z, delta).
        delta: see `ball_of_measures`.
        highest: of the loss.
        shifted: which D_te, for `holds_for`.
        estimate: what makes it an estimate; None for a theorem.
        confidence: for which the needed N is said, where the bound is vacuous.
    """
    log = log_failure(n, gamma, log_covering, delta)
    sure = log < 0
    needed = f"N of about 10^{log_samples_needed(confidence, gamma, log_covering, delta):,.4g}"
    return Bound(
        name="SR-WDRO",
        value=worst if sure else math.inf,
        confidence=max(1 - math.exp(log), 5e-324) if sure else 1.0,
        holds_for=f"mean loss on {shifted}",
        assumptions=(
            f"the {n} samples are independent, and independent of the classifier",
            "the classifier's follower keeps labels; the shifted law lies within sigma in W_inf, or in W_p by sigma'",
            *(() if estimate is None else (estimate,)),
            *(() if sure else (f"confidence {confidence:g} needs {needed}, there are {n}",)),
        ),
        vacuous=not sure or worst >= highest,
        kind="theorem" if estimate is None else "estimate",
        source=SOURCE,
    )


def _check(n: int, gamma: float) -> None:
    if n < 1 or not gamma >= 0:
        raise StackelbergError(f"n must be 1 or more and gamma >= 0 nats, got {n} and {gamma}")
