"""X12: how far apart the classes of three image sets are, exactly."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from stackelberg import data
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import JPEG, Stage
from stackelberg.files import replacing
from stackelberg.memorize import Separation, separation

SETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
PUBLISHED = {
    ("mnist", "train"): ".737",
    ("cifar10", "train"): ".212",
    ("mnist", "test"): ".812",
    ("cifar10", "test"): ".220",
}
NORMS = ("linf", "l2", "l1")
UNITS = {"linf": "grey levels", "l2": "squared grey levels", "l1": "grey levels"}


@dataclass(frozen=True)
class Separated(Exhibit):
    """The separation bound of whole training sets in three norms, and from the test set to the training set in linf.

    Attributes:
        n: examples of each set at most.
        seconds: processor seconds that one bound may take at most.
    """

    id = "X12"
    title = "Robust memorization: the separation bound"
    published = "linf, training set: MNIST .737, CIFAR-10 .212; from the test set to it: .812 and .220"
    source = (
        "Yang, Rashtchian, Zhang, Salakhutdinov and Chaudhuri 2020, 'A closer look at accuracy vs. robustness', table 1"
    )
    claim = (
        "in linf MNIST's separation is .737 to three digits and that of CIFAR-10, here a JPEG copy, .212 to within a"
        " grey level; every bound, with that of every two classes, takes at most `seconds` of one processor"
    )

    n: int = 60_000
    seconds: float = 10.0

    def run(self, stage: Stage) -> Outcome:
        measured, found, spent = [], {}, []
        for source, name in SETS.items():
            train, test = (data.load(source, split).take(self.n) for split in ("train", "test"))
            for norm in NORMS:
                separation(train.x[:300], train.y[:300], norm)  # compiled before the clock runs
                begun = time.process_time()
                found[source, norm] = separation(train.x, train.y, norm, seed=stage.seed)
                spent.append(time.process_time() - begun)
                stage.say(f"X12: {name}: {found[source, norm]}, {spent[-1]:.1f} s")
                measured += _rows(name, found[source, norm], spent[-1], PUBLISHED.get((source, "train")))
            across = separation(test.x, test.y, against=(train.x, train.y), seed=stage.seed)
            stage.say(f"X12: {name}, test to train: {across}")
            published = PUBLISHED.get((source, "test"))
            measured.append(Measured(name=f"{name}, linf, test to train", published=published, value=across.value))
            found[source, "pictures"] = train
        near = abs(found["cifar10", "linf"].value - 0.212) <= 1 / 255 + 5e-4
        picture = stage.out / f"{self.id}.png"
        _draw(found, picture)
        return Outcome(
            measured=tuple(measured),
            holds=round(found["mnist", "linf"].value, 3) == 0.737 and near and max(spent) <= self.seconds,
            notes=(
                f"CIFAR-10: {JPEG}",
                "bytes are compared as integers: the values are exact, and so is the table of every two classes",
                "seconds are of the processor, all threads together, after compilation",
            ),
            pictures=(picture.name,),
        )


def _rows(name: str, found: Separation, seconds: float, published: str | None) -> list[Measured]:
    pair = f"examples {found.pair[0]} and {found.pair[1]}"
    assert found.levels is not None
    return [
        Measured(
            name=f"{name}, {found.norm}, {pair}", published=published if found.norm == "linf" else None,
            value=found.value,
        ),
        Measured(name=f"{name}, {found.norm}, {UNITS[found.norm]}", value=float(found.levels)),
        Measured(name=f"{name}, {found.norm}, processor seconds", value=seconds),
    ]  # fmt: skip


def _draw(found: dict[tuple[str, str], Separation | Dataset], path: Path) -> None:
    """The nearest pair of each set in each norm."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(len(SETS), 2 * len(NORMS), squeeze=False)
    for row, (source, name) in enumerate(SETS.items()):
        train = found[source, "pictures"]
        assert isinstance(train, Dataset)
        for column, norm in enumerate(NORMS):
            one = found[source, norm]
            assert isinstance(one, Separation)
            for side, place in enumerate(one.pair):
                at = axes[row, 2 * column + side]
                at.imshow(np.moveaxis(train.x[place].numpy(), 0, 2), cmap="gray", vmin=0, vmax=255)
                at.set_title(train.classes[int(train.y[place])], fontsize=9)
                at.set_xlabel(f"example {place}", fontsize=8)
                at.set_xticks([])
                at.set_yticks([])
            axes[row, 2 * column].set_ylabel(f"{name}, {norm}: {one.value:.4g}", fontsize=9)
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png", dpi=110)
