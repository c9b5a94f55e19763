"""What if the adversary moves first, in the training data?"""

from stackelberg.poison import ownership
from stackelberg.poison.availability import Moves, Poisoned, availability, poisoner
from stackelberg.poison.backdoors import Backdoored, attack_success, backdoor, load_backdoor
from stackelberg.poison.countermeasures import COUNTERS, Countermeasure, countermeasure
from stackelberg.poison.evaluating import evaluate
from stackelberg.poison.generator import Generator
from stackelberg.poison.inversion import Inverted, trigger_inversion
from stackelberg.poison.methods import METHODS, method
from stackelberg.poison.partitions import Partitioned, load_partitioned, partition
from stackelberg.poison.poisoner import Poisoner
from stackelberg.poison.publishing import publish
from stackelberg.poison.stealth import Stealth, stealth
from stackelberg.poison.suspects import Suspects, activation_clustering, spectral_signatures
from stackelberg.poison.targets import TARGETED, Targeted, new_head, targeted
from stackelberg.poison.trials import Evaluation, Trial
from stackelberg.poison.trigger import Stamp, Trigger, load_trigger
from stackelberg.poison.two_part import TwoPart, surrogate_of, two_part
from stackelberg.poison.voted import Poisoning, certified_accuracy, poison_certificate, retrained

__all__ = [
    "COUNTERS",
    "METHODS",
    "TARGETED",
    "Backdoored",
    "Countermeasure",
    "Evaluation",
    "Generator",
    "Inverted",
    "Moves",
    "Partitioned",
    "Poisoned",
    "Poisoner",
    "Poisoning",
    "Stamp",
    "Stealth",
    "Suspects",
    "Targeted",
    "Trial",
    "Trigger",
    "TwoPart",
    "activation_clustering",
    "attack_success",
    "availability",
    "backdoor",
    "certified_accuracy",
    "countermeasure",
    "evaluate",
    "load_backdoor",
    "load_partitioned",
    "load_trigger",
    "method",
    "new_head",
    "ownership",
    "partition",
    "poison_certificate",
    "poisoner",
    "publish",
    "retrained",
    "spectral_signatures",
    "stealth",
    "surrogate_of",
    "targeted",
    "trigger_inversion",
    "two_part",
]
