"""X01: one small step of the gradient's sign turns the label, and the network is surer than before."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from stackelberg.attacks import FGSM, untouched
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.page import write_page
from stackelberg.exhibits.stage import Stage
from stackelberg.report.gallery import png, varied
from stackelberg.threat import Ball, clopper_pearson

BATCH = 250


@dataclass(frozen=True)
class Turned:
    """One picture whose label turned; pictures as PNG in base64."""

    index: int
    before: str
    before_confidence: float
    after: str
    after_confidence: float
    image: str
    sign: str
    moved: str


@dataclass(frozen=True)
class OneStep(Exhibit):
    """x' = x + radius * sign(grad_x J(theta, x, y)) on a normally trained network.

    Attributes:
        radius: linf, in input units.
        n: test images.
        width: of the ResNet-18 that is trained where no run is given.
        epochs: of its training.
        shown: pictures in the gallery.
    """

    id = "X01"
    title = "Adversarial samples: one step of the gradient's sign"
    published = "'panda' 57.7 % + .007 sign(grad J) = 'gibbon' 99.3 %"
    source = "Goodfellow, Shlens and Szegedy 2015, figure 1 (GoogLeNet on ImageNet)"
    claim = (
        "a test picture's label turns at radius .007, and the network is surer of the wrong label than of the right one"
    )

    radius: float = 0.007
    n: int = 1000
    width: int = 16
    epochs: int = 20
    shown: int = 8

    def run(self, stage: Stage) -> Outcome:
        ball = Ball("linf", self.radius)
        model = stage.network(
            Network(
                "cifar10-resnet18-standard", "cifar10", "resnet18", self.width, "standard", ball, epochs=self.epochs
            )
        )
        test, index = stage.examples("cifar10", self.n)
        x, y = test.batch(index)
        moved, before, after = _step(model, x, y, ball)
        right = before.argmax(1) == y
        turned = right & (after.argmax(1) != y)
        sure_before, sure_after = before.gather(1, y[:, None])[:, 0], after.amax(1)
        surer = turned & (sure_after > sure_before)
        gain = torch.where(surer, sure_after - sure_before, -1.0)
        places = gain.argsort(descending=True, stable=True)[: int(surer.sum())]
        shown = places[torch.tensor(varied(y[places].tolist(), self.shown), dtype=torch.long)]
        pictures = [_turned(i, x, moved, before, after, y, index, test.classes, ball) for i in shown.tolist()]
        if pictures:
            write_page(
                stage.out / "X01.html",
                "gallery.html.jinja",
                pictures=[asdict(picture) for picture in pictures],
                exhibit=self,
            )
        stood = int(right.sum())
        best = int(gain.argmax())
        return Outcome(
            measured=(
                Measured(name="right unmoved", rate=clopper_pearson(stood, len(y))),
                Measured(name="label turned, of those right", rate=clopper_pearson(int(turned.sum()), stood)),
                Measured(
                    name="turned and surer than before, of those right", rate=clopper_pearson(int(surer.sum()), stood)
                ),
                Measured(name="first picture: confidence before", published="57.7 %", value=float(sure_before[best])),
                Measured(name="first picture: confidence after", published="99.3 %", value=float(sure_after[best])),
            ),
            holds=bool(surer.any()),
            notes=stage.notes(test),
            pictures=("X01.html",) if pictures else (),
        )


def _step(model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> tuple[Tensor, Tensor, Tensor]:
    """(x', probabilities at x, probabilities at x'), on the CPU."""
    device = next(model.parameters()).device
    moved, before, after = [], [], []
    for part, label in zip(x.split(BATCH), y.split(BATCH), strict=True):
        part, label = part.to(device), label.to(device)
        moved.append(FGSM(ball)(model, part, label))
        with untouched(model), torch.no_grad():
            before.append(model(part).softmax(1).cpu())
            after.append(model(moved[-1]).softmax(1).cpu())
    return torch.cat(moved).cpu(), torch.cat(before), torch.cat(after)


def _turned(
    place: int, x: Tensor, moved: Tensor, before: Tensor, after: Tensor, y: Tensor, index: Tensor,
    classes: list[str], ball: Ball,
) -> Turned:  # fmt: skip
    wrong = int(after[place].argmax())
    return Turned(
        index=int(index[place]),
        before=classes[int(y[place])],
        before_confidence=float(before[place, y[place]]),
        after=classes[wrong],
        after_confidence=float(after[place, wrong]),
        image=png(x[place]),
        sign=png((moved[place] - x[place]) / (2 * ball.radius) + 0.5),
        moved=png(moved[place]),
    )
