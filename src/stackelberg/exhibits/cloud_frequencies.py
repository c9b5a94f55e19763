"""X30: clouds under corruption, and training in their spectrum."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.figure import Figure
from torch import nn

from stackelberg.attacks.frequency import sensitivity
from stackelberg.data import Dataset
from stackelberg.data.cloud_corruption import CORRUPTIONS, LEVELS, corrupted, mean_corruption_error
from stackelberg.exhibits.cloud_nets import accuracy, clouds, trained_on
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.games import Frequency, Game, Standard
from stackelberg.threat.rate import half_interval

Errors = dict[str, list[float]]
"""By corruption the error rates at its five levels."""
PUBLISHED_MCE = "1.422 plain, 1.237 FAT (PointNet, ModelNet40-C, DGCNN = 1)"


@dataclass(frozen=True)
class CloudFrequencies(Exhibit):
    """Frequency adversarial training against plain training, under the seven corruptions of ModelNet-C.

    Attributes:
        points: of each cloud.
        n: training clouds.
        test_n: test clouds.
        width: of PointNet (64 as published).
        epochs: of both trainings.
        steps: of both followers.
        high: radius in the high frequencies (0.3 for 1,024 points as published).
        low: radius in the low ones (0.5 as published).
        neighbours: of the graph (30 of 1,024 points as published).
        batch_size: of both trainings.
        seeds: of initialisation and order, the stage's seed first.
    """

    id = "X30"
    title = "3D robustness from a Fourier view: training against high and low frequencies"
    published = (
        "ModelNet-C mean corruption error (DGCNN plain = 1): PointNet plain 1.422, FAT 1.237; DGCNN plain 1.000,"
        " FAT .825"
    )
    source = "Miao et al., NeurIPS 2024; X.-S. Gao 2024, slide '3D robustness'"
    claim = (
        "with the plain network as the baseline (1), the Fourier-trained network's mean corruption error is below 1"
        " with every seed"
    )
    short = (
        "with few clouds, points and epochs the seeds differ by more than the method gains (600 clouds of 64 points:"
        " 1.02, .89 and .72)"
    )

    points: int = 128
    n: int = 2000
    test_n: int = 400
    width: int = 16
    epochs: int = 24
    steps: int = 1
    high: float = 0.2
    low: float = 0.2
    neighbours: int = 12
    batch_size: int = 32
    seeds: int = 3

    def run(self, stage: Stage) -> Outcome:
        train = clouds("train", self.points, self.n, stage.seed)
        test = clouds("test", self.points, self.test_n, stage.seed)
        fat = Frequency(high=self.high, low=self.low, steps=self.steps, neighbours=self.neighbours)
        errors: dict[str, list[Errors]] = {"plain": [], "fat": []}
        clean: dict[str, list[float]] = {"plain": [], "fat": []}
        touchy: dict[str, list[torch.Tensor]] = {"plain": [], "fat": []}
        for seed in range(stage.seed, stage.seed + self.seeds):
            for name, game in (("plain", Standard()), ("fat", fat)):
                model = self._network(stage.runs, name, game, train, seed)
                errors[name].append(_errors(model, test, stage.seed))
                clean[name].append(accuracy(model, test.x, test.y).value)
                touchy[name].append(sensitivity(model, test.x[:64]))
                stage.say(f"X30: {name}, seed {seed}: clean {clean[name][-1]:.3f}")
        pairs = zip(errors["fat"], errors["plain"], strict=True)
        mce = [mean_corruption_error(own, plain) for own, plain in pairs]
        _draw(stage.out / "X30.png", errors, touchy, fat.share)
        low = max(1, round(fat.share * self.points))
        return Outcome(
            measured=tuple(_rows(clean, errors, touchy, mce, low, self.seeds)),
            holds=max(mce) < 1,
            notes=(
                f"PointNet of width {self.width} (64 as published), {self.points} points a cloud (1024), {len(train)}"
                f" training clouds, {self.epochs} epochs (250), {len(test)} test clouds, ModelNet10 (ModelNet40-C in"
                " the source); both trainings without augmentation; the best epoch on held-out clean clouds is kept",
                "the corruptions are written here in the style of ModelNet-C, counts as shares of the points; the"
                " baseline is the plain PointNet of the same seed, so numbers do not compare with the source's",
                f"the followers take {self.steps} steps; the Fourier-trained network has three sets of batch norms and"
                " is judged with the clean one",
                f"the intervals are over {self.seeds} seeds; one test set serves all",
            ),
            pictures=("X30.png",),
        )

    def _network(self, runs: Path, name: str, game: Game, train: Dataset, seed: int) -> nn.Module:
        model = "pointnet-3bn" if name == "fat" else "pointnet"
        folder = runs / f"x30-{name}-{seed}-{self.points}-{self.n}-{self.width}-{self.epochs}"
        if name == "fat":
            folder = folder.with_name(f"{folder.name}-{self.steps}-{self.high:g}-{self.low:g}")
        return trained_on(
            train, game, model, self.width, self.epochs, seed, folder,
            augment=-1, batch_size=self.batch_size, held_out=max(1, min(200, len(train) // 10)),
        )  # fmt: skip


def _errors(model: nn.Module, test: Dataset, seed: int) -> Errors:
    return {
        name: [
            1 - accuracy(model, corrupted(test.x, name, level, seed), test.y).value for level in range(1, LEVELS + 1)
        ]
        for name in CORRUPTIONS
    }


def _rows(
    clean: dict[str, list[float]],
    errors: dict[str, list[Errors]],
    touchy: dict[str, list[torch.Tensor]],
    mce: list[float],
    low: int,
    seeds: int,
) -> list[Measured]:
    rows = [
        Measured(name=f"mean corruption error of FAT, plain = 1, mean of {seeds} seeds", published=PUBLISHED_MCE,
                 value=fmean(mce)),
        Measured(name="mean corruption error of FAT, half the 95 % t interval", value=half_interval(mce)),
        *(Measured(name=f"mean corruption error of FAT, seed {place}", value=one) for place, one in enumerate(mce)),
    ]  # fmt: skip
    for name in ("plain", "fat"):
        rows.append(Measured(name=f"{name}: clean accuracy, mean of seeds", value=fmean(clean[name])))
        rows += [
            Measured(
                name=f"{name}: error under {corruption}, mean of levels and seeds",
                value=fmean(fmean(one[corruption]) for one in errors[name]),
            )
            for corruption in CORRUPTIONS
        ]
        mean = torch.stack(touchy[name]).square().mean(0)
        for band, part in (("low", mean[:low]), ("high", mean[low:])):
            value = float(part.mean().sqrt())
            rows.append(Measured(name=f"{name}: sensitivity in the {band} frequencies, logits per unit", value=value))
    return rows


def _draw(path: Path, errors: dict[str, list[Errors]], touchy: dict[str, list[torch.Tensor]], share: float) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours, count = {"plain": "#777777", "fat": "#1f5fa8"}, len(touchy["plain"][0])
    for name, colour in colours.items():
        mean = torch.stack(touchy[name]).mean(0)
        left.plot(range(1, count + 1), mean.tolist(), color=colour, label=name)
        places = [place + (0.2 if name == "fat" else -0.2) for place in range(len(CORRUPTIONS))]
        values = [fmean(fmean(one[corruption]) for one in errors[name]) for corruption in CORRUPTIONS]
        right.bar(places, values, 0.4, color=colour, label=name)
    left.axvline(max(1, round(share * count)) + 0.5, color="#bbbbbb", linestyle=":")
    left.set_xlabel("frequency, lowest first (low ones left of the dotted line)")
    left.set_ylabel("sensitivity, logits per unit")
    left.legend()
    right.set_xticks(range(len(CORRUPTIONS)), list(CORRUPTIONS), rotation=30, ha="right")
    right.set_ylabel("error, mean of levels and seeds")
    right.legend()
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110)
