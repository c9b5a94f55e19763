"""Which network is this, and is its file safe to load?"""

from stackelberg.models.catalogue import NAMES, Spec, build, spec_of
from stackelberg.models.normalized import Normalized

__all__ = ["NAMES", "Normalized", "Spec", "build", "spec_of"]
