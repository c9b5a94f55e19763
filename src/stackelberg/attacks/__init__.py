"""How bad can it get at test time?"""

from stackelberg.attacks.apgd import APGD
from stackelberg.attacks.attack import Attack
from stackelberg.attacks.bit_flips import BitFlips, worst_flips
from stackelberg.attacks.carlini_wagner import CarliniWagner
from stackelberg.attacks.chase import minimal_radius, nearest
from stackelberg.attacks.deepfool import DeepFool
from stackelberg.attacks.fab import FAB
from stackelberg.attacks.foreign import ForArt, Foreign
from stackelberg.attacks.generative import GenerativeAttack, latent_reader
from stackelberg.attacks.hopskipjump import HopSkipJump
from stackelberg.attacks.hotflip import HotFlip
from stackelberg.attacks.hunt import Hunt
from stackelberg.attacks.inevitable import Inevitable, inevitable
from stackelberg.attacks.jsma import JSMA
from stackelberg.attacks.momentum import MIFGSM
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.attacks.parameters import AttackedWeights, ParameterAttack
from stackelberg.attacks.pgd import FGSM, PGD, ascend, bim
from stackelberg.attacks.point_add import PointAdd
from stackelberg.attacks.point_drop import PointDrop
from stackelberg.attacks.point_perturb import PointPerturb
from stackelberg.attacks.priced_pgd import PricedPGD
from stackelberg.attacks.reading import classes_of
from stackelberg.attacks.square import Square
from stackelberg.attacks.suite import Step, Suite, SuiteResult, suite

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "JSMA",
    "MIFGSM",
    "PGD",
    "Attack",
    "AttackedWeights",
    "BitFlips",
    "CarliniWagner",
    "DeepFool",
    "ForArt",
    "Foreign",
    "GenerativeAttack",
    "HopSkipJump",
    "HotFlip",
    "Hunt",
    "Inevitable",
    "Oracle",
    "ParameterAttack",
    "PointAdd",
    "PointDrop",
    "PointPerturb",
    "PricedPGD",
    "Square",
    "Step",
    "Suite",
    "SuiteResult",
    "ascend",
    "bim",
    "classes_of",
    "inevitable",
    "latent_reader",
    "minimal_radius",
    "nearest",
    "suite",
    "untouched",
    "worst_flips",
]
