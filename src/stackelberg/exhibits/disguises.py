"""M01: a network that is not robust, dressed up so that common attacks report that it is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackelberg.attacks import suite, untouched
from stackelberg.attacks.suite import Effort
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.stage import Stage
from stackelberg.threat import Ball, clopper_pearson

DISGUISES: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda z: z,
    "logits x 1000": lambda z: 1000 * z,
    "logits x 0.001": lambda z: 0.001 * z,
    "softmax(z)": lambda z: z.softmax(1),
    "softmax(30 z)": lambda z: (30 * z).softmax(1),
}
PUBLISHED = {"logits x 1000": "96 % stand PGD-40 in five toolboxes", "softmax(30 z)": "80 % stand AutoAttack"}


class Disguised(nn.Module):
    """The same decisions by other numbers."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x: Tensor) -> Tensor:
        """change(logits), [B, K]."""
        return self.change(self.net(x))


@dataclass(frozen=True)
class Disguises(Exhibit):
    """Masked gradients: what the usual loop reports, and what the suite finds.

    Attributes:
        radius: linf, in input units.
        n: test images.
        effort: of the suite.
        steps: of the usual loop.
        width: of the network where no run is given.
        epochs: of its training.
    """

    id = "M01"
    title = "Masked gradients: one network, five outputs, one robust accuracy"
    published = "a plain MNIST network of 27 % at linf 0.1, its logits multiplied by 1000: 96 % under PGD-40"
    source = "Foolbox, torchattacks, ART, SecML-Torch and adv-lib run side by side; effect: Carlini and Wagner 2017"
    claim = (
        "in every disguise the suite leaves as many examples standing as undisguised, within 1 % of all, while the"
        " usual PGD loop leaves at least 20 % more of them standing where the logits are multiplied by 1000"
    )

    radius: float = 0.1
    n: int = 200
    effort: Effort = "standard"
    steps: int = 40
    width: int = 32
    epochs: int = 5

    def run(self, stage: Stage) -> Outcome:
        ball = Ball("linf", self.radius)
        test, index = stage.examples("mnist", self.n)
        net = stage.network(
            Network("mnist-small-cnn-standard", "mnist", "small-cnn", self.width, "standard", ball, epochs=self.epochs)
        )
        device = next(net.parameters()).device
        x, y = (part.to(device) for part in test.batch(index))
        measured, stood = [], {}
        for name, change in DISGUISES.items():
            model = Disguised(net, change).eval()
            with untouched(model):
                loop = int((model(usual_loop(model, x, y, ball, self.steps)).argmax(1) == y).sum())
            found = suite(ball, self.effort, seed=stage.seed).run(model, x, y)
            stage.say(f"{name}: {loop} of {len(y)} stand the usual loop, {found.robust} the suite")
            stood[name] = loop, found.robust
            measured += [
                Measured(
                    name=f"{name}: the usual loop", published=PUBLISHED.get(name), rate=clopper_pearson(loop, len(y))
                ),
                Measured(name=f"{name}: suite", rate=clopper_pearson(found.robust, len(y))),
            ]
        plain = stood["as it is"][1]
        true = all(abs(robust - plain) <= 0.01 * len(y) for _, robust in stood.values())
        fooled = stood["logits x 1000"][0] - plain >= 0.2 * len(y)
        return Outcome(measured=tuple(measured), holds=true and fooled, notes=stage.notes(test))


def usual_loop(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, steps: int) -> Tensor:
    """PGD on cross entropy in linf as scripts write it: float32, steps of radius / 10 from a random start."""
    generator = torch.Generator().manual_seed(0)
    noise = (2 * torch.rand(x.shape, generator=generator) - 1).to(x.device)
    moved = ball.project(x + ball.radius * noise, x)
    for _ in range(steps):
        with torch.enable_grad():
            point = moved.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), y, reduction="sum"), point)
        moved = ball.project(moved + ball.radius / 10 * gradient.sign(), x)
    return moved
