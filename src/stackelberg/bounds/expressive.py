"""When is more width no more risk?  The bound of empirical minimisers with width and samples both in the denominator.

Yu, Miao, Zhu, Gao and Zhang 2025 (ICLR), theorem 4.3, with constants. Two-layer networks of width W,

    F(x) = sum_{i <= W} a_i relu(w_i . x + b_i) + c,   all parameters in [-1, 1],  x in [0, 1]^d,  y = +-1

Suppose G of width W_D has y G(x) >= kappa almost surely. k copies of G fit into F, with k = floor(W / W_D) where c = 0
("plain") and k = floor(W / (W_D + 1)) with c ("biased"; a neuron relu(0 . x + 1) carries each further bias), so the
empirical minimiser of the logistic loss has a risk of at most ln(1 + exp(-k kappa)). With probability 1 - delta every
F with so small a risk has

    plain    error <= exp(-k kappa / 2) / ln 2 + 8 W (d + 1) / (k kappa sqrt N) + sqrt(ln(1 / delta) / (2 N))
    biased   error <= 2 exp(-k kappa / 2) + (4 / (k kappa)) (2 W (d + 1) + 1) / sqrt N + sqrt(ln(1 / delta) / (2 N))

W / k <= W_D (1 + 1/k) (plain): no W is left in the numerator. Proof: an example with margin y F <= g = k kappa / 2
costs ln(1 + e^-g) >= e^-g ln 2 (ln(1 + t) >= t ln 2 on [0, 1]), so their share is at most e^-g / ln 2 (and 1 / ln 2 <=
2); error <= share(margin <= g) + (2 / g) Rad + sqrt(ln(1 / delta) / (2 N)); Rad <= (2 W (d + 1) + |c|) / sqrt N, as F
lies in W times the absolute convex hull of neurons (2), relu contracts, and E |sum_i s_i x_ij| <= sqrt N. Of the two
derivations the first is the plain one, the second the biased; both are right, each for its class. A risk of q times
e^(-k kappa) multiplies the first term by q.

Robust version. In a ball of radius r (l-infinity) y F falls by at most r S(F), S = sum_i |a_i| ||w_i||_1 <= W d. If y G
- r S(G) >= kappa, F minimises the loss at y F - r S(F), as certified training does, and k copies have k S(G), then the
same bound holds for the robust error with 2 W (d + 1) replaced by 2 W (d + 1) + r W d (E |sum_i s_i| <= sqrt N).
"""

import math
from dataclasses import dataclass

from stackelberg.bounds.bound import ERROR, Bound, of_rate
from stackelberg.bounds.checking import check_delta, check_samples
from stackelberg.errors import StackelbergError, unknown

SOURCE = "Yu, Miao, Zhu, Gao and Zhang 2025 (ICLR), theorem 4.3; constants derived"


@dataclass(frozen=True)
class Expressed:
    """How a distribution is expressed by a narrow network G.

    Attributes:
        width: W_D of G.
        margin: kappa, y G(x) - radius S(G) almost surely, in the network's output units.
        dimension: d.
        radius: of the adversary, l-infinity in input units; 0 for none.
        sure: whether margin and width are known of the distribution; else they were found on a sample.
    """

    width: int
    margin: float
    dimension: int
    radius: float = 0.0
    sure: bool = True

    def __post_init__(self) -> None:
        if self.width < 1 or self.dimension < 1 or not self.margin > 0 or not self.radius >= 0:
            raise StackelbergError(
                "a distribution is expressed by width >= 1 and margin > 0 in dimension >= 1, radius >= 0, got"
                f" {self.width}, {self.margin}, {self.dimension} and {self.radius}"
            )


def copies(width: int, expressed: Expressed, form: str = "plain") -> int:
    """k, how often G fits into a network of this width.

    >>> copies(20, Expressed(1, 0.25, 2), "biased")
    10
    """
    if form not in ("plain", "biased"):
        raise unknown("form", form, ("plain", "biased"))
    return width // (expressed.width + (form == "biased"))


def risk_needed(width: int, expressed: Expressed, form: str = "plain") -> float:
    """ln(1 + exp(-k kappa)): the empirical logistic risk at which the bound may be used, nats."""
    return math.log1p(math.exp(-copies(width, expressed, form) * expressed.margin))


def log_risk_needed(width: int, expressed: Expressed, form: str = "plain") -> float:
    """ln of `risk_needed`, also where that is below the smallest float."""
    scale = copies(width, expressed, form) * expressed.margin
    return -scale if scale > 40 else math.log(math.log1p(math.exp(-scale)))


def terms(
    width: int, samples: int, expressed: Expressed, delta: float = 0.05, form: str = "plain"
) -> tuple[float, float, float]:
    """(share of small margins, complexity, chance): the three terms, whose sum bounds the error.

    >>> round(1 - sum(terms(200, 10**6, Expressed(1, 0.25, 2), 0.05, "biased")), 4)
    0.8066

    Args:
        width: W.
        samples: N.
        expressed: how the distribution is expressed.
        delta: the chance that the bound fails.
        form: "plain" without an output bias, "biased" with it.

    Raises:
        StackelbergError: delta outside (0, 1), or no sample.
    """
    check_delta(delta)
    check_samples(samples)
    often = copies(width, expressed, form)
    chance = math.sqrt(math.log(1 / delta) / (2 * samples))
    if often < 1:
        return math.inf, math.inf, chance
    scale, dimension = often * expressed.margin, expressed.dimension
    reach = 2 * width * (dimension + 1) + (form == "biased") + expressed.radius * width * dimension
    share = math.exp(-scale / 2) * (2 if form == "biased" else 1 / math.log(2))
    return share, 4 * reach / (scale * math.sqrt(samples)), chance


def expressive(
    width: int,
    samples: int,
    expressed: Expressed,
    risk: float,
    delta: float = 0.05,
    form: str = "plain",
) -> Bound:
    """The error (robust error, where `expressed` has a radius) of a network with this empirical logistic risk.

    The hypothesis that can be checked is checked: a risk above `risk_needed` gives no bound.

    >>> bound = expressive(200, 10**6, Expressed(1, 0.25, 2), risk=0.001, form="biased")
    >>> bound.vacuous, bound.kind
    (True, 'theorem')

    Args:
        width: W.
        samples: N.
        expressed: how the distribution is expressed.
        risk: mean of ln(1 + exp(-(y F - radius S(F)))) on the N examples, nats.
        delta: the chance that the bound fails.
        form: "plain" without an output bias, "biased" with it.
    """
    value = sum(terms(width, samples, expressed, delta, form))
    needed = risk_needed(width, expressed, form)
    assumptions = [
        "the training examples are independent draws of the distribution",
        f"two layers of width {width}, all parameters in [-1, 1], inputs in [0, 1]^{expressed.dimension}, two classes",
    ]
    if not expressed.sure:
        assumptions.append(
            f"estimated: that width {expressed.width} expresses the distribution with margin {expressed.margin:.3g};"
            " found on the training examples, and a search may miss narrower networks"
        )
    if risk > needed * (1 + 1e-9):
        value = math.inf
        assumptions.append(f"not met: the empirical risk is {risk:.4g}, and an empirical minimiser has <= {needed:.4g}")
    return of_rate(
        name="expressive power" + (", robust" if expressed.radius else ""),
        value=value,
        delta=delta,
        holds_for=("robust " if expressed.radius else "") + ERROR,
        assumptions=tuple(assumptions),
        kind="theorem" if expressed.sure else "estimate",
        source=SOURCE,
    )
