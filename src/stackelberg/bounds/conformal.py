"""Which labels cannot be ruled out?  Conformal prediction sets, also where the inputs come from another law.

Split conformal (Vovk, Gammerman and Shafer 2005): with scores s_i = s(x_i, y_i) of n calibration examples the network
never saw, the set {y : s(x, y) <= the ceil((n + 1)(1 - alpha))-th smallest s_i} misses the label of a fresh example
with probability at most alpha, whatever the network and the law, if all are exchangeable.

Under covariate shift (Tibshirani, Barber, Candes and Ramdas 2019), dQ/dP = w(x), the weighted quantile takes its place:
the least q for which the sum over s_i <= q of w(x_i), plus nothing, reaches (1 - alpha)(sum_i w(x_i) + w(x)); else inf.
With estimated weights the miss probability is at most alpha + E_P|w_est / E_P w_est - w| / 2 (Lei and Candes 2021).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from scipy.special import betaincinv  # scipy.stats would cost half a second at import

from stackelberg.bounds.bound import Bound
from stackelberg.errors import StackelbergError


@dataclass(frozen=True, eq=False)
class Conformal:
    """A calibrated rule.

    Attributes:
        scores: of the calibration examples, rising, [n].
        weights: w(x_i) in the same order, [n]; None without shift.
        alpha: the miss probability asked for.
        estimated: whether the weights were estimated.
    """

    scores: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"] | None
    alpha: float
    estimated: bool = False

    def thresholds(self, weights: Float[np.ndarray, " B"] | None = None, count: int = 1) -> Float[np.ndarray, " B"]:
        """The largest score that is let in, for each fresh input; inf where every label is.

        Args:
            weights: w(x) of the fresh inputs; needed under shift.
            count: of fresh inputs, without shift.
        """
        n = len(self.scores)
        if self.weights is None:
            rank = math.ceil((n + 1) * (1 - self.alpha))
            return np.full(count, self.scores[rank - 1] if rank <= n else np.inf)
        if weights is None or not ((weights >= 0) & np.isfinite(weights)).all():
            raise StackelbergError(
                "under shift every fresh input needs its weight w(x), a number >= 0; got none or NaN"
            )
        running = np.cumsum(self.weights)
        wanted = (1 - self.alpha) * (running[-1] + weights)
        place = np.searchsorted(running, wanted * (1 - 1e-12))
        return np.where(place < n, self.scores[np.minimum(place, n - 1)], np.inf)

    def sets(
        self, scores: Float[np.ndarray, "B K"], weights: Float[np.ndarray, " B"] | None = None
    ) -> Bool[np.ndarray, "B K"]:
        """Which labels stay, from the scores of every label."""
        return scores <= self.thresholds(weights, len(scores))[:, None]

    def bound(self, weight_error: float | None = None) -> Bound:
        """The guarantee: probability over calibration and fresh example together.

        Args:
            weight_error: E|w_est - w| / 2, where it is known; without it estimated weights give an estimate.
        """
        shifted = self.weights is not None
        known = not self.estimated or weight_error is not None
        value = self.alpha + (weight_error or 0.0)
        fresh = "the shifted law, whose labels given the input are as before" if shifted else "the same law"
        source = "Tibshirani et al. 2019" if shifted else "Vovk et al. 2005"
        return Bound(
            name="conformal sets" + (", covariate shift" if shifted else ""),
            value=min(value, 1.0),
            confidence=1.0,
            holds_for=f"chance that the set misses the label of an example from {fresh}, calibration drawn anew",
            assumptions=(
                "calibration examples are independent and were not trained on",
                *(("the law of the label given the input has not changed",) if shifted else ()),
                *(() if known else ("the density ratio was estimated: its mean error / 2 must be added",)),
            ),
            vacuous=value >= 1,
            kind="theorem" if known else "estimate",
            source=source,
        )

    def bound_given_calibration(self, confidence: float = 0.95) -> Bound:
        """The miss probability of *this* rule: a Beta quantile, with confidence over the calibration (Vovk 2012).

        Without shift only: the miss probability of the j-th smallest score is at most a Beta(n + 1 - j, j) variable.
        """
        if self.weights is not None:
            raise StackelbergError("the guarantee given the calibration is for rules without weights; use `bound`")
        n = len(self.scores)
        rank = math.ceil((n + 1) * (1 - self.alpha))
        value = 0.0 if rank > n else float(betaincinv(n + 1 - rank, rank, confidence))
        return Bound(
            "conformal sets, given their calibration", value, confidence,
            "chance that the set misses the label of a fresh example",
            ("calibration and fresh examples are independent draws of one law, and were not trained on",),
            value >= 1, "theorem", "Vovk 2012, proposition 2a",
        )  # fmt: skip


def calibrate(
    scores: Float[NDArray, " n"], alpha: float, weights: Float[NDArray, " n"] | None = None, estimated: bool = False
) -> Conformal:
    """A rule from the scores s(x_i, y_i) of held-out examples.

    Raises:
        StackelbergError: no or infinite scores, alpha outside (0, 1), weights that are negative or all 0.
    """
    if not len(scores) or not np.isfinite(scores).all() or not 0 < alpha < 1:
        raise StackelbergError(f"calibration needs finite scores and alpha in (0, 1), got {len(scores)} and {alpha}")
    order = np.argsort(scores, kind="stable")
    sorted_scores = np.asarray(scores, dtype=np.float64)[order]
    if weights is None:
        return Conformal(sorted_scores, None, alpha)
    if weights.shape != scores.shape or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.sum() > 0:
        raise StackelbergError("weights must be numbers >= 0, one for each score, and not all 0")
    return Conformal(sorted_scores, np.asarray(weights, dtype=np.float64)[order], alpha, estimated)


def least_confident(probabilities: Float[NDArray, "B K"]) -> Float[np.ndarray, "B K"]:
    """s(x, y) = 1 - p_y: the smallest sets on average (Sadinle, Lei and Wasserman 2019)."""
    return 1 - np.asarray(probabilities, dtype=np.float64)


def cumulative(probabilities: Float[NDArray, "B K"], seed: int = 0) -> Float[np.ndarray, "B K"]:
    """s(x, y) = probability of the labels more likely than y, plus u p_y: sets that adapt (Romano et al. 2020).

    u is uniform, one for each example.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    order = np.argsort(-p, axis=1, kind="stable")
    ordered = np.take_along_axis(p, order, 1)
    u = np.random.default_rng(seed).random((len(p), 1))
    total = np.cumsum(ordered, 1) - ordered + u * ordered
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, total, 1)
    return scores


def of_labels(scores: Float[NDArray, "B K"], y: Int64[NDArray, " B"]) -> Float[np.ndarray, " B"]:
    """The scores of the true labels."""
    return scores[np.arange(len(y)), y]
