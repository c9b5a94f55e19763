"""Which game has which name on the command line?"""

from collections.abc import Callable, Mapping
from typing import Any

from stackelberg.errors import StackelbergError, unknown
from stackelberg.games.adversarial import Adversarial, Standard, Trades
from stackelberg.games.certified import IntervalBound, LinearBound, SmallBoxes
from stackelberg.games.displaced import WeightPerturbed
from stackelberg.games.frequency import Frequency
from stackelberg.games.game import Game
from stackelberg.games.margin import LipschitzMargin
from stackelberg.games.mart import Mart
from stackelberg.games.single_step import SingleStep
from stackelberg.games.statistical import StatisticallyRobust
from stackelberg.games.tradeoff import Tradeoff
from stackelberg.games.wasserstein import WassersteinDRO
from stackelberg.games.wrapper import ParameterBox
from stackelberg.threat import Ball

_MAKERS: dict[str, Callable[[Ball, int, float, float], Game]] = {
    "standard": lambda ball, steps, beta, gamma: Standard(),
    "at": lambda ball, steps, beta, gamma: Adversarial(ball, steps=steps),
    "at-cw": lambda ball, steps, beta, gamma: Adversarial(ball, payoff="cw", steps=steps),
    "trades": lambda ball, steps, beta, gamma: Trades(ball, beta=beta, steps=steps),
    "mart": lambda ball, steps, beta, gamma: Mart(ball, steps=steps),
    "fast": lambda ball, steps, beta, gamma: SingleStep(ball, steps=steps),
    "at-awp": lambda ball, steps, beta, gamma: WeightPerturbed(Adversarial(ball, steps=steps)),
    "trades-awp": lambda ball, steps, beta, gamma: WeightPerturbed(Trades(ball, beta=beta, steps=steps)),
    "tradeoff": lambda ball, steps, beta, gamma: Tradeoff(Adversarial(ball, steps=steps)),
    "udr": lambda ball, steps, beta, gamma: WassersteinDRO(ball, steps=steps),
    "sr-at": lambda ball, steps, beta, gamma: StatisticallyRobust(Adversarial(ball, steps=steps), gamma),
    "sr-trades": lambda ball, steps, beta, gamma: StatisticallyRobust(Trades(ball, beta=beta, steps=steps), gamma),
    "sr-wdro": lambda ball, steps, beta, gamma: StatisticallyRobust(WassersteinDRO(ball, steps=steps), gamma),
    "ibp": lambda ball, steps, beta, gamma: IntervalBound(ball),
    "crown-ibp": lambda ball, steps, beta, gamma: LinearBound(ball),
    "margin": lambda ball, steps, beta, gamma: LipschitzMargin(ball),
    "fat": lambda ball, steps, beta, gamma: Frequency(steps=steps),
    "sabr": lambda ball, steps, beta, gamma: SmallBoxes(ball, steps=steps),
}
NAMES = tuple(_MAKERS)
NO_BALL = ("standard", "fat")
"""The games whose followers need no ball: nobody moves, or each in a space of its own."""


def named(name: str, ball: Ball, steps: int = 10, beta: float = 6.0, gamma: float = 0.1) -> Game:
    """The game called `name` (see `NAMES`) in `ball`.

    Args:
        name: for example "at", "trades", "sr-wdro".
        ball: what the follower may do; not used by those of `NO_BALL`.
        steps: of the follower's ascent.
        beta: TRADES' weight of the robust term.
        gamma: radius of the KL ball of the sr- games, in nats.
    """
    if name not in _MAKERS:
        raise unknown("game", name, NAMES)
    return _MAKERS[name](ball, steps, beta, gamma)


def restored(description: Mapping[str, Any]) -> Game:
    """The game that `Game.describe` has described, for example in a run's record.

    Raises:
        StackelbergError: it is none of this library's games, or its fields are of another version.
    """
    examples = [maker(Ball("linf", 0.1), 1, 6.0, 0.1) for maker in _MAKERS.values()]
    known: dict[str, type[Game]] = {type(game).__name__: type(game) for game in examples}
    known["ParameterBox"] = ParameterBox
    name = str(description.get("name"))
    if name not in known:
        raise unknown("kind of game", name, known)
    values = {key: value for key, value in description.items() if key != "name"}
    try:
        if isinstance(values.get("ball"), Mapping):
            values["ball"] = Ball(**values["ball"])
        if isinstance(values.get("game"), Mapping):
            values["game"] = restored(values["game"])
        return known[name](**values)
    except TypeError as error:
        raise StackelbergError(f"the game {name} is described by fields of another version ({error})") from None
