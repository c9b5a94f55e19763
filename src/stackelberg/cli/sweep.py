"""`stackelberg sweep`: which game, at which radius, and how much of the difference is chance?"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from stackelberg.report.sweeping import Row


def command(
    data: options.Data,
    games: Annotated[str, typer.Option(help="Names with commas between, for example standard,at,sr-at.")],
    eps: Annotated[str, typer.Option(help="Radii of the games with commas between, for example 2/255,8/255.")],
    model: Annotated[str, typer.Option(help="A network of stackelberg.models.NAMES.")] = "small-cnn",
    width: Annotated[int | None, typer.Option(min=1, help="Of the network; its standard one if left out.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each combination.")] = 3,
    judged_at: Annotated[
        str | None, typer.Option(help="Radius of the audits; the largest of --eps if left out.")
    ] = None,
    norm: options.Norm = "linf",
    epochs: Annotated[int, typer.Option(min=1, help="Of every training.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Of the adversary's ascent.")] = 5,
    learning_rate: Annotated[float | None, typer.Option(help="The largest of the schedule.")] = None,
    radius_warmup: Annotated[float | None, typer.Option(help="Share of training in which the radius rises.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Test images of every audit.")] = 500,
    effort: Annotated[str, typer.Option(help="Of the attacks: fast, standard or max.")] = "fast",
    processes: options.Processes = 1,
    cluster: options.Cluster = False,
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("sweep"),
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Train every combination of games, radii and seeds, audit all alike, and write one table and one picture.

    What a killed sweep has done is not done again.

    \b
    Example:
      stackelberg sweep --data digits --games standard,at,sr-at --eps 0.1,0.15 --seeds 3 --out sweep
    """
    from stackelberg.report import sweeping
    from stackelberg.threat import parse_radius

    radii = tuple(parse_radius(part.strip()) for part in eps.split(","))
    recipe = {"learning_rate": learning_rate, "radius_warmup": radius_warmup}
    plan = sweeping.Sweep(
        data, model, tuple(part.strip() for part in games.split(",")), radii, tuple(range(seed, seed + seeds)),
        max(radii) if judged_at is None else parse_radius(judged_at), width, epochs, steps, norm, n, effort,
        tuple((name, value) for name, value in recipe.items() if value is not None),
    )  # fmt: skip
    rows = sweeping.sweep(
        plan, out, where=options.where(processes, cluster), processes=processes,
        say=lambda words: print(words, file=sys.stderr),
    )  # fmt: skip
    show({"out": str(out), "rows": [vars(row) for row in rows]}, _words(rows, out), json)


def _words(rows: "list[Row]", out: Path) -> str:
    from stackelberg.report.sweeping import summary

    if not rows:
        raise StackelbergError("the sweep has no cell; name a game")
    head = f"{'':20}{'right unmoved':>18}{'attacked':>18}{'certified':>18}"
    lines = [
        f"{group:20}" + "".join(f"{f'{100 * mean:.1f} ± {100 * half:.1f} %':>18}" for mean, half in found.values())
        for group, found in summary(rows).items()
    ]
    foot = f"means over seeds ± half the 95 % t interval; {rows[0].n} test images each"
    return "\n".join([head, *lines, foot, str(out / "sweep.svg")])
