"""X02: the adversary chooses the label, whichever it likes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stackelberg.attacks import APGD, untouched
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.stage import Stage
from stackelberg.threat import Ball, clopper_pearson

BATCH = 250
PAYOFFS = ("cw", "ce")


@dataclass(frozen=True)
class AnyLabel(Exhibit):
    """Each of n images towards each of the other classes.

    Attributes:
        radius: linf, in input units.
        n: test images, of all classes.
        steps: of Auto-PGD, first on the margin of the target, then, where that fails, on its cross entropy.
        restarts: random starts of each.
        width: of the ResNet-18 that is trained where no run is given.
        epochs: of its training.
    """

    id = "X02"
    title = "Targeted attack: any label the adversary likes"
    published = "any label given by the adversary"
    source = "X.-S. Gao 2024, slide 'Targeted adversary attack'"
    claim = "at least 99 % of all (image, other class) pairs succeed at 8/255 on an undefended network"

    radius: float = 8 / 255
    n: int = 200
    steps: int = 50
    restarts: int = 2
    width: int = 16
    epochs: int = 20

    def run(self, stage: Stage) -> Outcome:
        ball = Ball("linf", self.radius)
        model = stage.network(
            Network(
                "cifar10-resnet18-standard", "cifar10", "resnet18", self.width, "standard", ball, epochs=self.epochs
            )
        )
        test, index = stage.examples("cifar10", self.n)
        x, y = test.batch(index)
        classes = len(test.classes)
        reached = []
        for shift in range(1, classes):
            reached.append(self._towards(model, x, y, (y + shift) % classes, ball, stage.seed))
            stage.say(f"X02: target {shift} of {classes - 1}: {int(reached[-1].sum())} of {len(y)} images")
        hits = torch.stack(reached, 1)  # [n, K - 1]
        pairs = clopper_pearson(int(hits.sum()), hits.numel())
        every = clopper_pearson(int(hits.all(1).sum()), len(y))
        return Outcome(
            measured=(
                Measured(name="(image, target) pairs that succeed", published="any label", rate=pairs),
                Measured(name="images for which every target succeeds", rate=every),
            ),
            holds=pairs.value >= 0.99,
            notes=(
                "pairs of one image are not independent, so the interval of the first rate is too narrow; that of the"
                " second is exact",
                *stage.notes(test),
            ),
        )

    def _towards(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor, ball: Ball, seed: int) -> Tensor:
        """Which images the network ends up reading as their target, in float32: bool [n]."""
        device = next(model.parameters()).device
        found = torch.zeros(len(y), dtype=torch.bool)
        for payoff in PAYOFFS:
            attack = APGD(ball, steps=self.steps, restarts=self.restarts, loss=payoff, seed=seed)
            for part in (~found).nonzero()[:, 0].split(BATCH):
                moved = attack(model, *(tensor[part].to(device) for tensor in (x, y, target)))
                with untouched(model), torch.no_grad():
                    found[part] = model(moved).argmax(1).cpu() == target[part]
        return found
