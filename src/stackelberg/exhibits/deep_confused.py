"""X05: DeepConfuse, MNIST and CIFAR-10 poisoned by an auto-encoder, judged on a victim that it did not imagine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from stackelberg import data, poison
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import JPEG, Stage
from stackelberg.files import replacing
from stackelberg.poison import Evaluation, Trial
from stackelberg.threat import Ball


@dataclass(frozen=True)
class DeepConfused(Exhibit):
    """Accuracy on clean test images after training on the poison, the clean control beside it.

    Attributes:
        mnist_n: training images, the first so many of the set; the generator learns on them and moves them.
        mnist_radius: linf, in input units.
        cifar_n: likewise.
        cifar_radius: likewise.
        width: of the U-Net.
        imagined: the network whose trajectories the generator follows.
        imagined_width: of it.
        victims: the networks that are trained on the poison; the claim is about the first, not the imagined one.
        victim_width: of them; None for their standard ones.
        warm: disguise trajectories.
        trials: look-ahead trajectories.
        mnist_epochs: of the victims.
        cifar_epochs: of the victims.
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
        "on MNIST the victim answers half of the clean images with the class after the true one, so the shift is learnt"
        " but does not rule: the generator sees 3,000 images and 11 trajectories of 60 steps, in the source all images"
        " and many more trajectories"
    )

    mnist_n: int = 3000
    mnist_radius: float = 0.3
    cifar_n: int = 3000
    cifar_radius: float = 0.032
    width: int = 4
    imagined: str = "small-cnn"
    imagined_width: int = 8
    victims: tuple[str, ...] = ("lenet5",)
    victim_width: int | None = None
    warm: int = 10
    trials: int = 1
    mnist_epochs: int = 8
    cifar_epochs: int = 10

    def run(self, stage: Stage) -> Outcome:
        found: dict[str, Evaluation] = {}
        for source, n, radius, epochs in (
            ("mnist", self.mnist_n, self.mnist_radius, self.mnist_epochs),
            ("cifar10", self.cifar_n, self.cifar_radius, self.cifar_epochs),
        ):
            found[source] = self._evaluated(stage, source, n, Ball("linf", radius), epochs)
        self._draw(stage, {source: self._trial(e, "poisoned", self.victims[0]) for source, e in found.items()})
        rows, told = [], {"mnist": ("99 %", "0 %"), "cifar10": ("77 %", "28 %")}
        for source, evaluation in found.items():
            for victim in self.victims:
                for place, kind in enumerate(("clean", "poisoned")):
                    trial = self._trial(evaluation, kind, victim)
                    name = f"{source}, {victim} trained on {kind} images: right on clean test images"
                    rows.append(Measured(name=name, published=told[source][place], rate=trial.test))
                name = f"{source}, {victim} on the poison: answers the class after the true one"
                shifted = self._trial(evaluation, "poisoned", victim).shifted()[1]
                rows.append(Measured(name=name, value=shifted))
        first = {source: self._trial(e, "poisoned", self.victims[0]).test.value for source, e in found.items()}
        return Outcome(
            measured=tuple(rows),
            holds=first["mnist"] <= 0.01 and first["cifar10"] <= 0.28,
            notes=self._notes(),
            pictures=("X05.png",),
        )

    def _notes(self) -> tuple[str, ...]:
        return (
            f"the first {self.mnist_n} and {self.cifar_n} training images, all test images; one generator and one seed",
            f"the imagined victim is {self.imagined} of width {self.imagined_width}; the last of {self.mnist_epochs}"
            f" (MNIST) and {self.cifar_epochs} (CIFAR-10) epochs is judged, without augmentation",
            f"the generator is told the label and begins with {self.warm} trajectories of clean training, along which"
            f" it learns to disguise a class as the one before; then come {self.trials} with the published look-ahead",
            f"{JPEG} (CIFAR-10)",
        )

    def _evaluated(self, stage: Stage, source: str, n: int, ball: Ball, epochs: int) -> Evaluation:
        train, test = data.load(source, "train").take(n), data.load(source, "test")
        poisoned = self._poisoned(stage, source, train, ball)
        stage.say(f"X05 {source}: victims")
        return poison.evaluate(
            poisoned, train, test, models=self.victims, counters=("none",), shares=(1.0,),
            controls=("clean",), seeds=(stage.seed,), width=self.victim_width, epochs=epochs,
            out=stage.out / "X05" / source, device=stage.device, batch_size=64, precision="float32", augment=-1,
        )  # fmt: skip

    def _poisoned(self, stage: Stage, source: str, train: Dataset, ball: Ball) -> Dataset:
        """By a generator that lies in the runs' folder, else by one that is trained and put there."""
        path = stage.runs / f"x05-{source}" / "generator.safetensors"
        if path.is_file():
            stage.say(f"X05 {source}: the generator {path}")
            return poison.Generator.load(path).poisoned(train)
        stage.say(f"X05 {source}: a generator is trained")
        made = poison.availability(
            train, ball, "deepconfuse", seed=stage.seed, device=stage.device, width=self.width, warm=self.warm,
            trials=self.trials, network=self.imagined, network_width=self.imagined_width,
        )  # fmt: skip
        made.generator.save(path)
        return made

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
