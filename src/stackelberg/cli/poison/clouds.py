"""`stackelberg poison availability` for clouds of points, which have methods and prices of their own."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackelberg.cli.output import show

if TYPE_CHECKING:
    from stackelberg.data import Dataset


def holds_clouds(data: str) -> bool:
    """Whether a training set holds clouds and not images; found out from its first examples."""
    from stackelberg import data as sets

    return next(iter(sets.Stream(data, "train", 2))).cloud


def protect(
    data: str, eps: str, norm: str, method: str, out: Path, n: int | None, points: int | None,
    settings: dict[str, Any], seed: int, device: str, json: bool,
) -> None:  # fmt: skip
    """Poison the clouds of a training set and write them to `out`; in the place of gue, for images, comes fc-em."""
    method = "fc-em" if method == "gue" else method
    from stackelberg import data as sets
    from stackelberg.cli import options
    from stackelberg.cli.progress import Ticker
    from stackelberg.games.processes import launch
    from stackelberg.poison.cloud_moves import publish_clouds
    from stackelberg.poison.clouds import availability_of_clouds
    from stackelberg.threat import Ball, parse_radius

    clean: Dataset = options.few_points(sets.load(data, "train"), points)
    clean = clean if n is None else clean.take(n)
    ball = Ball(norm, parse_radius(eps), *clean.box)
    with Ticker("poisoning") as tell:
        poisoned = availability_of_clouds(
            clean, ball, method, seed=seed, device=str(launch(device).device), progress=tell, **settings
        )
    about = {"method": method, "data": data, "settings": settings, "seed": seed, "norm": norm, "radius": ball.radius}
    moves = publish_clouds(poisoned, clean, ball, out, about)
    show(about | {"out": str(out), "moves": moves.describe()}, f"{out}: {moves}", json)
