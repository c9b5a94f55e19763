"""X05: DeepConfuse, MNIST and CIFAR-10 poisoned by an auto-encoder, judged on a victim that it did not imagine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stackelberg import data, poison
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.ledger import Ledger
from stackelberg.exhibits.stage import JPEG, Stage
from stackelberg.files import replacing
from stackelberg.poison import Evaluation, Trial
from stackelberg.threat import Ball


@dataclass(frozen=True)
class _Case:
    """One data set, and how it is poisoned.

    Attributes:
        source: its name.
        n: training images, the first so many; the generator learns on them and moves them.
        ball: in which they move.
        rules: fields of `poison.deepconfuse.DeepConfuse`.
        victims: that are trained on the poison, the one that the claim is about first: of another kind than imagined.
        epochs: of the victims.
        fewer: first images on which victims are trained besides, three times as long; 0 for none.
        most: right on clean test images at most, by the claim.
        published: on clean and on poisoned images.
    """

    source: str
    n: int
    ball: Ball
    rules: dict[str, Any]
    victims: tuple[str, ...]
    epochs: int
    fewer: int
    most: float
    published: tuple[str, str]


@dataclass(frozen=True)
class DeepConfused(Exhibit):
    """Accuracy on clean test images after training on the poison, the clean control beside it.

    MNIST by the published algorithm: an auto-encoder that is not told the label, and victims of plain gradient steps.
    CIFAR-10 by a U-Net that is told it, with a warm start: a fortieth of the steps.

    Attributes:
        mnist_n: training images.
        mnist_radius: linf, in input units.
        mnist_width: of the auto-encoder.
        mnist_imagined: the network whose trajectories it follows.
        mnist_imagined_width: of it.
        mnist_trials: trajectories.
        mnist_steps: of each.
        mnist_average: decay per step of the mean of the auto-encoder's weights, on whose poison they run.
        mnist_victims: networks that are trained on the poison; the claim is about the first.
        mnist_epochs: of the victims.
        mnist_fewer: first images on which victims are trained besides, for three times as many epochs; 0 for none.
        cifar_n: training images.
        cifar_radius: likewise.
        cifar_width: of the U-Net.
        cifar_imagined: likewise.
        cifar_imagined_width: likewise.
        cifar_warm: disguise trajectories.
        cifar_trials: look-ahead trajectories.
        cifar_victims: likewise.
        cifar_epochs: likewise.
        victim_width: of all victims; None for their standard ones.
    """

    id = "X05"
    title = "DeepConfuse: a training set from which nothing is learnt"
    published = "MNIST (linf .3) 99 -> 0 %, CIFAR-10 (linf .032) 77 -> 28 % test accuracy"
    source = "Feng, Cai and Zhou 2019; X.-S. Gao 2024, slide 'Data Poisoning Attack'"
    claim = (
        "a victim of another kind than the imagined one, trained on the poison, is right on at most 1 % of clean MNIST"
        " test images and on at most 28 % of CIFAR-10's"
    )

    short = (
        "trajectories of 390 steps and 64,000 steps of the generator are a seventh of the authors': the longer a victim"
        " trains, and the more images it sees, the more it learns in spite of the poison; the authors' own generator"
        " leaves it about .8 %"
    )

    mnist_n: int = 60000
    mnist_radius: float = 0.3
    mnist_width: int = 12
    mnist_imagined: str = "lenet-bn"
    mnist_imagined_width: int = 8
    mnist_trials: int = 165
    mnist_steps: int = 390
    mnist_average: float = 0.9993
    mnist_victims: tuple[str, ...] = ("small-cnn", "lenet5")
    mnist_epochs: int = 5
    mnist_fewer: int = 10000
    cifar_n: int = 3000
    cifar_radius: float = 0.032
    cifar_width: int = 4
    cifar_imagined: str = "small-cnn"
    cifar_imagined_width: int = 8
    cifar_warm: int = 10
    cifar_trials: int = 1
    cifar_victims: tuple[str, ...] = ("lenet5",)
    cifar_epochs: int = 10
    victim_width: int | None = None

    def run(self, stage: Stage) -> Outcome:
        rows, first, holds = [], {}, True
        for case in self._cases():
            train = data.load(case.source, "train").take(case.n)
            poisoned = self._poisoned(stage, case, train)
            evaluation = self._evaluated(stage, case, poisoned, train)
            for victim in case.victims:
                for kind, published in zip(("clean", "poisoned"), case.published, strict=True):
                    trial = self._trial(evaluation, kind, victim)
                    name = f"{case.source}, {victim} trained on {kind} images: right on clean test images"
                    rows.append(Measured(name=name, published=published, rate=trial.test))
                trial = self._trial(evaluation, "poisoned", victim)
                name = f"{case.source}, {victim} on the poison: answers the class after the true one"
                rows.append(Measured(name=name, value=trial.shifted()[1]))
                name = f"{case.source}, {victim} on the poison: gives its commonest answer"
                rows.append(Measured(name=name, value=max(map(sum, zip(*trial.confusion, strict=True))) / trial.test.n))
            if case.fewer:
                part = self._evaluated(stage, case, poisoned.take(case.fewer), train.take(case.fewer), 3)
                for victim in case.victims:
                    for kind in ("clean", "poisoned"):
                        name = f"{case.source}, {victim} trained on the first {case.fewer} {kind} images: right"
                        rows.append(Measured(name=name, rate=self._trial(part, kind, victim).test))
            first[case.source] = self._trial(evaluation, "poisoned", case.victims[0])
            holds &= first[case.source].test.value <= case.most
        self._draw(stage, first)
        return Outcome(measured=tuple(rows), holds=holds, notes=self._notes(), pictures=("X05.png",))

    def _cases(self) -> tuple[_Case, ...]:
        published: dict[str, Any] = {
            "width": self.mnist_width, "labels": False, "narrow": True, "network": self.mnist_imagined,
            "network_width": self.mnist_imagined_width, "warm": 0, "trials": self.mnist_trials,
            "steps": self.mnist_steps, "optimizer": "sgd", "rate": 0.01, "look_ahead": 0.01, "leader_rate": 1e-3,
            "falling": True, "average": self.mnist_average, "shift": 0,
        }  # fmt: skip
        told: dict[str, Any] = {
            "width": self.cifar_width, "network": self.cifar_imagined, "network_width": self.cifar_imagined_width,
            "warm": self.cifar_warm, "trials": self.cifar_trials, "shift": 1,
        }  # fmt: skip
        return (
            _Case(
                "mnist", self.mnist_n, Ball("linf", self.mnist_radius), published, self.mnist_victims,
                self.mnist_epochs, self.mnist_fewer, 0.01, ("99 %", "0 %"),
            ),
            _Case(
                "cifar10", self.cifar_n, Ball("linf", self.cifar_radius), told, self.cifar_victims,
                self.cifar_epochs, 0, 0.28, ("77 %", "28 %"),
            ),
        )  # fmt: skip

    def _notes(self) -> tuple[str, ...]:
        return (
            f"the first {self.mnist_n} and {self.cifar_n} training images, all test images; one generator and one seed",
            f"the last of {self.mnist_epochs} (MNIST) and {self.cifar_epochs} (CIFAR-10) epochs is judged, without"
            " augmentation",
            f"MNIST as published, but shorter: an auto-encoder of width {self.mnist_width} that is not told the label"
            f" looks one step ahead along {self.mnist_trials} trajectories of {self.mnist_steps} plain gradient steps"
            f" of {self.mnist_imagined} of width {self.mnist_imagined_width}, towards any class but the true one; the"
            " authors' own takes up to 500 of 938 steps; unlike theirs, the victims of a trajectory train on the poison"
            " of the running mean of the auto-encoder's weights, which is also the one that is judged",
            f"CIFAR-10: a U-Net of width {self.cifar_width} that is told the label begins with {self.cifar_warm}"
            " trajectories of clean training, along which it learns to disguise a class, and then looks ahead along"
            f" {self.cifar_trials} of {self.cifar_imagined} of width {self.cifar_imagined_width}, towards the class"
            " after the true one",
            f"{JPEG} (CIFAR-10)",
        )

    def _evaluated(self, stage: Stage, case: _Case, poisoned: Dataset, train: Dataset, times: int = 1) -> Evaluation:
        test = data.load(case.source, "test")
        name = case.source if len(train) == case.n else f"{case.source}-{len(train)}"
        stage.say(f"X05 {name}: victims")
        return poison.evaluate(
            poisoned, train, test, models=case.victims, counters=("none",), shares=(1.0,), controls=("clean",),
            seeds=(stage.seed,), width=self.victim_width, epochs=times * case.epochs,
            out=Ledger(stage, self).folder / name, device=stage.device, batch_size=64, precision="float32", augment=-1,
        )  # fmt: skip

    def _poisoned(self, stage: Stage, case: _Case, train: Dataset) -> Dataset:
        """By a generator that is trained once, trial by trial."""
        ledger = Ledger(stage, self)

        def trained(path: Path) -> None:
            stage.say(f"X05 {case.source}: a generator is trained")
            poison.availability(
                train, case.ball, "deepconfuse", seed=stage.seed, device=stage.device, progress=True,
                keep=ledger.folder / f"{case.source}.state.safetensors", **case.rules,
            ).generator.save(path)  # fmt: skip

        return poison.Generator.load(ledger.file(f"{case.source}.safetensors", trained)).poisoned(train)

    def _trial(self, evaluation: Evaluation, kind: str, model: str) -> Trial:
        return next(t for t in evaluation.trials if (t.data, t.model) == (kind, model))

    def _draw(self, stage: Stage, trials: dict[str, Trial]) -> None:
        """The confusion matrices of the first victim on the poison."""
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        for axes, (source, trial) in zip(figure.subplots(1, len(trials)), trials.items(), strict=True):
            _matrix(axes, trial.confusion)
            axes.set_title(f"{source}: {trial.model}, trained on the poison", fontsize=9)
        with replacing(stage.out / "X05.png") as part:
            figure.savefig(part, format="png", dpi=110)


def _matrix(axes: Any, confusion: Sequence[Sequence[int]]) -> None:
    axes.imshow(confusion, cmap="Blues")
    for y, row in enumerate(confusion):
        for answer, count in enumerate(row):
            axes.text(answer, y, count, ha="center", va="center", fontsize=5)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
