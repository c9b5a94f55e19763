"""How do I train one that stays good when the adversary answers?"""

from stackelberg.games.adversarial import Adversarial, Standard, Trades
from stackelberg.games.catalogue import NAMES, NO_BALL, named, restored
from stackelberg.games.certified import IntervalBound, LinearBound, SmallBoxes
from stackelberg.games.convex import ConvexGame
from stackelberg.games.displaced import WeightPerturbed
from stackelberg.games.exploiting import Exploitability, exploitability
from stackelberg.games.frequency import Frequency
from stackelberg.games.game import Game, Play
from stackelberg.games.generative import Fit
from stackelberg.games.kl import kl_worst_case
from stackelberg.games.loop import Equilibrium, solve
from stackelberg.games.margin import LipschitzMargin
from stackelberg.games.mart import Mart
from stackelberg.games.recipe import Recipe
from stackelberg.games.reconstruction import Reconstruction
from stackelberg.games.saddle import Distribution, Nash, is_equilibrium, nash
from stackelberg.games.single_step import SingleStep
from stackelberg.games.statistical import StatisticallyRobust
from stackelberg.games.tradeoff import Tradeoff
from stackelberg.games.wasserstein import WassersteinDRO
from stackelberg.games.wrapper import ParameterBox

__all__ = [
    "NAMES",
    "NO_BALL",
    "Adversarial",
    "ConvexGame",
    "Distribution",
    "Equilibrium",
    "Exploitability",
    "Fit",
    "Frequency",
    "Game",
    "IntervalBound",
    "LinearBound",
    "LipschitzMargin",
    "Mart",
    "Nash",
    "ParameterBox",
    "Play",
    "Recipe",
    "Reconstruction",
    "SingleStep",
    "SmallBoxes",
    "Standard",
    "StatisticallyRobust",
    "Tradeoff",
    "Trades",
    "WassersteinDRO",
    "WeightPerturbed",
    "exploitability",
    "is_equilibrium",
    "kl_worst_case",
    "named",
    "nash",
    "restored",
    "solve",
]
