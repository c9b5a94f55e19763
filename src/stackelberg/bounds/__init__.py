"""What will it do on data it has not seen?"""

from stackelberg.bounds.bound import Bound
from stackelberg.bounds.boxed import Boxed, search_expressed
from stackelberg.bounds.comparing import Budget, Compared, compare, compared
from stackelberg.bounds.expressive import Expressed, expressive
from stackelberg.bounds.hold_out import hold_out, robust_hold_out
from stackelberg.bounds.norms import Norms, norm_bounds, norms_of
from stackelberg.bounds.pac_bayes import PacBayes, pac_bayes
from stackelberg.bounds.rademacher import RandomLabels, rademacher, random_labels
from stackelberg.bounds.sgd_path import Path, walk
from stackelberg.bounds.uniform import Architecture, architecture_of, vc

__all__ = [
    "Architecture",
    "Bound",
    "Boxed",
    "Budget",
    "Compared",
    "Expressed",
    "Norms",
    "PacBayes",
    "Path",
    "RandomLabels",
    "architecture_of",
    "compare",
    "compared",
    "expressive",
    "hold_out",
    "norm_bounds",
    "norms_of",
    "pac_bayes",
    "rademacher",
    "random_labels",
    "robust_hold_out",
    "search_expressed",
    "vc",
    "walk",
]
