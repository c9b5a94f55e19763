"""At which radii is the curve drawn, and where does every claim end?"""

from stackelberg.attacks.masking import even_radius
from stackelberg.threat import Ball

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def radii_for(ball: Ball, shape: tuple[int, ...]) -> tuple[float, ...]:
    """Rising radii from 0 through the ball's own to twice it, none beyond the one at which all inputs are alike.

    The l0 radii are whole numbers.
    """
    limit = max(even_radius(ball, shape), ball.radius)
    wanted = {ball.radius} | {float(f"{share * ball.radius:.12g}") for share in _SHARES if share != 1}
    if ball.norm == "l0":
        wanted = {ball.radius} | {float(round(radius)) for radius in wanted}
    return tuple(sorted({min(radius, limit) for radius in wanted}))
