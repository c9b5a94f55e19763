"""`stackelberg poison availability`: how do I publish images on which nobody can train?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.cli.poison import clouds
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackelberg.data import Dataset, Stream
    from stackelberg.poison import Poisoner
    from stackelberg.threat import Ball


def command(
    data: options.Data,
    eps: Annotated[str, typer.Option(help="Radius in input units, for example 8/255.")] = "8/255",
    norm: options.Norm = "linf",
    method: Annotated[
        str,
        typer.Option(
            help="gue, deepconfuse, em, robust-em, max, max-targeted, hypocritical, lsp, cuda, or noise as a control."
            " For clouds of points: fc-em (which takes the place of gue), reg-em, em, ap or ap-t."
        ),
    ] = "gue",
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("poisoned"),
    form: Annotated[str, typer.Option("--format", help="parquet, or folder (train/<class>/*.png).")] = "parquet",
    apply: Annotated[
        Path | None, typer.Option("--apply", help="A generator.safetensors: protect the data with it, learn nothing.")
    ] = None,
    fit: Annotated[
        int, typer.Option("--fit", min=2, help="Learn on so many random examples; all are protected.")
    ] = 10000,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Protect only the first so many examples.")] = None,
    points: options.Points = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the method, for example --set epochs=20.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Examples in memory at a time, where the data are Parquet.")] = 2000,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Move every training image in its ball, label kept, so that who trains on them learns little of clean images.

    Writes train.parquet (or train/<class>/*.png), readable by --data; poison.json, which says how far the images moved
    after rounding to 8 bits; and for gue and deepconfuse generator.safetensors, which protects new images by --apply.

    \b
    Example:
      stackelberg poison availability --data cifar10 --eps 8/255 --method gue --out poisoned
      stackelberg poison availability --data modelnet10 --method fc-em --eps 0.08 --out poisoned-clouds
      stackelberg poison availability --data new.parquet --apply poisoned/generator.safetensors --out more
    """
    from stackelberg import data as sets
    from stackelberg import poison
    from stackelberg.cli.progress import Ticker
    from stackelberg.threat import Ball, parse_radius

    settings = _settings(set_ or [])
    if apply is None and clouds.holds_clouds(data):
        clouds.protect(data, eps, norm, method, out, n, points, settings, seed, device, json)
        return
    if apply is not None and settings:
        raise StackelbergError("--set changes how a method learns, and --apply learns nothing; leave one of them out")
    source = sets.Stream(data, "train", rows)
    total = len(source) if n is None else min(n, len(source))
    if apply is None:
        ball = Ball(norm, parse_radius(eps) if norm != "l0" else int(parse_radius(eps)))
        rule = _learnt(source, ball, method, min(fit, total), seed, device, settings)
    else:
        rule = poison.Generator.load(apply)
        method = rule.method
    about = {"method": method, "data": data, "settings": settings, "seed": seed, "applied": apply}
    with Ticker("protecting") as tell:
        moves = poison.publish(
            rule, _first(source, total), out, form=form, about=about,
            progress=lambda done: tell(done, total, "images"),
        )  # fmt: skip
    show(about | {"out": str(out), "moves": moves.describe()}, f"{out}: {moves}", json)


def _learnt(
    source: "Stream", ball: "Ball", method: str, fit: int, seed: int, device: str, settings: dict[str, Any]
) -> "Poisoner":
    """The rule of a method, learnt on a random part of the source."""
    from stackelberg import poison
    from stackelberg.poison.grid import Grid

    poison.method(method, **settings)  # refused before anything is read
    Grid(ball)
    return poison.poisoner(source.sample(fit, seed), ball, method, seed=seed, device=device, progress=True, **settings)


def _first(source: "Stream", total: int) -> "Iterator[Dataset]":
    """The parts of a source up to `total` examples."""
    left = total
    for part in source:
        if left <= 0:
            return
        yield part.take(min(left, len(part)))
        left -= len(part)


def _settings(texts: list[str]) -> dict[str, Any]:
    """name=value, the value a number, true, false or a word."""
    from json import JSONDecodeError, loads

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise StackelbergError(f"--set takes name=value, got {text!r}; for example --set epochs=20")
        try:
            found[name] = loads(value)
        except JSONDecodeError:
            found[name] = value
    return found
