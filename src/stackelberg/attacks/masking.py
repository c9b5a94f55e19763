"""When do gradients mislead?  Each sign is a count over examples, and a true statement where nothing is masked.

The signs are those of Athalye, Carlini and Wagner 2018, section 3.1, of Carlini et al. 2019, section 5, and of Croce
and Hein 2020, section 6. One that fires does not say that an example is safe, or broken: it says that the number is
too high, and the suite then passes over nothing.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stackelberg.attacks.hunt import Hunt
from stackelberg.attacks.pgd import PGD
from stackelberg.threat import Ball

Sign = tuple[int, int]
"""(examples that show it, examples asked)."""

LIMITS: dict[str, tuple[float, int]] = {
    "zero-gradient": (0.02, 0),
    "one-step-beats-many": (0.1, 1),
    "no-rise": (0.1, 1),
    "moves-between-seeds": (0.2, 3),
    "large-radius": (0.1, 1),
    "black-box-beats-gradients": (0.01, 1),
}
"""A sign fires where more than this share of the examples asked show it, and more than this many."""

PROBES = 64
"""At most so many examples are asked by the checks that cost gradients."""


def fires(code: str, signs: Mapping[str, Sign]) -> bool:
    """Whether a sign was asked for and is there."""
    seen, asked = signs.get(code, (0, 0))
    share, few = LIMITS[code]
    return seen > max(few, share * asked)


def masked(signs: Mapping[str, Sign]) -> bool:
    """Whether any sign fires."""
    return any(fires(code, signs) for code in signs)


def even_radius(ball: Ball, shape: tuple[int, ...]) -> float:
    """The radius within which every input can be moved to the same mid-grey point (for l0: with every coordinate free).

    There a classifier gives all examples one answer, so no robust accuracy above the commonest class's share is true.
    """
    size, half = math.prod(shape), (ball.high - ball.low) / 2
    return {"linf": half, "l2": half * math.sqrt(size), "l1": half * size, "l0": float(size)}[ball.norm]


def zero_gradient(flat: Bool[Tensor, " B"], right: int) -> Sign:
    """Gradients that are exactly zero show no way up: saturation or rounding (Carlini and Wagner 2017, section IV)."""
    return int(flat.sum()), right


def no_rise(value: Float[Tensor, " B"], opening: Float[Tensor, " B"]) -> Sign:
    """After ten steps up no margin may be where it was (Carlini et al. 2019: more steps, more loss)."""
    return int((value <= opening + 1e-6 * opening.abs()).sum()), len(value)


def one_step_beats_many(hunt: Hunt) -> Sign:
    """Ten steps must break what one step broke (Athalye et al. 2018); `hunt` holds such examples, unmoved."""
    PGD(hunt.ball, 10, start="clean").search(hunt)
    hunt.settle()
    return int((~hunt.broken).sum()), len(hunt.x)


def moves_between_seeds(hunt: Hunt, fell: Bool[Tensor, " B"]) -> Sign:
    """Another random start may change few results: on a smooth loss they agree (Mosbach et al. 2018, section 4).

    `hunt` holds examples unmoved, with other keys than those from which ten steps broke `fell`.
    """
    PGD(hunt.ball, 10, payoff="cw").search(hunt)
    hunt.settle()
    return int((hunt.broken != fell).sum()), len(hunt.x)


def large_radius(hunt: Hunt) -> Sign:
    """Where all inputs can be made alike no more than the commonest class may stand (Athalye et al. 2018: unbounded).

    `hunt` holds examples unmoved, in the ball of `even_radius`. Counted is what stands beyond that class.
    """
    PGD(hunt.ball, 20, payoff="cw").search(hunt)
    hunt.settle()
    commonest = int(torch.bincount(hunt.y).max())
    return max(0, int((~hunt.broken).sum()) - commonest), len(hunt.x)
