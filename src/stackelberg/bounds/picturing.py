"""How do the bounds look beside the truth?  One picture: each bound on a logarithmic axis, with what was measured."""

import math
import os
from pathlib import Path

from matplotlib.figure import Figure

from stackelberg.bounds.comparing import Compared
from stackelberg.files import replacing

_LEAST, _MOST = 1e-4, 1e6
_COLOURS = {"theorem": "#1f5fa8", "estimate": "#a86a00"}


def draw(rows: list[Compared], title: str, path: str | os.PathLike[str]) -> None:
    """Write the picture, SVG or PNG by the name's ending; values beyond the axis stand at its end."""
    figure = Figure(figsize=(9, 1.4 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        height, value = len(rows) - 1 - place, row.bound.value
        shown = min(max(value, _LEAST), _MOST)
        axes.plot(
            [shown], [height], "o", color=_COLOURS[row.bound.kind], fillstyle="none" if row.bound.vacuous else "full"
        )
        axes.annotate(_number(value), (shown, height), (7, -3), textcoords="offset points", fontsize=8)
        if row.measured is not None and row.measured > 0:
            axes.plot([max(row.measured, _LEAST)], [height], "|", color="black", markersize=12)
    axes.axvline(1.0, color="#777777", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(_LEAST / 2, _MOST * 30)
    axes.set_yticks(range(len(rows)), [row.bound.name for row in reversed(rows)])
    axes.set_xlabel("value; right of 1 a bound says nothing. Stroke: measured. Blue: theorem, brown: estimate")
    axes.set_title(title, fontsize=10)
    kind = Path(path).suffix.removeprefix(".")
    with replacing(path) as part:
        figure.savefig(part, format=kind, dpi=110)


def _number(value: float) -> str:
    return "not computed" if math.isinf(value) else f"{value:.3g}"
