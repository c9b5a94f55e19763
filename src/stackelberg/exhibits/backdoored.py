"""X07: backdoors through 1 % of the training data, with true labels and with false ones; and what detectors see."""

from dataclasses import dataclass

from torch import nn

from stackelberg import data, poison
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.ledger import Ledger
from stackelberg.exhibits.stage import Stage
from stackelberg.poison import Backdoored
from stackelberg.poison.learner import accuracy, learn
from stackelberg.threat import Ball, Rate, clopper_pearson


@dataclass(frozen=True)
class Backdoors(Exhibit):
    """Attack success and clean accuracy on CIFAR-10.

    Attributes:
        source_name: the data.
        n: training images, the first ones.
        rate: poisoned share of them.
        radii: of the clean-label noise, linf, grey levels; the largest serves the ablation.
        target: the attacker's class.
        model: of victims and control.
        width: of it.
        epochs: of their training.
        surrogate_epochs: of F_1.
        test_n: test images.
        parts: that are also tried alone.
        inversion_steps: for each class.
    """

    id = "X07"
    title = "Backdoors: 1 % of the training data, labels true"
    published = "no table found; the method's own setting is 300 to 500 images of CIFAR-10, 8/255 to 32/255"
    source = "Yu, Liu, Miao, Gao and Zhang, ICML 2024; Gu et al. 2017 (patch); Turner et al. 2019 (label-consistent)"
    claim = (
        "clean-label poison of 1 % of the data at 16/255 gives at least half of the triggered test images of other"
        " classes to the target, against a control without the backdoor, and clean accuracy stays within 1 point"
    )

    source_name: str = "cifar10"
    n: int = 5000
    rate: float = 0.01
    radii: tuple[int, ...] = (8, 16)
    target: int = 0
    model: str = "small-cnn"
    width: int = 8
    epochs: int = 15
    surrogate_epochs: int = 6
    test_n: int = 500
    parts: tuple[str, ...] = ("adversarial", "shortcut")
    inversion_steps: int = 60

    def run(self, stage: Stage) -> Outcome:
        train = data.load(self.source_name, "train").take(self.n)
        test = data.load(self.source_name, "test").take(self.test_n)
        control = self._trained(stage, "control", train)
        surrogate = Ledger(stage, self).network(
            "surrogate",
            lambda: poison.surrogate_of(train, width=self.width, epochs=self.surrogate_epochs, seed=stage.seed),
        )
        clean = accuracy(control, test)
        rows = [Measured(name="control: clean accuracy", rate=clean)]
        kept: dict[str, tuple[Backdoored, nn.Module]] = {}
        success, bare, right = {}, {}, {}
        for name, made in self._poisons(stage, train, surrogate):
            victim = self._trained(stage, name, made.data)
            success[name] = poison.attack_success(victim, test, made.trigger)
            bare[name] = poison.attack_success(control, test, made.trigger)
            right[name] = accuracy(victim, test)
            stage.say(f"X07: {name}: success {success[name]}, control {bare[name]}, clean {right[name]}")
            rows += [
                Measured(name=f"{name}: attack success", rate=success[name]),
                Measured(name=f"{name}: the control under the same trigger", rate=bare[name]),
                Measured(name=f"{name}: clean accuracy", rate=right[name]),
                Measured(name=f"{name}: l2 of the poison", value=made.stealth.l2),
                Measured(name=f"{name}: SSIM of the poison", value=made.stealth.ssim),
            ]
            kept[name] = made, victim
        best = f"clean-label {max(self.radii)}/255"
        looked = {name: kept[name] for name in ("badnets patch", best)}
        rows += self._detected(stage, looked, train, control, test)
        holds = (
            success[best].value >= 0.5
            and success[best].low > bare[best].high
            and right[best].value >= clean.value - 0.01
        )
        return Outcome(measured=tuple(rows), holds=holds, notes=(*self._notes(), *stage.notes(test)))

    def _poisons(self, stage: Stage, train: Dataset, surrogate: nn.Module) -> list[tuple[str, Backdoored]]:
        most = max(self.radii)
        wanted = {f"clean-label {radius}/255": (radius, "clean-label", "both") for radius in self.radii}
        wanted |= {f"clean-label {most}/255, {part} part alone": (most, "clean-label", part) for part in self.parts}
        wanted |= {
            f"label-consistent {most}/255": (most, "label-consistent", "both"),
            "badnets patch": (most, "badnets", "both"),
            "blended": (most, "blended", "both"),
        }
        return [
            (
                name,
                poison.backdoor(
                    train, Ball("linf", radius / 255), method, target=self.target, rate=self.rate, surrogate=surrogate,
                    parts=part, seed=stage.seed,
                ),
            )
            for name, (radius, method, part) in wanted.items()
        ]  # fmt: skip

    def _trained(self, stage: Stage, name: str, train: Dataset) -> nn.Module:
        def train_it() -> nn.Module:
            stage.say(f"X07: training {name}")
            return learn(train, self.model, self.width, self.epochs, stage.seed)

        return Ledger(stage, self).network(name, train_it)

    def _detected(
        self, stage: Stage, looked: dict[str, tuple[Backdoored, nn.Module]], train: Dataset, control: nn.Module,
        test: Dataset,
    ) -> list[Measured]:  # fmt: skip
        """Of each detector: what it finds, and what it says of clean data and of the control."""
        rows = []
        share = min(0.3, self.rate * len(train.classes))
        looks = {
            "spectral signatures": lambda net, examples: poison.spectral_signatures(net, examples, share),
            "activation clustering": lambda net, examples: poison.activation_clustering(net, examples),
        }
        for detector, look in looks.items():
            for name, (made, victim) in looked.items():
                found, false = look(victim, made.data).rates(made.index)
                rows += [
                    Measured(name=f"{detector}, {name}: of the poison flagged", rate=found),
                    Measured(name=f"{detector}, {name}: of the rest flagged", rate=false),
                ]
            rows.append(Measured(name=f"{detector}, clean data: flagged", rate=look(control, train).share))
        for name, net in {**{name: net for name, (_, net) in looked.items()}, "control": control}.items():
            found = poison.trigger_inversion(net, test.take(500), self.inversion_steps, seed=stage.seed)
            others = [label for label in found.classes if name == "control" or label != self.target]
            rows += [
                Measured(name=f"trigger inversion, {name}: anomaly index of the target", value=_anomaly(found, self)),
                Measured(name=f"trigger inversion, {name}: other classes called abnormal", rate=_of(others, train)),
            ]
            stage.say(f"X07: inversion {name}: {found.classes}")
        return rows

    def _notes(self) -> tuple[str, ...]:
        return (
            f"{self.model} of width {self.width}, {self.epochs} epochs on the first {self.n} images, crop and flip,"
            f" {100 * self.rate:g} % of them poisoned; the paper's victims are ResNet-18 and VGG, 150 epochs on 50,000",
            "success is counted on test images of the other classes alone, and every image is kept in [0, 1]; the"
            " authors' program counts the target class too, a floor of 10 %, and does not clamp",
            f"F_1 is a small-cnn of other weights, trained {self.surrogate_epochs} epochs on a random half; F_2 learns"
            " from 1,000 images, 8 epochs; both far smaller than in the paper",
            "spectral signatures flag 1.5 times the stated share of every class by construction; an anomaly index above"
            " 2 is called abnormal",
        )


def _anomaly(found: poison.Inverted, exhibit: Backdoors) -> float:
    return float(found.anomaly[exhibit.target])


def _of(labels: list[int], train: Dataset) -> Rate:
    return clopper_pearson(len(labels), len(train.classes))
