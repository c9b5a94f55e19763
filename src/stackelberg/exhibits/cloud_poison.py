"""X29: clouds that teach nothing, by feature collision; error-minimising noise at the same distance beside it."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from torch import Tensor

from stackelberg import data, models
from stackelberg.attacks import classes_of
from stackelberg.data import Dataset
from stackelberg.exhibits.cloud_nets import accuracy, clouds, trained_on
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.games import Standard
from stackelberg.poison.cloud_moves import mean_chamfer, publish_clouds, scaled_to
from stackelberg.poison.clouds import availability_of_clouds
from stackelberg.report.clouds import views
from stackelberg.threat import Ball, clopper_pearson, mcnemar

CLEAN, COLLISION = "clean", "fc-em"
OTHERS = ("em", "reg-em")


@dataclass(frozen=True)
class CloudPoison(Exhibit):
    """FC-EM against error-minimising noise, plain and with the Chamfer price, at FC-EM's own mean Chamfer distance.

    Attributes:
        points: of each cloud.
        n: training clouds.
        test_n: test clouds.
        width: of the surrogate and of the trained PointNets (64 as published).
        radius: linf, the outer limit of a coordinate's move, in units of the points.
        beta: the Chamfer price of FC-EM and REG-EM, a point.
        classwise: one noise for each class.
        epochs: of the alternation.
        steps: of the noise in each.
        step: length of a sign step, in units of the points.
        learner_epochs: of the networks that train on the poison.
        seeds: of the learners' initialisation and order, the stage's seed + 1 first (0 is the surrogate's).
    """

    id = "X29"
    title = "3D availability: feature collision with the Chamfer price"
    published = (
        "test accuracy falls (no table in the slides); error-minimising noise degenerates under the Chamfer price"
    )
    source = "Zhu, Miao, Dong and Gao, ICML 2024; X.-S. Gao 2024, slide '3D availability attack'"
    claim = (
        "a PointNet trained on FC-EM clouds is right on fewer clean test clouds than one trained on clean clouds, and"
        " than one trained on error-minimising clouds, plain or priced, at the same mean Chamfer distance"
    )

    points: int = 96
    n: int = 400
    test_n: int = 908
    width: int = 8
    radius: float = 0.25
    beta: float = 0.02
    classwise: bool = False
    epochs: int = 8
    steps: int = 12
    step: float = 0.02
    learner_epochs: int = 12
    seeds: int = 3

    def run(self, stage: Stage) -> Outcome:
        clean = clouds("train", self.points, self.n, stage.seed)
        test = clouds("test", self.points, self.test_n, stage.seed)
        sets = {CLEAN: clean, COLLISION: self._poisoned(stage, COLLISION, clean)}
        distance = mean_chamfer(sets[COLLISION].x, clean.x)
        for name in OTHERS:
            sets[name] = scaled_to(self._poisoned(stage, name, clean), clean, distance)
        right = {name: self._learners(stage, name, sets[name], test) for name in sets}
        means = {name: fmean(float(one.float().mean()) for one in found) for name, found in right.items()}
        first = {name: found[0] for name, found in right.items()}
        rows: list[Measured] = []
        for name, found in right.items():
            rows += self._rows(stage, name, sets[name], clean, found, means[name])
        for name in (CLEAN, *OTHERS):
            only = int((first[name] & ~first[COLLISION]).sum()), int((first[COLLISION] & ~first[name]).sum())
            rows.append(Measured(name=f"FC-EM against {name}: McNemar's p on the test clouds, first seed",
                                 value=mcnemar(*only)))  # fmt: skip
        with replacing(stage.out / "X29.svg") as part:
            Path(part).write_text(views(sets[COLLISION].x[0], before=clean.x[0]), encoding="utf-8")
        return Outcome(
            measured=tuple(rows),
            holds=all(means[COLLISION] < means[name] for name in (CLEAN, *OTHERS)),
            notes=self._notes(len(clean), len(test), distance),
            pictures=("X29.svg",),
        )

    def _notes(self, n: int, tested: int, distance: float) -> tuple[str, ...]:
        kind = "one noise for each class" if self.classwise else "one noise for each cloud"
        return (
            f"ModelNet10 (ModelNet40 in the source), {n} training clouds of {self.points} points (1024), PointNets of"
            f" width {self.width} (64), {self.epochs} epochs of the alternation (200), {self.learner_epochs} of the"
            f" learners, {kind}; {tested} clean test clouds",
            f"the moves of em and reg-em are scaled by one factor each to FC-EM's mean Chamfer distance, {distance:.4g}"
            " in squared units of the unit ball",
            f"means are over {self.seeds} seeds of the learners; each learner keeps the epoch that is best on a"
            " held-out part of its own set; nobody augments",
        )

    def _folder(self, stage: Stage, name: str) -> Path:
        kind = "class" if self.classwise else "cloud"
        size = f"{self.points}-{self.n}-{self.width}-{self.epochs}-{self.steps}-{self.step:g}"
        return stage.runs / f"x29-{name}-{kind}-{size}-{self.radius:g}-{self.beta:g}-{stage.seed}"

    def _poisoned(self, stage: Stage, method: str, clean: Dataset) -> Dataset:
        """The poison of a method; kept beside the networks, so that a killed run goes on."""
        folder = self._folder(stage, method)
        if (folder / "poison.json").is_file():
            return replace(data.load(folder, "train"), classes=clean.classes)
        ball = Ball("linf", self.radius, *clean.box)
        found = availability_of_clouds(
            clean, ball, method, seed=stage.seed, beta=self.beta, classwise=self.classwise, epochs=self.epochs,
            steps=self.steps, step=self.step, width=self.width, fit_size=16, learning_rate=3e-3,
            progress=lambda done, total, words: stage.say(f"X29: {method}, {done} of {total}: {words}"),
        )  # fmt: skip
        publish_clouds(found, clean, ball, folder, {"method": method})
        return found

    def _learners(self, stage: Stage, name: str, train: Dataset, test: Dataset) -> list[Tensor]:
        """Which test clouds each learner reads rightly."""
        found = []
        for seed in range(stage.seed + 1, stage.seed + 1 + self.seeds):
            folder = self._folder(stage, name) / f"learner-{seed}-{self.learner_epochs}"
            model = trained_on(
                train, Standard(), "pointnet", self.width, self.learner_epochs, seed, folder,
                augment=-1, batch_size=16, held_out=max(1, len(train) // 20),
            )  # fmt: skip
            found.append(classes_of(model, test.x) == test.y)
            stage.say(f"X29: trained on {name}, seed {seed}: {float(found[-1].float().mean()):.3f} on clean clouds")
        return found

    def _rows(
        self, stage: Stage, name: str, train: Dataset, clean: Dataset, right: list[Tensor], mean: float
    ) -> list[Measured]:
        model = models.load(self._folder(stage, name) / f"learner-{stage.seed + 1}-{self.learner_epochs}")
        return [
            Measured(name=f"{name}: clean test accuracy, mean of {self.seeds} seeds", value=mean),
            Measured(name=f"{name}: clean test accuracy, first seed",
                     rate=clopper_pearson(int(right[0].sum()), len(right[0]))),
            Measured(name=f"{name}: accuracy on its own training set, first seed",
                     rate=accuracy(model, train.x, train.y)),
            Measured(name=f"{name}: mean Chamfer distance to the clean clouds", value=mean_chamfer(train.x, clean.x)),
        ]  # fmt: skip
