"""How bad can it get at test time?"""

from stackelberg.attacks.apgd import APGD
from stackelberg.attacks.attack import Attack
from stackelberg.attacks.hunt import Hunt
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.attacks.pgd import FGSM, PGD, ascend
from stackelberg.attacks.square import Square
from stackelberg.attacks.suite import Step, Suite, SuiteResult, suite

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "Attack",
    "Hunt",
    "Oracle",
    "Square",
    "Step",
    "Suite",
    "SuiteResult",
    "ascend",
    "suite",
    "untouched",
]
