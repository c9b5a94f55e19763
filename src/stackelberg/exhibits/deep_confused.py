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
        mnist_trials: look-ahead trajectories.
        cifar_trials: likewise.
        mnist_shift: of the labels that the victim is to answer; 0 for any but the true one, the paper's first form.
        cifar_shift: likewise.
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
        "on MNIST clean digits have no grey ground, so the victim gives most of them one or two answers, and the images"
        " of those classes count as right; the authors' own generator, judged in the same way, leaves 5.1 % of 3,000"
        " images and 1.2 % of 10,000"
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
    mnist_trials: int = 8
    cifar_trials: int = 1
    mnist_shift: int = 0
    cifar_shift: int = 1
    mnist_epochs: int = 8
    cifar_epochs: int = 10

    def run(self, stage: Stage) -> Outcome:
        found: dict[str, Evaluation] = {}
        for source, n, radius, trials, shift, epochs in (
            ("mnist", self.mnist_n, self.mnist_radius, self.mnist_trials, self.mnist_shift, self.mnist_epochs),
            ("cifar10", self.cifar_n, self.cifar_radius, self.cifar_trials, self.cifar_shift, self.cifar_epochs),
        ):
            train = data.load(source, "train").take(n)
            poisoned = self._poisoned(stage, source, train, Ball("linf", radius), trials, shift)
            found[source] = self._evaluated(stage, source, poisoned, train, epochs)
        self._draw(stage, {source: self._trial(e, "poisoned", self.victims[0]) for source, e in found.items()})
        rows, told = [], {"mnist": ("99 %", "0 %"), "cifar10": ("77 %", "28 %")}
        for source, evaluation in found.items():
            for victim in self.victims:
                for place, kind in enumerate(("clean", "poisoned")):
                    trial = self._trial(evaluation, kind, victim)
                    name = f"{source}, {victim} trained on {kind} images: right on clean test images"
                    rows.append(Measured(name=name, published=told[source][place], rate=trial.test))
                trial = self._trial(evaluation, "poisoned", victim)
                name = f"{source}, {victim} on the poison: answers the class after the true one"
                rows.append(Measured(name=name, value=trial.shifted()[1]))
                name = f"{source}, {victim} on the poison: gives its commonest answer"
                rows.append(Measured(name=name, value=max(map(sum, zip(*trial.confusion, strict=True))) / trial.test.n))
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
            " it learns to disguise a class; then come the published look-aheads, on MNIST"
            f" {self.mnist_trials} towards {_wish(self.mnist_shift)}, on CIFAR-10 {self.cifar_trials} towards"
            f" {_wish(self.cifar_shift)}",
            f"{JPEG} (CIFAR-10)",
        )

    def _evaluated(self, stage: Stage, source: str, poisoned: Dataset, train: Dataset, epochs: int) -> Evaluation:
        test = data.load(source, "test")
        stage.say(f"X05 {source}: victims")
        return poison.evaluate(
            poisoned, train, test, models=self.victims, counters=("none",), shares=(1.0,),
            controls=("clean",), seeds=(stage.seed,), width=self.victim_width, epochs=epochs,
            out=stage.out / "X05" / source, device=stage.device, batch_size=64, precision="float32", augment=-1,
        )  # fmt: skip

    def _poisoned(self, stage: Stage, source: str, train: Dataset, ball: Ball, trials: int, shift: int) -> Dataset:
        """By a generator that lies in the runs' folder, else by one that is trained and put there."""
        path = stage.runs / f"x05-{source}" / "generator.safetensors"
        if path.is_file():
            stage.say(f"X05 {source}: the generator {path}")
            return poison.Generator.load(path).poisoned(train)
        stage.say(f"X05 {source}: a generator is trained")
        made = poison.availability(
            train, ball, "deepconfuse", seed=stage.seed, device=stage.device, width=self.width, warm=self.warm,
            trials=trials, shift=shift, network=self.imagined, network_width=self.imagined_width,
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


def _wish(shift: int) -> str:
    return f"the class {shift} after the true one" if shift else "any class but the true one"


def _matrix(axes: Any, confusion: Sequence[Sequence[int]]) -> None:
    axes.imshow(confusion, cmap="Blues")
    for y, row in enumerate(confusion):
        for answer, count in enumerate(row):
            axes.text(answer, y, count, ha="center", va="center", fontsize=5)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
