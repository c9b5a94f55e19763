"""Which network is this, and is its file safe to load?"""

from stackelberg.models.catalogue import NAMES, Spec, build, spec_of
from stackelberg.models.checks import check_output
from stackelberg.models.normalized import Normalized
from stackelberg.models.stored import load
from stackelberg.models.weights import load_weights, save_weights

__all__ = ["NAMES", "Normalized", "Spec", "build", "check_output", "load", "load_weights", "save_weights", "spec_of"]
