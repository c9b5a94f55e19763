"""How do I train one that stays good when the adversary answers?"""

from stackelberg.games.adversarial import Adversarial, Standard, Trades
from stackelberg.games.catalogue import NAMES, named
from stackelberg.games.certified import IntervalBound, LinearBound, SmallBoxes
from stackelberg.games.game import Game, Play
from stackelberg.games.kl import kl_worst_case
from stackelberg.games.loop import Equilibrium, solve
from stackelberg.games.recipe import Recipe
from stackelberg.games.statistical import StatisticallyRobust
from stackelberg.games.wasserstein import WassersteinDRO

__all__ = [
    "NAMES",
    "Adversarial",
    "Equilibrium",
    "Game",
    "IntervalBound",
    "LinearBound",
    "Play",
    "Recipe",
    "SmallBoxes",
    "Standard",
    "StatisticallyRobust",
    "Trades",
    "WassersteinDRO",
    "kl_worst_case",
    "named",
    "solve",
]
