"""At which radii is the curve drawn, and where does every claim end?"""

import math

from stackelberg.threat import Ball

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def even_radius(ball: Ball, shape: tuple[int, ...]) -> float:
    """The radius within which every input can be moved to the same mid-grey point (for l0: with every coordinate free).

    There a classifier gives all examples one answer, so no robust accuracy above the commonest class's share is true.
    """
    size, half = math.prod(shape), (ball.high - ball.low) / 2
    return {"linf": half, "l2": half * math.sqrt(size), "l1": half * size, "l0": float(size)}[ball.norm]


def radii_for(ball: Ball, shape: tuple[int, ...]) -> tuple[float, ...]:
    """Rising radii from 0 through the ball's own to twice it, none beyond the one at which all inputs are alike.

    The l0 radii are whole numbers.
    """
    limit = max(even_radius(ball, shape), ball.radius)
    wanted = {ball.radius} | {float(f"{share * ball.radius:.12g}") for share in _SHARES if share != 1}
    if ball.norm == "l0":
        wanted = {ball.radius} | {float(round(radius)) for radius in wanted}
    return tuple(sorted({min(radius, limit) for radius in wanted}))
