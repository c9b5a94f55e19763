"""Which attacks can run on a model that only answers?  Those by scores; where it gives labels alone, by decisions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.foreign import Foreign
from stackelberg.attacks.hopskipjump import HopSkipJump
from stackelberg.attacks.oracle import NoGradient
from stackelberg.attacks.square import Square
from stackelberg.models import BlackBox
from stackelberg.threat import Ball

if TYPE_CHECKING:
    from stackelberg.attacks.suite import SuiteResult


def able(attacks: Sequence[Attack], model: BlackBox, ball: Ball) -> tuple[Attack, ...]:
    """What takes the place of some attacks on a black box: those of them that can run, given all the time they have.

    Scores: Square and HopSkipJump as they are in `attacks`, on every example; else Square with 500 queries. Labels:
    HopSkipJump, with as many queries as Square was to have, else 1000.

    Raises:
        NoGradient: the norm is neither linf nor l2, for which no such attack is defined.
    """
    if ball.norm not in ("linf", "l2"):
        raise NoGradient(
            f"a model that only answers can be attacked in linf and l2, got norm {ball.norm!r}; pass one of these, or a"
            " differentiable model"
        )
    decisions = tuple(attack for attack in attacks if isinstance(attack, HopSkipJump))
    others = tuple(attack for attack in attacks if isinstance(attack, Foreign) and not attack.gradients)
    scores = [attack for attack in attacks if isinstance(attack, Square)]
    if model.labels:
        own = decisions or (HopSkipJump(ball, max([attack.queries for attack in scores], default=1000)),)
        return own + others
    searches = tuple(replace(attack, gates=(), within=None) for attack in scores)
    return (searches + decisions or (Square(ball, 500),)) + others


def with_the_others(result: "SuiteResult", attacks: Sequence[Attack], model: BlackBox) -> "SuiteResult":
    """A result with the attacks that could not run; the signs of masked gradients say nothing where there are none."""
    gives = "labels alone" if model.labels else "scores and no gradients"
    ran = {step.name for step in result.steps}
    others = [
        replace(
            result.steps[-1], name=attack.name, robust_after=result.robust, seconds=0.0, forwards=0, backwards=0,
            skipped=f"the model is a black box that gives {gives}", passed_over=0,
        )
        for attack in attacks
        if attack.name not in ran
    ]  # fmt: skip
    return replace(result, steps=(*result.steps, *others), signs={}, mends=frozenset())
