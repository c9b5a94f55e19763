"""How is a classifier of scikit-learn asked as a network is?  As a black box of images flattened to rows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stackelberg.errors import StackelbergError
from stackelberg.models.black_box import BlackBox


def of_estimator(estimator: Any) -> BlackBox:
    """A classifier of scikit-learn, or a pipeline of one, as a black box of images flattened to rows [B, d] in [0, 1].

    It gives scores where it has `predict_proba`, else labels by `predict`. Its classes must be 0..K-1.

    Raises:
        StackelbergError: it predicts nothing, or other classes.
    """
    classes = getattr(estimator, "classes_", None)
    if not callable(getattr(estimator, "predict", None)) or classes is None:
        raise StackelbergError(
            f"a {type(estimator).__name__} is no fitted classifier (it needs predict and classes_); fit it first"
        )
    names = np.asarray(classes)
    if names.dtype.kind not in "iu" or not np.array_equal(names, np.arange(len(names))):
        raise StackelbergError(
            f"the classes of a {type(estimator).__name__} must be 0 to {len(names) - 1}, got {names[:5].tolist()}; fit"
            " it on class numbers"
        )
    probabilities: Callable[[np.ndarray], np.ndarray] | None = getattr(estimator, "predict_proba", None)
    ask = probabilities if callable(probabilities) else estimator.predict
    return BlackBox(lambda x: ask(x.reshape(len(x), -1)), len(names), labels=ask is not probabilities, arrays=True)
