"""X06: availability poisons of CIFAR-10: GUE on three networks, new pictures, costs, other methods, what undoes it."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from stackelberg import data, poison
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.ledger import Ledger
from stackelberg.exhibits.stage import JPEG, Stage
from stackelberg.poison import Evaluation, Trial
from stackelberg.poison.availability import moving
from stackelberg.poison.trials import pooled
from stackelberg.threat import Ball
from stackelberg.threat.rate import half_interval

NEW, COUNTERS = "new", "counters"


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
        seeds: of poisons and victims alike, the stage's first.
    """

    id = "X06"
    title = "Unlearnable CIFAR-10: a generator that leads, learners that follow"
    published = "near chance (slide); APBench, ResNet-18: EM 20.8, REM 17.5, LSP 13.1, TAP 6.3, DC 15.2 %"
    source = "Liu, Wang and Gao 2024; X.-S. Gao 2024, slide 'Types of poison'; APBench 2023"
    claim = (
        "trained on GUE's poison at 8/255, three kinds of network are right on at most 20 % of clean test images, and"
        " so is one trained on new images that the generator protected without optimising, on average over the seeds"
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
    seeds: int = 3

    def run(self, stage: Stage) -> Outcome:
        first = self.victims[0]
        played = [self._played(stage, seed) for seed in range(stage.seed, stage.seed + self.seeds)]
        found = {
            name: Evaluation({}, tuple(trial for trials, _ in played for trial in trials[name].trials))
            for name in played[0][0]
        }
        cost = {name: fmean(spent[name] for _, spent in played) for name in played[0][1]}
        rows = [row for victim in self.victims for row in _rows(found[victim], victim, "GUE's poison")]
        rows += _rows(found[NEW], first, "new images that GUE's generator protected", clean="the new images, clean")
        rows.append(Measured(name="GUE's generator: ms an image", value=cost[NEW]))
        for method in self.others:
            rows += _rows(found[method], first, method, _PUBLISHED.get(method))
            rows.append(Measured(name=f"{method}: ms an image", value=cost[method]))
        undone = Evaluation({}, found[first].trials + tuple(t for t in found[COUNTERS].trials if _special(t)))
        undone.plot(stage.out / "X06.png")
        for (_, share, _, counter), trials in found[COUNTERS].cells().items():
            if _special(trials[0]):
                name = f"GUE, {first}, {100 * share:.0f} % poisoned, counter-measure {counter}"
                rows.append(Measured(name=name, rate=pooled(trials)))
        accuracy = [found[victim].accuracy("poisoned", victim) for victim in self.victims]
        accuracy.append(found[NEW].accuracy("poisoned", first))
        return Outcome(
            measured=tuple(rows), holds=max(accuracy) <= 0.2, notes=self._notes(undone, first), pictures=("X06.png",)
        )

    def _played(self, stage: Stage, seed: int) -> tuple[dict[str, Evaluation], dict[str, float]]:
        """The trainings of one seed, its poisons included, and the ms an image that poisons cost, both by name."""
        whole, test = data.load("cifar10", "train"), data.load("cifar10", "test")
        train = whole.take(self.n)
        fresh = whole.take(range(self.n, min(self.n + self.new, len(whole))))
        gue = self._gue(stage, seed, train)
        moved = gue.poisoned(train)

        def evaluated(name: str, poisoned: Dataset, place: int = 0, **more: Any) -> Evaluation:
            return self._evaluated(stage, seed, name, poisoned, fresh if name == NEW else train, test, place, **more)

        found, cost = dict[str, Evaluation](), dict[str, float]()
        for place, victim in enumerate(self.victims):
            beside = ("clean", "noise") if not place else ("clean",)
            found[victim] = evaluated(f"gue-{victim}", moved, place, controls=beside)
        protected, moves = moving(gue, fresh)
        found[NEW], cost[NEW] = evaluated(NEW, protected, controls=("clean",)), 1000 * moves.seconds / moves.n
        for method in self.others:
            stage.say(f"X06: {method}")
            learns: dict[str, Any] = {} if method in ("lsp", "cuda", "noise") else {"epochs": self.other_epochs}
            ball = Ball("linf", self.radius)
            made = poison.availability(train, ball, method, seed=seed, device=stage.device, **learns)
            found[method], cost[method] = evaluated(method, made), 1000 * made.moves.seconds / made.moves.n
        found[COUNTERS] = evaluated(f"gue-{self.victims[0]}", moved, counters=self.counters)  # undefended: kept
        return found, cost

    def _gue(self, stage: Stage, seed: int, train: Dataset) -> poison.Generator:
        """The generator, trained once a seed."""

        def trained(path: Path) -> None:
            stage.say(f"X06: a generator is trained, seed {seed}")
            rule = poison.poisoner(
                train, Ball("linf", self.radius), "gue", seed=seed, device=stage.device, width=self.width,
                warm=self.warm, epochs=self.game, network=self.follower, network_width=self.follower_width,
            )  # fmt: skip
            assert isinstance(rule, poison.Generator)
            rule.save(path)

        return poison.Generator.load(Ledger(stage, self).file(f"generator-{seed}.safetensors", trained))

    def _evaluated(
        self, stage: Stage, seed: int, name: str, poisoned: Dataset, train: Dataset, test: Dataset, place: int,
        counters: tuple[str, ...] = (), controls: tuple[str, ...] = (),
    ) -> Evaluation:  # fmt: skip
        """The trainings of one victim, each kept when it is done."""
        stage.say(f"X06: {self.victims[place]} trained on {name}, seed {seed}")
        return poison.evaluate(
            poisoned, train, test, models=self.victims[place : place + 1], counters=counters,
            shares=(0.1, 0.5, 0.9, 1.0) if counters else (1.0,), seeds=(seed,), width=self.widths[place],
            epochs=self.epochs[place], steps=2, controls=controls, out=Ledger(stage, self).folder / f"{name}-{seed}",
            device=stage.device, batch_size=64, precision="float32", augment=-1, check_steps=1,
        )  # fmt: skip

    def _notes(self, undone: Evaluation, victim: str) -> tuple[str, ...]:
        won = undone.undone().get(victim, {})
        said = ", ".join(f"{name} {round(100 * share)} %" for name, share in won.items())
        return (
            f"the first {self.n} training images and all test images; networks of widths {self.widths}, the last of"
            f" {self.epochs} epochs, no augmentation but where a row says so",
            f"means of {self.seeds} seeds, each with poisons and networks of its own; n counts the test images of all"
            " seeds, so the brackets say nothing of other seeds: for those there is the t interval",
            f"the generator is told the label; {self.warm} epochs of friendly play, then {self.game} of the game",
            f"share of the lost accuracy that a counter-measure wins back: {said or 'nothing was lost'}",
            JPEG,
        )


_PUBLISHED = {"em": "20.8 %", "max-targeted": "6.3 %", "lsp": "13.1 %"}


def _special(trial: Trial) -> bool:
    """Whether it is a training with a counter-measure, or on a partly poisoned set."""
    return trial.counter != "none" or trial.share < 1


def _rows(
    found: Evaluation, victim: str, name: str, published: str | None = None, clean: str = "clean images"
) -> list[Measured]:
    """Clean, random noise and poisoned, one victim; with several seeds how far these lie apart on the poison."""
    words, rows = {"clean": clean, "noise": "random noise", "poisoned": name}, list[Measured]()
    for (kind, share, model, counter), trials in found.cells().items():
        if model != victim or counter != "none" or share not in (0.0, 1.0):
            continue
        row = f"{victim} trained on {words[kind]}: right on clean test images"
        rows.append(Measured(name=row, published=published if kind == "poisoned" else None, rate=pooled(trials)))
        if kind == "poisoned" and len(trials) > 1:
            spread = half_interval([trial.test.value for trial in trials])
            rows.append(Measured(name=f"{row}, half the 95 % t interval over seeds", value=spread))
    return rows
