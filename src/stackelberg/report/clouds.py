"""How does a cloud look on a page?  From three sides at once, as SVG: nothing is hidden behind a turned view.

Front (x to the right, z up), right side (y to the right, z up) and top (x to the right, y up), with the depth in each
point's shade.
"""

import base64
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from stackelberg.threat import Ball

VIEWS = {"front": (0, 2, 1), "side": (1, 2, 0), "top": (0, 1, 2)}
"""(to the right, up, towards the depth) of each view, as places of the axes x, y, z."""
SIDE = 100.0
NEAR, FAR = (31, 95, 168), (178, 201, 228)
WAY, MOVED = "#b3382c", "#d9534f"


def views(
    points: Float[Tensor, "P 3"],
    low: float = -1.0,
    high: float = 1.0,
    before: Float[Tensor, "P 3"] | None = None,
    most: int = 512,
) -> str:
    """An SVG with the three views of a cloud, side by side.

    Args:
        points: the cloud, at most `most` of its points are drawn, spread over their order.
        low: the smallest coordinate shown.
        high: the largest.
        before: where each point came from: its way is drawn as a line, too.
        most: points drawn.
    """
    every = slice(None, None, max(1, -(-len(points) // most)))
    here = _scaled(points[every], low, high)
    there = None if before is None else _scaled(before[every], low, high)
    parts = [_view(here, there, axes, place) for place, axes in enumerate(VIEWS.values())]
    words = "".join(
        f'<text x="{SIDE * place + SIDE / 2:g}" y="{SIDE + 10:g}" text-anchor="middle" font-size="8" fill="#777">'
        f"{name}</text>"
        for place, name in enumerate(VIEWS)
    )
    width, height = len(VIEWS) * SIDE, SIDE + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{2 * width:g}"'
        f' height="{2 * height:g}"><rect width="{width:g}" height="{height:g}" fill="#fff"/>{"".join(parts)}{words}'
        "</svg>"
    )


def _scaled(points: Tensor, low: float, high: float) -> list[list[float]]:
    """Coordinates as shares of the box, cut at its sides."""
    shares = (points.detach().float().cpu() - low) / (high - low)
    return shares.nan_to_num(nan=0.5).clamp(0, 1).tolist()


def _view(here: list[list[float]], there: list[list[float]] | None, axes: tuple[int, int, int], place: int) -> str:
    right, up, deep = axes
    marks = []
    if there is not None:
        for a, b in zip(there, here, strict=True):
            marks.append(
                f"M{SIDE * (place + a[right]):.1f} {SIDE * (1 - a[up]):.1f}"
                f"L{SIDE * (place + b[right]):.1f} {SIDE * (1 - b[up]):.1f}"
            )
        marks = [f'<path d="{"".join(marks)}" stroke="{WAY}" stroke-width=".5" fill="none"/>']
    dots = sorted(here, key=lambda point: point[deep])
    for point in dots:
        marks.append(
            f'<circle cx="{SIDE * (place + point[right]):.1f}" cy="{SIDE * (1 - point[up]):.1f}" r=".8"'
            f' fill="{_shade(point[deep])}"/>'
        )
    return "".join(marks)


def _shade(depth: float) -> str:
    mixed = (round(near + (far - near) * depth) for near, far in zip(NEAR, FAR, strict=True))
    return "#" + "".join(f"{colour:02x}" for colour in mixed)


def pictures_of_cloud(x: Tensor, moved: Tensor, ball: "Ball") -> tuple[str, str, str, float]:
    """(x, the way of each point made longer, x') as SVG in base64, and how many times longer the ways are drawn.

    The longest way is drawn as an eighth of the box, so that a small move can be seen; never shortened.
    """
    longest = float((moved - x).norm(dim=1).max()) if len(x) else 0.0
    times = max(1.0, (ball.high - ball.low) / 8 / longest) if longest > 0 else 1.0
    way = x + times * (moved - x)
    shown = (
        views(x, ball.low, ball.high),
        views(way, ball.low, ball.high, before=x),
        views(moved, ball.low, ball.high),
    )
    first, middle, last = (base64.b64encode(one.encode()).decode("ascii") for one in shown)
    return first, middle, last, times


def is_drawing(picture: str) -> bool:
    """Whether a picture in base64 is an SVG of ours, and not a PNG."""
    return base64.b64decode(picture[:8] + "=" * (-len(picture[:8]) % 4)).startswith(b"<svg")
