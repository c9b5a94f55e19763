"""X17: the four cells, normal and adversarial training, left alone and under attack, for two networks."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stackelberg.attacks import PGD, untouched
from stackelberg.attacks.suite import Effort
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.stage import Stage
from stackelberg.report import Report, compare
from stackelberg.threat import Ball, Rate, clopper_pearson, mcnemar

BATCH = 250
PUBLISHED = {
    ("resnet18", "standard"): ("94 %", "0 %"),
    ("resnet18", "at"): ("84 %", "52 %"),
    ("vgg16", "standard"): ("93 %", "0 %"),
    ("vgg16", "at"): ("79 %", "49 %"),
}


@dataclass(frozen=True)
class FourCells(Exhibit):
    """The Stackelberg game in practice: adversarial training against normal training.

    Attributes:
        radius: linf, in input units.
        n: test images.
        effort: of the suite.
        width: of both networks where no run is given (64 is the published size).
        steps: of the adversary in training.
        epochs: of training.
    """

    id = "X17"
    title = "Stackelberg game: adversarial training, and its price"
    published = (
        "accuracy left alone / under attack in per cent, normal -> adversarial training: ResNet18 94/0 -> 84/52,"
        " VGG16 93/0 -> 79/49"
    )
    source = "X.-S. Gao 2024, table 'Tradeoff between robustness and accuracy' (CIFAR-10, linf 8/255)"
    claim = (
        "in both networks adversarial training raises the accuracy under attack from near 0 and lowers the clean"
        " accuracy, each beyond chance (McNemar's exact test on the same images, p < .05)"
    )

    radius: float = 8 / 255
    n: int = 1000
    effort: Effort = "standard"
    width: int = 16
    steps: int = 3
    epochs: int = 20

    def run(self, stage: Stage) -> Outcome:
        ball = Ball("linf", self.radius)
        test, _ = stage.examples("cifar10", self.n)
        reports: dict[tuple[str, str], Report] = {}
        measured: list[Measured] = []
        for model_name, game in PUBLISHED:
            model = stage.network(self._network(model_name, game, ball))
            report = stage.audited(stage.out / self.id / f"{model_name}-{game}", model, test, ball, self.n, self.effort)
            reports[model_name, game] = report
            x, y = test.batch(report.data.index)
            measured += _cell(model_name, game, report, pgd20(model, x, y, ball, stage.seed))
        effects = {name: _effect(reports[name, "standard"], reports[name, "at"]) for name in ("resnet18", "vgg16")}
        for name, effect in effects.items():
            measured.append(Measured(name=f"{name}: clean accuracy falls, p", value=effect.falls))
            measured.append(Measured(name=f"{name}: accuracy under attack rises, p", value=effect.rises))
        page = stage.out / f"{self.id}.html"
        compare({f"{name}, {game}": report for (name, game), report in reports.items()}, page)
        return Outcome(
            measured=tuple(measured),
            holds=all(effect.holds for effect in effects.values()),
            notes=(*_sizes(self), *stage.notes(test)),
            pictures=(page.name,),
        )

    def _network(self, model_name: str, game: str, ball: Ball) -> Network:
        name = f"cifar10-{model_name}-{game}"
        return Network(name, "cifar10", model_name, self.width, game, ball, self.steps, self.epochs)


def pgd20(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, seed: int) -> Rate:
    """Accuracy under PGD of 20 steps of radius / 4, as the literature reports it."""
    device = next(model.parameters()).device
    stood = 0
    for part, label in zip(x.split(BATCH), y.split(BATCH), strict=True):
        part, label = part.to(device), label.to(device)
        moved = PGD(ball, steps=20, step=ball.radius / 4, seed=seed)(model, part, label)
        with untouched(model), torch.no_grad():
            stood += int((model(moved).argmax(1) == label).sum())
    return clopper_pearson(stood, len(y))


def _cell(model_name: str, game: str, report: Report, pgd: Rate) -> list[Measured]:
    clean, attacked = PUBLISHED[model_name, game]
    name = f"{model_name}, {game}"
    return [
        Measured(name=f"{name}: clean", published=clean, rate=report.clean),
        Measured(name=f"{name}: PGD-20", published=attacked, rate=pgd),
        Measured(name=f"{name}: suite", rate=report.robust.upper),
        Measured(name=f"{name}: certified", rate=report.robust.lower),
    ]


@dataclass(frozen=True)
class _Effect:
    """What adversarial training did to one network.

    Attributes:
        near_zero: whether the normal network's accuracy under attack is below 5 %.
        falls: p-value that the clean accuracy did not change, 1 where it rose.
        rises: p-value that the accuracy under attack did not change, 1 where it fell.
    """

    near_zero: bool
    falls: float
    rises: float

    @property
    def holds(self) -> bool:
        return self.near_zero and max(self.falls, self.rises) < 0.05


def _effect(normal: Report, robust: Report) -> _Effect:
    """Both networks were judged on the same images, so they are compared image by image."""
    clean = [[fell != "" for fell in report.examples.fell_to] for report in (normal, robust)]
    stood = [[fell is None for fell in report.examples.fell_to] for report in (robust, normal)]
    return _Effect(normal.robust.upper.value < 0.05, _more(*clean), _more(*stood))


def _more(a: list[bool], b: list[bool]) -> float:
    """P-value that a is right as often as b, 1 unless it is right more often."""
    only_a, only_b = (sum(x and not y for x, y in zip(*pair, strict=True)) for pair in ((a, b), (b, a)))
    return mcnemar(only_a, only_b) if only_a > only_b else 1.0


def _sizes(exhibit: FourCells) -> tuple[str, ...]:
    if exhibit.width >= 64:
        return ()
    return (
        f"the networks are narrower (width {exhibit.width} or as recorded) than the published ones (64), for a CPU",
    )
