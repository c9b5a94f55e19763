"""Which game, at which radius, and how much is chance?  Every combination trained and audited alike, seed by seed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from stackelberg import data, games, models
from stackelberg.errors import StackelbergError
from stackelberg.files import replacing, write_text
from stackelberg.report.auditing import audit
from stackelberg.report.records import Report
from stackelberg.report.spreading import Where, spread
from stackelberg.threat import Ball
from stackelberg.threat.rate import half_interval


@dataclass(frozen=True)
class Sweep:
    """What is trained, and how it is judged: one audit with the same ball, images and effort for all.

    Attributes:
        data: a name or a path, see `data.load`; it needs a test split.
        model: a name of `models.NAMES`.
        width: of the network; None for its standard one.
        games: names of `games.NAMES`.
        radii: in which the games are played, input units; "standard" is trained once for all.
        seeds: of initialisation, order and noise.
        epochs: of every training.
        steps: of the followers' ascents.
        norm: of the balls.
        judged_at: radius of the audits, input units.
        n: test images of an audit.
        effort: of its attacks.
        recipe: fields of `games.Recipe`.
    """

    data: str
    model: str
    games: tuple[str, ...]
    radii: tuple[float, ...]
    seeds: tuple[int, ...]
    judged_at: float
    width: int | None = None
    epochs: int = 10
    steps: int = 5
    norm: str = "linf"
    n: int = 500
    effort: str = "fast"
    recipe: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for what, values in (("game", self.games), ("radius", self.radii), ("seed", self.seeds)):
            if not values or len(set(values)) < len(values):
                raise StackelbergError(f"a sweep needs each {what} once and at least one, got {list(values)}")
        for name in self.games:
            games.named(name, Ball(self.norm, self.judged_at))  # pyright: ignore[reportArgumentType]

    @property
    def cells(self) -> list["Cell"]:
        """Every training there is, in the order in which they are shown."""
        return [
            Cell(name, None if name == "standard" else radius, seed)
            for name in self.games
            for radius in (self.radii[:1] if name == "standard" else self.radii)
            for seed in self.seeds
        ]


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        game: its name.
        radius: of its ball, input units; None for standard training.
        seed: of all its random numbers.
    """

    game: str
    radius: float | None
    seed: int

    @property
    def group(self) -> str:
        """What the seeds share."""
        return self.game if self.radius is None else f"{self.game} {self.radius:.4g}"


@dataclass(frozen=True)
class Row:
    """A cell's audit.

    Attributes:
        group: game and radius.
        seed: of the training.
        clean: accuracy unmoved.
        attacked: accuracy that the suite leaves.
        certified: accuracy proved.
        n: test images.
    """

    group: str
    seed: int
    clean: float
    attacked: float
    certified: float
    n: int


def sweep(
    plan: Sweep, out: str | Path, *, where: Where = "here", processes: int = 2, say: Callable[[str], None] = print
) -> list[Row]:
    """Train and audit every cell, and write sweep.json and sweep.svg; a killed sweep goes on where it stopped.

    Args:
        plan: see `Sweep`.
        out: a folder; each cell has its own inside, with the run and its report.
        where: see `spreading.spread`.
        processes: trainings at a time, elsewhere than "here".
        say: is told of every finished cell.

    Raises:
        StackelbergError: the folder holds another sweep, or Ray is missing.
    """
    folder = Path(out).resolve()
    _same(plan, folder)
    found: dict[int, Row] = {}
    for place, row in spread(play, [(plan, cell, folder) for cell in plan.cells], where, processes):
        if isinstance(row, Exception):
            raise row
        say(f"{row.group}, seed {row.seed}: clean {row.clean:.3f}, attacked {row.attacked:.3f}")
        found[place] = row
    rows = [found[place] for place in sorted(found)]
    write_text(folder / "sweep.json", json.dumps({"plan": asdict(plan), "rows": [asdict(r) for r in rows]}, indent=1))
    draw(plan, rows, folder / "sweep.svg")
    return rows


def play(plan: Sweep, cell: Cell, folder: Path) -> Row:
    """Train and audit one cell, or read what was found before."""
    place = folder / f"{cell.group.replace(' ', '-')}-{cell.seed}"
    if not (place / "report.json").is_file():
        _play(plan, cell, place)
    report = Report.from_json(place / "report.json")
    lower, upper = report.robust.lower, report.robust.upper
    return Row(cell.group, cell.seed, report.clean.value, upper.value, lower.value, report.n)


def _play(plan: Sweep, cell: Cell, place: Path) -> None:
    train, test = data.load(plan.data, "train"), data.load(plan.data, "test")
    network = models.build(plan.model, len(train.classes), train.shape, plan.width, seed=cell.seed)
    game = games.named(cell.game, Ball(plan.norm, cell.radius or 0.0, *train.box), steps=plan.steps)  # pyright: ignore[reportArgumentType]
    best = games.solve(
        game, network, train, plan.epochs, out=place, resume=True, seed=cell.seed, progress=False, **dict(plan.recipe)
    ).best
    judge = Ball(plan.norm, plan.judged_at, *train.box)  # pyright: ignore[reportArgumentType]
    audit(best, test, judge, plan.n, effort=plan.effort, gallery=0, out=place)


def _same(plan: Sweep, folder: Path) -> None:
    """Write the plan, or refuse a folder that holds another."""
    path, said = folder / "plan.json", json.dumps(asdict(plan), indent=1)
    if path.is_file() and path.read_text(encoding="utf-8") != said:
        raise StackelbergError(f"{folder} holds a sweep with another plan; pass another --out, or the same arguments")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, said)


def summary(rows: Sequence[Row]) -> Mapping[str, dict[str, tuple[float, float]]]:
    """For each group (mean, half the 95 % t interval over seeds) of clean, attacked and certified accuracy."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return {
        group: {
            name: (fmean(values), half_interval(values))
            for name in ("clean", "attacked", "certified")
            for values in [[getattr(row, name) for row in members]]
        }
        for group, members in groups.items()
    }


def draw(plan: Sweep, rows: Sequence[Row], path: Path) -> None:
    """Clean against attacked accuracy, a point with its intervals for each group."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for group, found in summary(rows).items():
        (clean, dc), (attacked, da) = found["clean"], found["attacked"]
        axes.errorbar(clean, attacked, da, dc, "o", capsize=3, label=group)
    axes.set_xlabel("clean accuracy")
    axes.set_ylabel(f"accuracy attacked, {plan.norm} {plan.judged_at:.4g}")
    axes.set_title(f"{plan.model}, {plan.data}, {len(plan.seeds)} seeds, 95 % t intervals over seeds", fontsize=10)
    axes.legend(fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, format="svg")
