"""How is a number said?"""

from stackelberg.threat import Ball


def percent(share: float) -> str:
    """A share as a percentage with one decimal.

    >>> percent(0.125)
    '12.5 %'
    """
    return f"{100 * share:.1f} %"


def radius_words(norm: str, radius: float, high: float = 1.0) -> str:
    """A radius as it is usually written: a short decimal where it is one, else grey levels of 255, a count for l0.

    >>> radius_words("linf", 8 / 255), radius_words("linf", 0.1), radius_words("l0", 3.0)
    ('8/255', '0.1', '3')
    """
    short = f"{radius:.4g}"
    levels = round(4 * 255 * radius) / 4
    exact = abs(float(short) - radius) < 1e-7
    if norm == "linf" and high == 1.0 and levels and not exact and abs(255 * radius - levels) < 1e-4:
        return f"{levels:g}/255"
    return short


def threat_words(ball: Ball) -> str:
    """The adversary in words; a ball whose box reaches below 0 is one of clouds, as images begin at 0.

    >>> threat_words(Ball("linf", 8 / 255))
    'an adversary who may change every pixel value by up to 8/255'
    """
    radius = radius_words(ball.norm, ball.radius, float(ball.high))
    value, thing = ("coordinate", "a cloud") if ball.low < 0 else ("pixel value", "an image")
    return {
        "linf": f"an adversary who may change every {value} by up to {radius}",
        "l2": f"an adversary who may move {thing} by a Euclidean distance of up to {radius}",
        "l1": f"an adversary who may change {value}s by up to {radius} in total",
        "l0": f"an adversary who may change any {radius} {value}s at will",
    }[ball.norm]
