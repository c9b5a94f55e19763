"""X07: backdoors through 1 % of the training data, with true labels and with false ones; and what detectors see."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from stackelberg import data, poison
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.ledger import Ledger
from stackelberg.exhibits.stage import Stage
from stackelberg.poison import Backdoored
from stackelberg.poison.learner import accuracy, learn, logits
from stackelberg.threat import Ball, Rate, clopper_pearson

KINDS = ("attack success", "the control under the same trigger", "clean accuracy")


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
        augmented: whether images are cropped and mirrored in it.
        surrogate: kind of F_1, whose weights and examples are others than the victim's.
        surrogate_width: of it.
        surrogate_epochs: of it.
        surrogate_radius: of the ball in its training, linf, grey levels; 0 for plain training.
        shortcut_images: that train F_2.
        shortcut_epochs: of F_2.
        shortcut_steps: of the noise before each step of F_2.
        test_n: test images that are triggered; the accuracies are of all test images.
        inset: of the patches from the edges, pixels; crops are by 4, and cut none from there on.
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
    n: int = 50000
    rate: float = 0.01
    radii: tuple[int, ...] = (8, 16)
    target: int = 0
    model: str = "resnet18"
    width: int = 8
    epochs: int = 12
    augmented: bool = True
    surrogate: str = "resnet18"
    surrogate_width: int = 8
    surrogate_epochs: int = 10
    surrogate_radius: int = 0
    shortcut_images: int = 3000
    shortcut_epochs: int = 12
    shortcut_steps: int = 20
    test_n: int = 1000
    inset: int = 4
    parts: tuple[str, ...] = ("adversarial", "shortcut")
    inversion_steps: int = 60

    def run(self, stage: Stage) -> Outcome:
        train = data.load(self.source_name, "train").take(self.n)
        whole = data.load(self.source_name, "test")
        test = whole.take(self.test_n)
        ledger = Ledger(stage, self)
        control = self._trained(stage, "control", train)
        clean = accuracy(control, whole)
        rows = [Measured(name="control: clean accuracy", rate=clean)]
        poisons = self._poisons(stage, train)
        found: dict[str, dict[str, Rate]] = {}
        for name, make in poisons.items():
            numbers = ledger.number(
                name, lambda name=name, make=make: self._measured(stage, name, make(), control, whole)
            )
            found[name] = {kind: clopper_pearson(*numbers[kind]) for kind in KINDS}
            stage.say(f"X07: {name}: " + ", ".join(f"{kind} {rate}" for kind, rate in found[name].items()))
            rows += [Measured(name=f"{name}: {kind}", rate=rate) for kind, rate in found[name].items()]
            rows += [Measured(name=f"{name}: {kind} of the poison", value=numbers[kind]) for kind in ("l2", "SSIM")]
        best = f"clean-label {max(self.radii)}/255"
        for name in ("badnets patch", best):
            rows += self._detected(stage, name, poisons[name], test)
        rows += self._quiet(stage, train, control, test)
        success, bare, right = (found[best][kind] for kind in KINDS)
        holds = success.value >= 0.5 and success.low > bare.high and right.value >= clean.value - 0.01
        return Outcome(measured=tuple(rows), holds=holds, notes=(*self._notes(), *stage.notes(test)))

    def _measured(
        self, stage: Stage, name: str, made: Backdoored, control: nn.Module, whole: Dataset
    ) -> dict[str, Any]:
        """The success at victim and control, the victim's accuracy, and how visible the poison is."""
        victim = self._trained(stage, name, made.data)
        test = whole.take(self.test_n)
        others = test.take((test.y != self.target).nonzero()[:, 0])
        moved = made.trigger(*others.batch(slice(None)))
        hits = {net: int((logits(net, moved).argmax(1) == self.target).sum()) for net in (victim, control)}
        right = accuracy(victim, whole)
        values = ([hits[victim], len(others)], [hits[control], len(others)], [right.hits, right.n])
        return dict(zip(KINDS, values, strict=True)) | {"l2": made.stealth.l2, "SSIM": made.stealth.ssim}

    def _poisons(self, stage: Stage, train: Dataset) -> dict[str, Callable[[], Backdoored]]:
        """The poisons by name, each made when it is asked for."""
        most = max(self.radii)
        wanted = {f"clean-label {radius}/255": (radius, "clean-label", "both") for radius in reversed(self.radii)}
        wanted["badnets patch"] = (most, "badnets", "both")
        wanted |= {f"clean-label {most}/255, {part} part alone": (most, "clean-label", part) for part in self.parts}
        wanted[f"label-consistent {most}/255"] = (most, "label-consistent", "both")

        def make(radius: int, method: str, part: str) -> Backdoored:
            ball = Ball("linf", radius / 255)
            surrogate = Ledger(stage, self).network("surrogate", lambda: self._surrogate(stage, train))
            trigger = None
            if method == "clean-label":
                trigger = poison.two_part(
                    train, ball, self.target, surrogate, part, images=self.shortcut_images,
                    epochs=self.shortcut_epochs, inner=self.shortcut_steps, seed=stage.seed,
                )  # fmt: skip
            return poison.backdoor(
                train, ball, method, target=self.target, rate=self.rate, surrogate=surrogate, trigger=trigger,
                inset=self.inset, seed=stage.seed,
            )  # fmt: skip

        return {name: lambda ask=ask: make(*ask) for name, ask in wanted.items()}

    def _surrogate(self, stage: Stage, train: Dataset) -> nn.Module:
        """F_1, in a training of its own."""
        return poison.surrogate_of(
            train, self.surrogate, self.surrogate_width, self.surrogate_epochs, seed=stage.seed,
            radius=self.surrogate_radius / 255,
        )  # fmt: skip

    def _trained(self, stage: Stage, name: str, train: Dataset) -> nn.Module:
        def train_it() -> nn.Module:
            stage.say(f"X07: training {name}")
            return learn(train, self.model, self.width, self.epochs, stage.seed, augment=4 if self.augmented else -1)

        return Ledger(stage, self).network(name, train_it)

    def _looks(self) -> dict[str, Callable[[nn.Module, Dataset], poison.Suspects]]:
        share = min(0.3, self.rate * 10)
        return {
            "spectral signatures": lambda net, examples: poison.spectral_signatures(net, examples, share),
            "activation clustering": lambda net, examples: poison.activation_clustering(net, examples),
        }

    def _detected(self, stage: Stage, name: str, make: Callable[[], Backdoored], test: Dataset) -> list[Measured]:
        """What each detector finds of one poison."""

        def look() -> dict[str, Any]:
            made = make()
            victim = self._trained(stage, name, made.data)
            rates = {kind: see(victim, made.data).rates(made.index) for kind, see in self._looks().items()}
            return {kind: [[one.hits, one.n] for one in both] for kind, both in rates.items()} | {
                "inversion": self._inverted(stage, victim, test)
            }

        seen = Ledger(stage, self).number(f"detected {name}", look)
        rows = []
        for kind in self._looks():
            for words, counts in zip(("of the poison flagged", "of the rest flagged"), seen[kind], strict=True):
                rows.append(Measured(name=f"{kind}, {name}: {words}", rate=clopper_pearson(*counts)))
        return [*rows, *_inversion(name, seen["inversion"])]

    def _quiet(self, stage: Stage, train: Dataset, control: nn.Module, test: Dataset) -> list[Measured]:
        """What each detector says of clean data and of the control: false alarms all."""

        def look() -> dict[str, Any]:
            shares = {kind: see(control, train).share for kind, see in self._looks().items()}
            return {kind: [share.hits, share.n] for kind, share in shares.items()} | {
                "inversion": self._inverted(stage, control, test)
            }

        seen = Ledger(stage, self).number("detected control", look)
        rows = [Measured(name=f"{k}, clean data: flagged", rate=clopper_pearson(*seen[k])) for k in self._looks()]
        return [*rows, *_inversion("control", seen["inversion"])]

    def _inverted(self, stage: Stage, net: nn.Module, test: Dataset) -> list[float]:
        """[anomaly index of the target, other classes called abnormal, other classes]."""
        found = poison.trigger_inversion(net, test.take(300), self.inversion_steps, seed=stage.seed)
        others = sum(label != self.target for label in found.classes)
        return [float(found.anomaly[self.target]), float(others), float(len(found.norm) - 1)]

    def _notes(self) -> tuple[str, ...]:
        return (
            f"{self.model} of width {self.width}, {self.epochs} epochs on the first {self.n} images,"
            f" {'cropped and mirrored' if self.augmented else 'as they are'},"
            f" {100 * self.rate:g} % of them poisoned; the paper's victims are ResNet-18 and VGG, 150 epochs on 50,000",
            "success is counted on test images of the other classes alone, and every image is kept in [0, 1]; the"
            " authors' program counts the target class too, a floor of 10 %, and does not clamp",
            f"F_1 is a {self.surrogate} of width {self.surrogate_width} and other weights, trained"
            f" {self.surrogate_epochs} epochs on a random half at {self.surrogate_radius}/255 (the paper: 8/255); F_2"
            f" learns from {self.shortcut_images} images, {self.shortcut_epochs} epochs; both far smaller than in the"
            " paper",
            f"the patches lie {self.inset} pixels from the edges, and crops are by 4: a nearer one is cut in"
            " most views",
            "spectral signatures flag 1.5 times the stated share of every class by construction; an anomaly index above"
            " 2 is called abnormal",
        )


def _inversion(name: str, seen: list[float]) -> list[Measured]:
    return [
        Measured(name=f"trigger inversion, {name}: anomaly index of the target", value=seen[0]),
        Measured(
            name=f"trigger inversion, {name}: other classes called abnormal",
            rate=clopper_pearson(int(seen[1]), int(seen[2])),
        ),
    ]
