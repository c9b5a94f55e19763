"""What if the adversary moves first, in the training data?"""

from stackelberg.poison.availability import Moves, Poisoned, availability, poisoner
from stackelberg.poison.backdoors import Backdoored, attack_success, backdoor, load_backdoor
from stackelberg.poison.generator import Generator
from stackelberg.poison.methods import METHODS, method
from stackelberg.poison.poisoner import Poisoner
from stackelberg.poison.stealth import Stealth, stealth
from stackelberg.poison.trigger import Stamp, Trigger, load_trigger
from stackelberg.poison.two_part import TwoPart, surrogate_of, two_part

__all__ = [
    "METHODS",
    "Backdoored",
    "Generator",
    "Moves",
    "Poisoned",
    "Poisoner",
    "Stamp",
    "Stealth",
    "Trigger",
    "TwoPart",
    "attack_success",
    "availability",
    "backdoor",
    "load_backdoor",
    "load_trigger",
    "method",
    "poisoner",
    "stealth",
    "surrogate_of",
    "two_part",
]
