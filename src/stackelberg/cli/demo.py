"""`stackelberg demo`: the whole path on the digits that come with scikit-learn, in about two minutes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.audit import record
from stackelberg.cli.output import show
from stackelberg.cli.progress import Ticker

if TYPE_CHECKING:
    from stackelberg.games import Game
    from stackelberg.report import Report

RADIUS = 0.15
"""linf, in input units: the digits have 16 grey levels, so a little more than two of them."""

EPOCHS = 20


def command(
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("demo"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Train a standard and a robust network on small digits, audit both, and show them side by side.

    The last line is the page to open. What a killed demo has done is not done again.

    \b
    Example:
      stackelberg demo --out demo
    """
    import torch

    from stackelberg import games
    from stackelberg import report as reports
    from stackelberg.threat import Ball

    torch.set_num_threads(1)  # networks this small gain nothing by a second, and lose much on a busy machine
    ball = Ball("linf", RADIUS)
    players: dict[str, Game] = {"standard": games.Standard(), "robust": games.Adversarial(ball, steps=5)}
    found = {name: _player(name, game, ball, out, seed, device) for name, game in players.items()}
    page = out / "report.html"
    reports.compare(found, page)
    answer = {name: record(report, out / name) for name, report in found.items()}
    show(answer | {"page": str(page)}, _table(found, page), json)


def _player(name: str, game: "Game", ball: Any, out: Path, seed: int, device: str) -> "Report":
    """One network: trained (unless it has been), then audited on all test images."""
    from stackelberg import data, games, models
    from stackelberg import report as reports

    train, test = data.load("digits", "train"), data.load("digits", "test")
    print(f"{name}: training on {len(train)} digits", file=sys.stderr, flush=True)
    network = models.build("small-cnn", len(train.classes), train.shape, seed=seed)
    warm = 0.0 if game.threat is None else 0.3
    equilibrium = games.solve(
        game, network, train, EPOCHS, out=out / name, resume=True, seed=seed, device=device, batch_size=64,
        learning_rate=0.005 if game.threat else 0.001, radius_warmup=warm,
    )  # fmt: skip
    with Ticker(f"{name}: audit") as ticker:
        return reports.audit(equilibrium.best, test, ball, len(test), seed=seed, out=out / name, progress=ticker)


def _table(found: dict[str, "Report"], page: Path) -> str:
    head = f"{'':10}{'right unmoved':>22}{'attacked':>22}{'certified':>22}"
    rows = [f"{name:10}{r.clean!s:>22}{r.robust.upper!s:>22}{r.robust.lower!s:>22}" for name, r in found.items()]
    first = next(iter(found.values()))
    foot = (
        f"linf {first.threat.radius:g}, {first.n} test images, 95 % intervals."
        " The robust accuracy lies between certified and attacked."
    )
    return "\n".join([head, *rows, foot, str(page)])
