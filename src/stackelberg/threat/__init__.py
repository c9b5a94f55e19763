"""What may the adversary do, and how is the damage counted?"""

from stackelberg.threat import chance, payoff
from stackelberg.threat.ball import Ball, Norm, parse_radius
from stackelberg.threat.letters import Letters
from stackelberg.threat.rate import Rate, clopper_pearson, mcnemar
from stackelberg.threat.weight_ball import WeightBall

__all__ = [
    "Ball",
    "Letters",
    "Norm",
    "Rate",
    "WeightBall",
    "chance",
    "clopper_pearson",
    "mcnemar",
    "parse_radius",
    "payoff",
]
