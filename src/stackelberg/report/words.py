"""How is a number said?"""

from stackelberg.threat import Ball


def percent(share: float) -> str:
    """A share as a percentage with one decimal.

    >>> percent(0.125)
    '12.5 %'
    """
    return f"{100 * share:.1f} %"


def radius_words(norm: str, radius: float, high: float = 1.0) -> str:
    """A radius as it is usually written: grey levels as a fraction where they are whole, counts without decimals.

    >>> radius_words("linf", 8 / 255)
    '8/255'
    >>> radius_words("l0", 3.0)
    '3'
    """
    levels = radius * 255
    if norm == "linf" and high == 1.0 and radius > 0 and abs(levels - round(levels)) < 1e-6 and radius < 0.2:
        return f"{round(levels)}/255"
    return f"{radius:.4g}"


def threat_words(ball: Ball) -> str:
    """The adversary in words.

    >>> threat_words(Ball("linf", 8 / 255))
    'an adversary who may change every pixel value by up to 8/255'
    """
    radius = radius_words(ball.norm, ball.radius, ball.high)
    return {
        "linf": f"an adversary who may change every pixel value by up to {radius}",
        "l2": f"an adversary who may move an image by a Euclidean distance of up to {radius}",
        "l1": f"an adversary who may change pixel values by up to {radius} in total",
        "l0": f"an adversary who may change any {radius} pixel values at will",
    }[ball.norm]


def odds(share: float) -> str:
    """A share as a whole number of a hundred, without rounding a few to none or most to all.

    >>> odds(0.004), odds(0.5), odds(0.999), odds(1.0)
    ('fewer than 1', '50', 'more than 99', '100')
    """
    if 0 < share < 0.005:
        return "fewer than 1"
    if 0.995 <= share < 1:
        return "more than 99"
    return str(round(100 * share))
