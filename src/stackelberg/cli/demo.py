"""`stackelberg demo`: the whole path on the digits that come with scikit-learn, in about two minutes."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackelberg.cli import options
from stackelberg.cli.audit import record
from stackelberg.cli.output import show
from stackelberg.cli.progress import Ticker

if TYPE_CHECKING:
    from stackelberg.attacks.suite import Effort
    from stackelberg.games import Game
    from stackelberg.report import Report

RADIUS = 0.15
"""linf, in input units: the digits have 16 grey levels, so a little more than two of them."""

EPOCHS = {"standard": 20, "robust": 20, "certified": 30}

WIDTH = 16
"""Of the three networks."""

IMAGES = 355
"""Of the test set: all."""

EFFORT: "Effort" = "standard"
"""Of the audits."""

AT_A_TIME = min(2, os.cpu_count() or 1)
"""Processes, a thread each: networks this small gain nothing by a second one."""


def command(
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("demo"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Train a standard, a robust and a certified network on small digits, audit them, and show them side by side.

    The last line is the page to open. What a killed demo has done is not done again.

    \b
    Example:
      stackelberg demo --out demo
    """
    from stackelberg import report as reports
    from stackelberg.report.spreading import spread

    longest_first = ("robust", "certified", "standard")
    jobs = [(name, EPOCHS[name], IMAGES, EFFORT, out.resolve(), seed, device) for name in longest_first]
    done: dict[str, Report] = {}
    for place, report in spread(play, jobs, options.where(AT_A_TIME, cluster=False), AT_A_TIME):
        if isinstance(report, Exception):
            raise report
        done[longest_first[place]] = report
    found = {name: done[name] for name in EPOCHS}
    page = out / "report.html"
    reports.compare(found, page)
    answer = {name: record(report, out / name) for name, report in found.items()}
    show(answer | {"page": str(page)}, _table(found, page), json)


def play(name: str, epochs: int, images: int, effort: "Effort", out: Path, seed: int, device: str) -> "Report":
    """One network, trained (unless it has been), then audited; its lines begin with its name."""
    import torch

    from stackelberg import data, games, models
    from stackelberg import report as reports
    from stackelberg.threat import Ball

    torch.set_num_threads(1)
    ball = Ball("linf", RADIUS)
    game: Game = {
        "standard": games.Standard(),
        "robust": games.Adversarial(ball, steps=5),
        "certified": games.IntervalBound(ball),
    }[name]
    rate, warm = {"standard": (0.001, 0.0), "robust": (0.005, 0.3), "certified": (0.005, 0.5)}[name]
    train, test = data.load("digits", "train"), data.load("digits", "test")
    network = models.build("small-cnn", len(train.classes), train.shape, WIDTH, seed=seed)
    with contextlib.redirect_stderr(_Named(name, sys.stderr.write)):
        print(f"training on {len(train)} digits", file=sys.stderr)
        equilibrium = games.solve(
            game, network, train, epochs, out=out / name, resume=True, seed=seed, device=device, batch_size=64,
            learning_rate=rate, radius_warmup=warm,
        )  # fmt: skip
        with Ticker("audit") as ticker:
            return reports.audit(
                equilibrium.best, test, ball, images, effort=effort, seed=seed, out=out / name, progress=ticker
            )


class _Named(io.TextIOBase):
    """Lines of one of several speakers, whole, each after its name."""

    def __init__(self, name: str, say: Callable[[str], object]) -> None:
        self.name, self.say, self.begun = name, say, ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        if lines:
            self.say("".join(f"{self.name}: {line}\n" for line in lines))
        return len(text)


def _table(found: dict[str, "Report"], page: Path) -> str:
    head = f"{'':10}{'right unmoved':>22}{'attacked':>22}{'certified':>22}"
    rows = [f"{name:10}{r.clean!s:>22}{r.robust.upper!s:>22}{r.robust.lower!s:>22}" for name, r in found.items()]
    first = next(iter(found.values()))
    foot = (
        f"linf {first.threat.radius:g}, {first.n} test images, 95 % intervals."
        " The robust accuracy lies between certified and attacked."
    )
    return "\n".join([head, *rows, foot, str(page)])
