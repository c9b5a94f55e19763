"""How much more often does an input occur in the new law than in the old?  The density ratio, by a classifier.

A classifier that tells new from old with probability p(x) of new knows dQ/dP(x) = p / (1 - p) * n / m (Qin 1998). It
is an estimate: logistic regression, fitted on features of inputs that serve nothing else.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from stackelberg.errors import StackelbergError


def density_ratio(
    old: Float[NDArray, "n d"], new: Float[NDArray, "m d"], asked: Float[NDArray, "B d"], strength: float = 1.0,
    most: float = 1e3,
) -> Float[np.ndarray, " B"]:  # fmt: skip
    """dQ/dP at the asked points, at most `most` (a clip makes the weights bounded, and biased where it acts).

    Features are standardised by the mixture. No labels are used.

    Args:
        old: features of inputs from P.
        new: from Q.
        asked: where the ratio is wanted.
        strength: inverse of the l2 penalty, as in scikit-learn.
        most: the largest ratio given.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(old) or not len(new) or old.shape[1] != new.shape[1] or old.shape[1] != asked.shape[1]:
        raise StackelbergError(
            f"the density ratio needs features of one size from both laws, got {old.shape}, {new.shape}, {asked.shape}"
        )
    both = np.concatenate((old, new)).astype(np.float64)
    mean, spread = both.mean(0), both.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(
        (both - mean) / spread, np.repeat((0, 1), (len(old), len(new)))
    )
    log_odds = fitted.decision_function((asked - mean) / spread)
    return np.minimum(np.exp(np.minimum(log_odds, 700.0)) * len(old) / len(new), most)
