"""X06: availability poisons of CIFAR-10: GUE on three networks, new pictures, costs, other methods, what undoes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackelberg import data, poison
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.ledger import Ledger
from stackelberg.exhibits.stage import JPEG, Stage
from stackelberg.poison import Evaluation, Trial
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
        widths: of them.
        epochs: of each of them.
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
    n: int = 2500
    new: int = 2500
    width: int = 8
    warm: int = 7
    game: int = 2
    follower: str = "small-cnn"
    follower_width: int = 16
    victims: tuple[str, ...] = ("small-cnn", "vgg16", "resnet18")
    widths: tuple[int, ...] = (16, 8, 8)
    epochs: tuple[int, ...] = (12, 8, 8)
    others: tuple[str, ...] = ("em", "max-targeted", "lsp", "cuda")
    other_epochs: int = 6
    counters: tuple[str, ...] = ("crop-flip", "cutout", "mixup", "grayscale", "jpeg", "at:4/255")

    def run(self, stage: Stage) -> Outcome:
        whole, test = data.load("cifar10", "train"), data.load("cifar10", "test")
        train = whole.take(self.n)
        fresh = whole.take(range(self.n, min(self.n + self.new, len(whole))))
        gue, first = self._gue(stage, train), self.victims[0]
        moved = gue.poisoned(train)
        plain = {
            victim: self._evaluated(
                stage,
                f"gue-{victim}",
                moved,
                train,
                test,
                place,
                controls=("clean", "noise") if not place else ("clean",),
            )
            for place, victim in enumerate(self.victims)
        }
        protected, cost = moving(gue, fresh)
        again = self._evaluated(stage, "new", protected, fresh, test, controls=("clean",))
        rows = [row for victim, found in plain.items() for row in _rows(found, victim, "GUE's poison")]
        rows += _rows(again, first, "new images that GUE's generator protected")
        rows.append(Measured(name="GUE's generator: ms an image", value=1000 * cost.seconds / cost.n))
        for method in self.others:
            rows += self._other(stage, method, train, test)
        against = self._evaluated(stage, "counters", moved, train, test, counters=self.counters, controls=())
        undone = Evaluation({}, plain[first].trials + tuple(t for t in against.trials if _special(t)))
        undone.plot(stage.out / "X06.png")
        rows += [
            Measured(name=f"GUE, {first}, {100 * t.share:.0f} % poisoned, counter-measure {t.counter}", rate=t.test)
            for t in against.trials
            if _special(t)
        ]
        accuracy = [found.accuracy("poisoned", victim) for victim, found in plain.items()]
        accuracy.append(again.accuracy("poisoned", first))
        return Outcome(
            measured=tuple(rows), holds=max(accuracy) <= 0.2, notes=self._notes(undone, first), pictures=("X06.png",)
        )

    def _gue(self, stage: Stage, train: Dataset) -> poison.Generator:
        """The generator, trained once."""

        def trained(path: Path) -> None:
            stage.say("X06: a generator is trained")
            rule = poison.poisoner(
                train, Ball("linf", self.radius), "gue", seed=stage.seed, device=stage.device, width=self.width,
                warm=self.warm, epochs=self.game, network=self.follower, network_width=self.follower_width,
            )  # fmt: skip
            assert isinstance(rule, poison.Generator)
            rule.save(path)

        return poison.Generator.load(Ledger(stage, self).file("generator.safetensors", trained))

    def _other(self, stage: Stage, method: str, train: Dataset, test: Dataset) -> list[Measured]:
        """Accuracy and cost of another method, on the first victim."""
        learns: dict[str, Any] = {} if method in ("lsp", "cuda", "noise") else {"epochs": self.other_epochs}
        stage.say(f"X06: {method}")
        ball = Ball("linf", self.radius)
        made = poison.availability(train, ball, method, seed=stage.seed, device=stage.device, **learns)
        found = self._evaluated(stage, method, made, train, test, controls=())
        name = f"{self.victims[0]} trained on {method}: right on clean test images"
        return [
            Measured(name=name, published=_PUBLISHED.get(method), rate=found.trials[0].test),
            Measured(name=f"{method}: ms an image", value=1000 * made.moves.seconds / made.moves.n),
        ]

    def _evaluated(
        self, stage: Stage, name: str, poisoned: Dataset, train: Dataset, test: Dataset, place: int = 0,
        counters: tuple[str, ...] = (), controls: tuple[str, ...] = ("clean", "noise"),
    ) -> Evaluation:  # fmt: skip
        """The trainings of one victim, each kept when it is done."""
        stage.say(f"X06: {self.victims[place]} trained on {name}")
        return poison.evaluate(
            poisoned, train, test, models=self.victims[place : place + 1], counters=counters,
            shares=(0.1, 0.5, 0.9, 1.0) if counters else (1.0,), seeds=(stage.seed,), width=self.widths[place],
            epochs=self.epochs[place], steps=2, controls=controls, out=Ledger(stage, self).folder / name,
            device=stage.device, batch_size=64, precision="float32", augment=-1, check_steps=1,
        )  # fmt: skip

    def _notes(self, undone: Evaluation, victim: str) -> tuple[str, ...]:
        won = undone.undone().get(victim, {})
        said = ", ".join(f"{name} {100 * share:.0f} %" for name, share in won.items())
        return (
            f"the first {self.n} training images and all test images; networks of widths {self.widths}, the last of"
            f" {self.epochs} epochs, one seed, no augmentation but where a row says so",
            f"the generator is told the label; {self.warm} epochs of friendly play, then {self.game} of the game",
            f"share of the lost accuracy that a counter-measure wins back: {said or 'nothing was lost'}",
            JPEG,
        )


_PUBLISHED = {"em": "20.8 %", "max-targeted": "6.3 %", "lsp": "13.1 %"}


def _special(trial: Trial) -> bool:
    """Whether it is a training with a counter-measure, or on a partly poisoned set."""
    return trial.counter != "none" or trial.share < 1


def _rows(found: Evaluation, victim: str, name: str) -> list[Measured]:
    """Clean, random noise and poisoned, one victim."""
    words = {"clean": "clean images", "noise": "random noise", "poisoned": name}
    return [
        Measured(name=f"{victim} trained on {words[t.data]}: right on clean test images", rate=t.test)
        for t in found.trials
        if t.model == victim and t.counter == "none" and t.share in (0.0, 1.0)
    ]
