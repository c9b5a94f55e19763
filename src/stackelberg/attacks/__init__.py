"""How bad can it get at test time?"""

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.attacks.pgd import FGSM, PGD, ascend

__all__ = ["FGSM", "PGD", "Attack", "Oracle", "ascend", "untouched"]
