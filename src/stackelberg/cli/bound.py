"""`stackelberg bound`: what will it do on data it has not seen?"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.audit import asked_network
from stackelberg.cli.output import is_first_process, show, warnings_said
from stackelberg.cli.progress import Ticker
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from stackelberg.bounds.comparing import Compared


def command(
    source: Annotated[
        str, typer.Argument(help="A run directory, weights.safetensors, model.pt2, model.onnx, or pkg.mod:function.")
    ],
    data: options.Data,
    eps: Annotated[str | None, typer.Option(help="Radius in input units, for the robust error, too.")] = None,
    norm: options.Norm = "linf",
    delta: Annotated[float, typer.Option(help="The chance that a bound fails, of each one.")] = 0.05,
    model: Annotated[str | None, typer.Option(help="The network whose weights a .safetensors file holds.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Of that network; its standard one if left out.")] = None,
    n: Annotated[int | None, typer.Option("--n", min=4, help="The first so many training examples; else all.")] = None,
    test_n: Annotated[int | None, typer.Option(min=1, help="The first so many test examples; else all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Train and measure a tenth of the usual.")] = False,
    out: options.OutOrNone = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Bound the error on unseen data in every known way, the tight bounds first, each beside what is measured.

    Writes bounds.json, bounds.svg and bounds.png to --out (by default bounds/ in the run directory, or here). The
    network must have been trained on the training set of --data, and the test set must not have been used.

    \b
    Example:
      stackelberg bound runs/a --data mnist
      stackelberg bound runs/a --data mnist --eps 0.1 --delta 0.01
      stackelberg bound weights.safetensors --model resnet18 --data cifar10 --out bounds
    """
    from stackelberg import bounds
    from stackelberg import data as sets
    from stackelberg.bounds.comparing import compared
    from stackelberg.bounds.picturing import draw
    from stackelberg.files import write_text
    from stackelberg.games.processes import launch
    from stackelberg.threat import Ball, parse_radius

    if not 0 < delta < 1:
        raise StackelbergError(f"--delta, the chance that a bound fails, must lie in (0, 1), got {delta:g}; pass 0.05")
    ball = None if eps is None else Ball(norm, parse_radius(eps))  # pyright: ignore[reportArgumentType]
    train, test = sets.load(data, "train"), sets.load(data, "test")
    train, test = (part if many is None else part.take(many) for part, many in ((train, n), (test, test_n)))
    network = asked_network(source, model, width, test)
    network.to(launch(device).device)
    folder = out or (Path(source) if Path(source).is_dir() else Path()) / "bounds"
    epochs, batch = _trained(source)
    budget = bounds.Budget(3000, 2, 200, 100, 20, 4, 200, 20) if quick else bounds.Budget()
    with Ticker("bound", shown=is_first_process()) as ticker, warnings_said():
        rows = compared(network, train, test, delta, ball, epochs, batch, budget, seed=seed, progress=ticker)
    record = {
        "schema": "stackelberg.bounds/1", "data": train.name, "n": len(train), "test_n": len(test), "delta": delta,
        "seed": seed, "out": str(folder), "bounds": [_record(row) for row in rows],
    }  # fmt: skip
    if is_first_process():
        from json import dumps

        write_text(folder / "bounds.json", dumps(record, indent=1) + "\n")
        for ending in ("svg", "png"):
            draw(rows, f"{source}, {len(train)} training and {len(test)} test examples", folder / f"bounds.{ending}")
    show(record, _words(rows, folder), json)


def _trained(source: str) -> tuple[int, int]:
    """(epochs, batch size) of a run directory's training; (1, 128) where they are not known."""
    from stackelberg.games.checkpoint import read_record

    record = (read_record(Path(source)) or {}) if Path(source).is_dir() else {}
    return int(record.get("epochs", 1)), int((record.get("recipe") or {}).get("batch_size", 128))


def _record(row: "Compared") -> dict[str, Any]:
    bound = row.bound
    value = bound.value if math.isfinite(bound.value) else None
    return vars(bound) | {"value": value, "assumptions": list(bound.assumptions), "measured": row.measured}


def _words(rows: list["Compared"], folder: Path) -> str:
    lines = [f"{'bound':40} {'value':>12} {'measured':>9}  says"]
    for row in rows:
        bound = row.bound
        value = "-" if math.isinf(bound.value) else f"{bound.value:.4g}"
        measured = "-" if row.measured is None else f"{row.measured:.4f}"
        says = "not computed" if math.isinf(bound.value) else "nothing" if bound.vacuous else bound.kind
        lines.append(f"{bound.name:40} {value:>12} {measured:>9}  {says}: {bound.holds_for}")
    lines += ["", *(f"{row.bound.name}: {'; '.join(row.bound.assumptions)}" for row in rows), "", _why()]
    return "\n".join([*lines, str(folder / "bounds.svg")])


def _why() -> str:
    return (
        "Decide by the first ones: hold-out speaks of this network alone, PAC-Bayes of networks near one that half of"
        " the data chose. The uniform ones pay for every network of the structure at once, also for those that learn"
        " labels by heart, and stability for every path the training might have taken; for as many parameters that is"
        " more than 1."
    )
