"""X06: availability poisons of CIFAR-10: GUE on three networks, new pictures, costs, other methods, what undoes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackelberg import data, poison
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import JPEG, Stage
from stackelberg.poison import Evaluation, Poisoned
from stackelberg.poison.availability import moving
from stackelberg.threat import Ball


@dataclass(frozen=True)
class Unlearnable(Exhibit):
    """Accuracy on clean test images after training on poisoned ones, clean and random-noise controls beside.

    Attributes:
        radius: linf, in input units.
        n: training images, the first so many; the generator learns on them and moves them.
        new: so many training images after those: moved by the generator alone.
        width: of the U-Net.
        warm: epochs of the friendly play before the game.
        game: epochs of the game.
        follower: the network the poisoner plays with.
        follower_width: of it.
        victims: networks trained on the poison, the first also with every counter-measure and on the other methods.
        victim_width: of them.
        epochs: of every victim.
        others: the other methods, on the first victim.
        other_epochs: of the surrogates of the other methods.
        counters: the counter-measures.
    """

    id = "X06"
    title = "Unlearnable CIFAR-10: a generator that leads, learners that follow"
    published = "near chance (slide); APBench, ResNet-18: EM 20.8, REM 17.5, LSP 13.1, TAP 6.3, DC 15.2 %"
    source = "Liu, Wang and Gao 2024; X.-S. Gao 2024, slide 'Types of poison'; APBench 2023"
    claim = (
        "trained on GUE's poison at 8/255, three kinds of network are right on at most 20 % of clean test images, and"
        " so is one trained on new images that the generator protected without optimising"
    )

    radius: float = 8 / 255
    n: int = 4000
    new: int = 4000
    width: int = 8
    warm: int = 8
    game: int = 3
    follower: str = "small-cnn"
    follower_width: int = 16
    victims: tuple[str, ...] = ("small-cnn", "vgg16", "resnet18")
    victim_width: int | None = 8
    epochs: int = 10
    others: tuple[str, ...] = ("em", "max-targeted", "lsp", "cuda")
    other_epochs: int = 6
    counters: tuple[str, ...] = ("crop-flip", "cutout", "mixup", "grayscale", "jpeg", "at:2/255", "at:8/255")

    def run(self, stage: Stage) -> Outcome:
        whole, test = data.load("cifar10", "train"), data.load("cifar10", "test")
        train = whole.take(self.n)
        fresh = whole.take(range(self.n, min(self.n + self.new, len(whole))))
        gue = self._gue(stage, train)
        first = self.victims[:1]
        plain = self._evaluated(stage, "gue", gue, train, test, self.victims, ())
        protected, cost = moving(gue, fresh)
        again = self._evaluated(stage, "new", protected, fresh, test, first, ())
        rows = [row for victim in self.victims for row in _rows(plain, victim, "GUE")]
        rows += _rows(again, first[0], "new images, GUE's generator alone")[1:]
        rows.append(Measured(name="GUE's generator: ms an image", value=1000 * cost.seconds / cost.n))
        for method in self.others:
            made = self._other(stage, method, train)
            name = f"{method}: right on clean test images, {first[0]}"
            found = self._evaluated(stage, method, made, train, test, first, ())
            rate = next(t.test for t in found.trials if t.data == "poisoned")
            rows.append(Measured(name=name, published=_PUBLISHED.get(method), rate=rate))
            rows.append(Measured(name=f"{method}: ms an image", value=1000 * made.moves.seconds / made.moves.n))
        undone = self._evaluated(stage, "counters", gue, train, test, first, self.counters)
        undone.plot(stage.out / "X06.png")
        rows += self._regained(undone, first[0])
        accuracy = [plain.accuracy("poisoned", victim) for victim in self.victims]
        accuracy.append(again.accuracy("poisoned", first[0]))
        return Outcome(
            measured=tuple(rows), holds=max(accuracy) <= 0.2, notes=self._notes(undone, first[0]), pictures=("X06.png",)
        )

    def _gue(self, stage: Stage, train: Dataset) -> poison.Generator:
        """The generator in the runs' folder, else one that is trained and put there."""
        path = stage.runs / "x06" / "generator.safetensors"
        if path.is_file():
            stage.say(f"X06: the generator {path}")
            return poison.Generator.load(path)
        stage.say("X06: a generator is trained")
        rule = poison.poisoner(
            train, Ball("linf", self.radius), "gue", seed=stage.seed, device=stage.device, width=self.width,
            warm=self.warm, epochs=self.game, network=self.follower, network_width=self.follower_width,
        )  # fmt: skip
        assert isinstance(rule, poison.Generator)
        rule.save(path)
        return rule

    def _other(self, stage: Stage, method: str, train: Dataset) -> Poisoned:
        learns: dict[str, Any] = {} if method in ("lsp", "cuda", "noise") else {"epochs": self.other_epochs}
        stage.say(f"X06: {method}")
        ball = Ball("linf", self.radius)
        return poison.availability(train, ball, method, seed=stage.seed, device=stage.device, **learns)

    def _evaluated(
        self, stage: Stage, name: str, poisoned: "Dataset | poison.Generator", train: Dataset, test: Dataset,
        victims: tuple[str, ...], counters: tuple[str, ...],
    ) -> Evaluation:  # fmt: skip
        """The trainings, each kept in the results' folder when it is done."""
        stage.say(f"X06: networks trained on {name}")
        moved = poisoned if isinstance(poisoned, Dataset) else poisoned.poisoned(train)
        folder: Path = stage.out / "X06" / name
        return poison.evaluate(
            moved, train, test, models=victims, counters=counters, shares=(0.1, 0.5, 0.9, 1.0) if counters else (1.0,),
            seeds=(stage.seed,), width=self.victim_width, epochs=self.epochs, steps=2, out=folder, device=stage.device,
            batch_size=64, precision="float32", augment=-1, check_steps=1,
        )  # fmt: skip

    def _regained(self, undone: Evaluation, victim: str) -> list[Measured]:
        rows = []
        for trial in undone.trials:
            if trial.data == "poisoned" and (trial.counter != "none" or trial.share < 1):
                part = f"{100 * trial.share:.0f} % poisoned, " if trial.share < 1 else ""
                rows.append(Measured(name=f"GUE, {victim}, {part}counter-measure {trial.counter}", rate=trial.test))
        return rows

    def _notes(self, undone: Evaluation, victim: str) -> tuple[str, ...]:
        won = undone.undone().get(victim, {})
        said = ", ".join(f"{name} {100 * share:.0f} %" for name, share in won.items())
        return (
            f"the first {self.n} training images and all test images; networks of width {self.victim_width}, the last"
            f" of {self.epochs} epochs, one seed, no augmentation but where a row says so",
            f"the generator is told the label; {self.warm} epochs of friendly play, then {self.game} of the game",
            f"share of the lost accuracy that a counter-measure wins back: {said or 'nothing was lost'}",
            JPEG,
        )


_PUBLISHED = {"em": "20.8 %", "max-targeted": "6.3 %", "lsp": "13.1 %"}


def _rows(found: Evaluation, victim: str, name: str) -> list[Measured]:
    """Clean, random noise and poisoned, one victim."""
    words = {"clean": "clean images", "noise": "random noise", "poisoned": name}
    return [
        Measured(name=f"{victim} trained on {words[t.data]}: right on clean test images", rate=t.test)
        for t in found.trials
        if t.model == victim and t.counter == "none" and t.share in (0.0, 1.0)
    ]
