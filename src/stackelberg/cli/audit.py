"""`stackelberg audit`: how secure is it, and how sure are you?"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.output import is_first_process, show, warnings_said
from stackelberg.cli.progress import Ticker
from stackelberg.errors import StackelbergError, unknown

if TYPE_CHECKING:
    from torch import nn

    from stackelberg.data import Dataset
    from stackelberg.games import Game
    from stackelberg.report import Report


def command(
    source: Annotated[
        str, typer.Argument(help="A run directory, weights.safetensors, model.pt2, model.onnx, or pkg.mod:function.")
    ],
    data: options.Data,
    eps: Annotated[str, typer.Option(help="Radius in input units, for example 8/255.")],
    norm: options.Norm = "linf",
    model: Annotated[str | None, typer.Option(help="The network whose weights a .safetensors file holds.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Of that network; its standard one if left out.")] = None,
    split: Annotated[str, typer.Option(help="Of the data: test or train.")] = "test",
    points: options.Points = None,
    n: Annotated[int, typer.Option("--n", help="How many examples, chosen at random by the seed.")] = 1000,
    fail_under: Annotated[
        float | None,
        typer.Option(help="Exit with 1 if the attacked accuracy, the bracket's upper end, is below this share."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write whether the floor is met as JUnit XML to this file.")
    ] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write the floor and all warnings as SARIF to this file.")] = None,
    effort: Annotated[str, typer.Option(help="Of the attacks: fast, standard or max.")] = "standard",
    weights_eps: Annotated[
        str | None, typer.Option(help="Change the weights, too, by at most this share, for example 0.01.")
    ] = None,
    weights_norm: Annotated[str, typer.Option(help="Of that change: linf, l2 or l0.")] = "linf",
    out: options.OutOrNone = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    devices: options.Devices = 1,
    json: options.Json = False,
) -> None:
    """Attack a network, prove what can be proved, and write the bracket: certified <= true <= attacked.

    Writes report.json and report.html to --out (by default audit/ in the run directory, or here). The network takes
    images in [0, 1], or clouds in the data's own units; its normalisation is part of it. An audit that was killed goes
    on where it was when the same command is given again. With --weights-eps it also says what is left when the weights
    are changed: by chance, by an adversary, by flipped bits.

    \b
    Example:
      stackelberg audit runs/a --data mnist --eps 0.3 --n 1000 --fail-under 0.8
      stackelberg audit weights.safetensors --model resnet18 --data cifar10 --eps 8/255
      stackelberg audit model.onnx --data mnist --eps 0.1
      stackelberg audit runs/a --data mnist --eps 0.3 --weights-eps 0.01
      stackelberg audit package.module:function --data photos/ --eps 2/255
    """
    from stackelberg import data as sets
    from stackelberg import report as reports
    from stackelberg.attacks.suite import EFFORTS
    from stackelberg.games.processes import launch
    from stackelberg.report import builds
    from stackelberg.threat import Ball, WeightBall, parse_radius

    if effort not in EFFORTS:
        raise unknown("effort", effort, EFFORTS)
    builds.refuse_floor(fail_under, junit is not None)
    radius = parse_radius(eps)
    moving = None if weights_eps is None else WeightBall(weights_norm, parse_radius(weights_eps))
    examples = options.few_points(sets.load(data, split), points)
    ball = Ball(norm, radius, *examples.box)  # pyright: ignore[reportArgumentType]  # the ball checks the norm
    network = asked_network(source, model, width, examples)
    fabric = launch(device, devices)
    network.to(fabric.device)
    folder = out or (Path(source) if Path(source).is_dir() else Path()) / "audit"
    with Ticker("audit", shown=is_first_process()) as ticker, warnings_said():
        report = reports.audit(
            network, examples, ball, n, game=trained_in(source), weights=moving, seed=seed, fabric=fabric, out=folder,
            progress=ticker,
            effort=effort,  # pyright: ignore[reportArgumentType]  # audit checks the effort
        )  # fmt: skip
    show(record(report, folder), words(report, folder), json)
    _tell_build(report, fail_under, junit, sarif, source)


def trained_in(source: str) -> "Game | None":
    """The game in which a run directory's network was trained; None for other sources, and for a user's own game."""
    from stackelberg import games
    from stackelberg.games.checkpoint import read_record

    described = (read_record(Path(source)) or {}).get("game") if Path(source).is_dir() else None
    if not isinstance(described, dict):
        return None
    try:
        return games.restored(described)
    except StackelbergError:
        return None


def asked_network(source: str, name: str | None, width: int | None, examples: "Dataset") -> "nn.Module":
    """The network, asked once whether it answers as a classifier of these examples must."""
    from stackelberg import models

    if Path(source).is_dir():
        for room in ("memorize", "poison"):  # which know their own directories
            import_module(f"stackelberg.{room}")
    # an exported program or the user's own code knows its classes and shapes itself
    known = {"classes": len(examples.classes), "shape": examples.shape} if name else {}
    with warnings_said():
        network = models.load(source, name, width=width, **known)  # pyright: ignore[reportArgumentType]
    x, _ = examples.take(4).batch(slice(0, 4))
    network = models.network(network, x, len(examples.classes))
    models.check_output(network, x, len(examples.classes))
    return network


def record(report: "Report", folder: Path) -> dict[str, Any]:
    """The answer for a program; all the rest is in report.json."""
    return {
        "report": str(folder / "report.json"),
        "page": str(folder / "report.html"),
        "threat": report.threat.model_dump(),
        "n": report.n,
        "clean_accuracy": report.clean,
        "robust_accuracy": {"upper": report.robust.upper, "lower": report.robust.lower},
        "warnings": [caveat.code for caveat in report.warnings],
    } | ({} if report.weights is None else {"weights": report.weights.model_dump(mode="json")})


def words(report: "Report", folder: Path) -> str:
    """The answer for a reader."""
    weights = {"doubt": "in doubt: ", "note": "note: "}
    threat = f"{report.threat.norm} {report.threat.radius:g}"
    return "\n".join(
        [
            f"right unmoved    {report.clean}",
            f"attacked         {report.robust.upper}   stood every attack in {threat}",
            f"certified        {report.robust.lower}   proved to stand",
            f"The robust accuracy on these {report.n} examples lies between certified and attacked.",
            *exploited_words(report),
            *weight_words(report),
            *[f"{weights[caveat.weight]}{caveat.found}" for caveat in report.warnings],
            str(folder / "report.html"),
        ]
    )


def exploited_words(report: "Report") -> list[str]:
    """What a stronger follower gains, where it was measured."""
    found = report.exploitability
    if found is None:
        return []
    return [
        f"exploitability   {found.value:.4f} [{found.low:.4f}, {found.high:.4f}]   measured: what a stronger follower"
        f" gains in its game, {found.game}, on {found.n} examples"
    ]


def weight_words(report: "Report") -> list[str]:
    """How it fares with changed weights, where that was asked."""
    found = report.weights
    if found is None:
        return []
    lines = [f"weights changed  {found.norm} {found.size:g}, measured on {found.n} examples:"]
    for row in found.rows:
        about = [row.format or "", f"{row.flips}" if row.flips else "", f"worst of {row.trials}" * (row.trials > 1)]
        name = ", ".join([row.change, *(word for word in about if word)])
        lines.append(f"  {name:<44} right {100 * row.clean.value:5.1f} %, attacked {100 * row.robust.value:5.1f} %")
    return lines


def _tell_build(report: "Report", floor: float | None, junit: Path | None, sarif: Path | None, source: str) -> None:
    """The files that were asked for, whether or not the floor is met; then exit status 1 where it is not."""
    from stackelberg.report import builds

    if is_first_process():
        if junit is not None and floor is not None:
            builds.junit(report, floor, junit)
        if sarif is not None:
            builds.sarif(report, floor, source, sarif)
    if floor is None or builds.met(report, floor):
        return
    if is_first_process():
        print(f"stackelberg: floor not met: {builds.verdict(report, floor)}", file=sys.stderr)
    raise typer.Exit(1)
