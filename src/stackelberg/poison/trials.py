"""What came out of training on poisoned data?  One record a training, and what they say together."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from stackelberg.errors import StackelbergError
from stackelberg.files import replacing, write_text
from stackelberg.threat import Rate, clopper_pearson

SCHEMA = "stackelberg.evaluation/1"


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        data: "clean", "noise" (random, of the poison's own linf radius) or "poisoned".
        share: of the training set that is moved; 0 for clean.
        model: the network.
        counter: the counter-measure.
        seed: of the training.
        test: accuracy on clean test images.
        train: accuracy on its own training images, at most 2,000 of them.
        seconds: of the training.
        confusion: test images [true class][answer].
    """

    data: str
    share: float
    model: str
    counter: str
    seed: int
    test: Rate
    train: float
    seconds: float
    confusion: list[list[int]]

    def shifted(self) -> list[float]:
        """The share of test images that are answered (y + s) mod K, for s = 0, ..., K - 1."""
        classes = len(self.confusion)
        return [
            sum(row[(y + s) % classes] for y, row in enumerate(self.confusion)) / self.test.n for s in range(classes)
        ]

    @property
    def cell(self) -> tuple[str, float, str, str]:
        """What it measures, whatever the seed."""
        return self.data, self.share, self.model, self.counter


def pooled(trials: list[Trial]) -> Rate:
    """The share of right answers among all their test images."""
    return clopper_pearson(sum(trial.test.hits for trial in trials), sum(trial.test.n for trial in trials))


@dataclass(frozen=True)
class Evaluation:
    """All trainings on one poisoned set.

    Attributes:
        settings: on what, and with which recipe.
        trials: the trainings.
    """

    settings: dict[str, Any]
    trials: tuple[Trial, ...]

    def accuracy(self, data: str, model: str, counter: str = "none", share: float | None = None) -> float:
        """Mean test accuracy over the seeds.

        Raises:
            StackelbergError: nothing of the kind was trained.
        """
        part = {"clean": 0.0}.get(data, 1.0) if share is None else share
        found = [t.test.value for t in self.trials if t.cell == (data, part, model, counter)]
        if not found:
            raise StackelbergError(f"no training with data={data}, share={part:g}, model={model}, counter={counter}")
        return fmean(found)

    def undone(self) -> dict[str, dict[str, float]]:
        """model -> counter-measure -> share of the lost accuracy that it wins back on the wholly poisoned set.

        (accuracy with it - without) / (clean accuracy - without), each a mean over seeds; 1 is all, above 1 more than
        plain training on clean data gets. Models without a loss of at least 5 points are left out.
        """
        answer: dict[str, dict[str, float]] = {}
        for model in dict.fromkeys(trial.model for trial in self.trials):
            before, clean = self._mean("poisoned", 1.0, model, "none"), self._mean("clean", 0.0, model, "none")
            if before is None or clean is None or clean - before < 0.05:
                continue
            names = dict.fromkeys(t.counter for t in self.trials if t.model == model and t.counter != "none")
            after = {name: self._mean("poisoned", 1.0, model, name) for name in names}
            answer[model] = {n: (a - before) / (clean - before) for n, a in after.items() if a is not None}
        return answer

    def _mean(self, *cell: Any) -> float | None:
        found = [trial.test.value for trial in self.trials if trial.cell == cell]
        return fmean(found) if found else None

    def cells(self) -> dict[tuple[str, float, str, str], list[Trial]]:
        """The trainings of each cell, which differ by their seed alone."""
        found: dict[tuple[str, float, str, str], list[Trial]] = {}
        for trial in self.trials:
            found.setdefault(trial.cell, []).append(trial)
        return found

    def words(self) -> str:
        """A table, and which counter-measures undo the poison: those that win back at least half of what was lost."""
        rows = []
        for cell, some in self.cells().items():
            rest = f", train {100 * fmean(t.train for t in some):.1f} %, {len(some)} seed{'s' * (len(some) > 1)}"
            data, share, model, counter = cell
            rows.append(f"{model:<16} {counter:<12} {data:<9} {100 * share:>4.0f} %  test {pooled(some)}{rest}")
        for model, won in self.undone().items():
            undoing = [f"{name} ({100 * share:.0f} %)" for name, share in won.items() if share >= 0.5]
            held = [f"{name} ({100 * share:.0f} %)" for name, share in won.items() if share < 0.5]
            rows.append(
                f"{model}: undone by {', '.join(undoing) or 'none of them'}; holds against {', '.join(held) or '-'}"
            )
        return "\n".join(rows)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write all trainings, whole or not at all."""
        record = {
            "schema": SCHEMA, "settings": self.settings, "trials": [asdict(trial) for trial in self.trials],
            "undone": self.undone(),
        }  # fmt: skip
        write_text(path, json.dumps(record, indent=1) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Evaluation":
        """Read what `to_json` has written.

        Raises:
            StackelbergError: it is no evaluation of this version.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            if record["schema"] != SCHEMA:
                raise ValueError(record["schema"])
            trials = [Trial(**(trial | {"test": Rate(**trial["test"])})) for trial in record["trials"]]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise StackelbergError(f"{path} is no {SCHEMA} file ({error}); evaluate again") from error
        return cls(record["settings"], tuple(trials))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Test accuracy of every cell as a bar over the seeds' mean, a dot for each seed; one panel a network."""
        from matplotlib.figure import Figure  # half a second of every import of this room otherwise

        models = list(dict.fromkeys(trial.model for trial in self.trials))
        figure = Figure(figsize=(7.5, 1.2 + 0.28 * len({t.cell for t in self.trials})), layout="constrained")
        panels = figure.subplots(len(models), 1, squeeze=False)[:, 0]
        colours = {"clean": "#3c7d3c", "noise": "#777777", "poisoned": "#a83232"}
        for axes, model in zip(panels, models, strict=True):
            cells = list(dict.fromkeys(trial.cell for trial in self.trials if trial.model == model))
            for place, cell in enumerate(cells):
                values = [100 * trial.test.value for trial in self.trials if trial.cell == cell]
                axes.barh(place, fmean(values), color=colours[cell[0]], alpha=0.6)
                axes.plot(values, [place] * len(values), ".", color="black", markersize=4)
            named = [f"{c[3]}: {c[0]}" + (f" {100 * c[1]:.0f} %" if 0 < c[1] < 1 else "") for c in cells]
            axes.set_yticks(range(len(cells)), named, fontsize=7)
            axes.invert_yaxis()
            axes.set_xlim(0, 100)
            axes.set_title(model, fontsize=9)
        panels[-1].set_xlabel("accuracy on clean test images, %")
        with replacing(path) as scratch:
            figure.savefig(scratch, format="png", dpi=110)
