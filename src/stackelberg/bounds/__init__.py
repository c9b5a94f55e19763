"""What will it do on data it has not seen?"""

from stackelberg.bounds.bound import Bound
from stackelberg.bounds.boxed import Boxed, search_expressed
from stackelberg.bounds.cells import Cells, Codebook, by_answers, codebook
from stackelberg.bounds.comparing import Budget, Compared, compare, compared
from stackelberg.bounds.conformal import Conformal, calibrate
from stackelberg.bounds.covering import Net, net
from stackelberg.bounds.density_ratio import density_ratio
from stackelberg.bounds.dimension import Dimension, intrinsic_dimension
from stackelberg.bounds.expressive import Expressed, expressive
from stackelberg.bounds.finite import Nearby, worst_nearby
from stackelberg.bounds.hold_out import hold_out, robust_hold_out
from stackelberg.bounds.norms import Norms, norm_bounds, norms_of
from stackelberg.bounds.off_sample import WorstLoss, off_sample_worst_case
from stackelberg.bounds.pac_bayes import PacBayes, pac_bayes
from stackelberg.bounds.poisoned import Terms
from stackelberg.bounds.prokhorov import levy_prokhorov, levy_prokhorov_upper
from stackelberg.bounds.rademacher import RandomLabels, rademacher, random_labels
from stackelberg.bounds.scenarios import attacked
from stackelberg.bounds.sgd_path import Path, walk
from stackelberg.bounds.transport import Moved, coupled, total_variation, wasserstein
from stackelberg.bounds.uniform import Architecture, architecture_of, vc

__all__ = [
    "Architecture",
    "Bound",
    "Boxed",
    "Budget",
    "Cells",
    "Codebook",
    "Compared",
    "Conformal",
    "Dimension",
    "Expressed",
    "Moved",
    "Nearby",
    "Net",
    "Norms",
    "PacBayes",
    "Path",
    "RandomLabels",
    "Terms",
    "WorstLoss",
    "architecture_of",
    "attacked",
    "by_answers",
    "calibrate",
    "codebook",
    "compare",
    "compared",
    "coupled",
    "density_ratio",
    "expressive",
    "hold_out",
    "intrinsic_dimension",
    "levy_prokhorov",
    "levy_prokhorov_upper",
    "net",
    "norm_bounds",
    "norms_of",
    "off_sample_worst_case",
    "pac_bayes",
    "rademacher",
    "random_labels",
    "robust_hold_out",
    "search_expressed",
    "total_variation",
    "vc",
    "walk",
    "wasserstein",
    "worst_nearby",
]
