"""X10: the weights change a little, the accuracy stays, the robustness goes."""

import copy
import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stackelberg import data
from stackelberg.attacks import PGD, ParameterAttack, classes_of
from stackelberg.attacks.parameters import AttackedWeights, change_of, randomly_changed
from stackelberg.attacks.tilting import flip_distance, tilted
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.stage import Stage
from stackelberg.models import fingerprint, load_weights, save_weights
from stackelberg.threat import Ball, Rate, WeightBall, clopper_pearson

BATCH = 250
WORDS = {
    "l0": "of the weights of every tensor changed",
    "linf": "of every weight",
    "l2": "of every tensor's l2 norm",
}
NETWORKS = {
    "adversarial training": ("mnist-small-cnn-at-16", "at", 4),
    "AWP": ("mnist-small-cnn-at-awp-16", "at-awp", 2),
}
"""What is shown: (run directory, game, epochs of its training)."""
WIDTHS = (100, 1000, 10_000, 100_000)


@dataclass(frozen=True)
class TinyChange(Exhibit):
    """The parameter attack on an adversarially trained network, and on one trained in the game of moved weights.

    Attributes:
        size: relative change of the weights.
        larger: other sizes, in linf and l2.
        radius: linf, in which both networks were trained and are attacked.
        n: test images.
        first: steps of phase 1.
        second: steps of phase 2.
        inner: steps of the examples' ascent inside the attack.
        chosen: test images that the direct attack is to turn, one attack each.
        awp: whether the second network is shown.
    """

    id = "X10"
    title = "Adversarial parameter attack: a tiny change of the weights takes the robustness"
    published = "the parameters change as little as possible, adversarial samples come as close as possible"
    source = "Yu, Wang and Gao, ICML 2023; X.-S. Gao 2024, slide 'Adversarial samples are inevitable'"
    claim = (
        "with 1 % of the weights of every tensor changed the adversarially trained network keeps its accuracy within 2"
        " points and its accuracy under attack falls to 5 % or less, while under the same changes at random places it"
        " does not"
    )

    size: float = 0.01
    larger: tuple[float, ...] = (0.03, 0.1)
    radius: float = 0.3
    n: int = 500
    first: int = 20
    second: int = 80
    inner: int = 5
    chosen: int = 5
    awp: bool = True

    def run(self, stage: Stage) -> Outcome:
        ball = Ball("linf", self.radius)
        test, index = stage.examples("mnist", self.n)
        train = data.load("mnist", "train")
        measured: list[Measured] = []
        holds = True
        for title, (name, game, epochs) in list(NETWORKS.items())[: 1 + self.awp]:
            recipe = {"radius_warmup": 0.5, "learning_rate": 0.003, "batch_size": 128}
            model = stage.network(Network(name, "mnist", "small-cnn", 16, game, ball, 3, epochs, recipe))
            device = next(model.parameters()).device
            x, y = (part.to(device) for part in test.batch(index))
            clean, robust = accuracies(model, x, y, ball, stage.seed)
            measured += _two(f"{title}: as trained", clean, robust)
            plan = ParameterAttack(
                WeightBall("l0", self.size), ball, self.first, self.second, inner=self.inner, batch_size=128,
                seed=stage.seed,
            )  # fmt: skip
            for norm in WORDS:
                sizes = (self.size, *(self.larger if norm != "l0" and game == "at" else ()))
                for size in sizes:
                    attack = replace(plan, weights=WeightBall(norm, size))
                    rows, stays, left, random = self._attacked(stage, title, model, attack, train, x, y)
                    measured += rows
                    if (norm, game) == ("l0", "at"):
                        holds = clean.value - stays.value <= 0.02 and left.value <= 0.05 < random.value
            if game == "at":
                measured += self._direct(stage, model, plan, train, test.take(index), x, y)
        measured += _tilts(self.size)
        return Outcome(
            measured=tuple(measured),
            holds=holds,
            notes=(
                f"small-cnn of width 16 on MNIST, trained in linf {self.radius:g}, 4 epochs and with AWP 2; under"
                f" attack: PGD-20 on the margin, on {self.n} test images; the attacker of the weights has the training"
                " set",
                "the source's budgets are the share of weights (l0) .25 to 2 % and the change of every weight (linf) 2"
                " to 10 %; in l0 the few weights change by any amount, so the l2 norm of the change is far above 1 %,"
                " and is given",
                "in linf and l2 1 % was not enough on any network tried: perceptrons of width 512 and 2048 trained at"
                " linf .1 lost 5 and 15 points of their accuracy under attack to an l2 change of 1 % that did not care"
                " for the accuracy, so the effect grows with the width as the theorem says, and needs far wider ones",
                "the tilt is the theorem's own example, one hidden layer and data in a hyperplane: its answers on the"
                " data are exactly those of before",
                "AWP is trained against an l2 change of .5 % of each layer (Wu, Xia and Wang 2020)",
                "budgets are those after the last projection, in float64; batch norm there is none",
            ),
        )

    def _attacked(
        self, stage: Stage, title: str, model: nn.Module, attack: ParameterAttack, train: Dataset, x: Tensor, y: Tensor
    ) -> tuple[list[Measured], Rate, Rate, Rate]:
        """(rows, clean and robust accuracy after the attack, robust accuracy after a random change of its size)."""
        weights, found = attack.weights, kept(stage, attack, model, train)
        other = randomly_changed(found.model, model, weights, stage.seed)
        clean, robust = accuracies(found.model, x, y, attack.ball, stage.seed)
        random = accuracies(other, x, y, attack.ball, stage.seed)
        name = f"{title}: {100 * weights.size:g} % {WORDS[weights.norm]}"
        stage.say(f"X10: {name}: clean {clean.value:.3f}, attacked {robust.value:.3f}, random {random[1].value:.3f}")
        rows = [*_two(name, clean, robust), *_two(f"{name}, at random", *random), *_spent(name, found, weights)]
        return rows, clean, robust, random[1]

    def _direct(
        self, stage: Stage, model: nn.Module, plan: ParameterAttack, train: Dataset, test: Dataset, x: Tensor, y: Tensor
    ) -> list[Measured]:
        """Single test images turned by the weights, the image unmoved, in l2."""
        right = (classes_of(model, x) == y).nonzero()[: self.chosen, 0].cpu()
        attack = replace(
            plan, weights=WeightBall("l2", self.size), ball=plan.ball.with_radius(0), first=0, second=40, until=0.0
        )
        turned, others_right = 0, []
        for place in right.tolist():
            found = kept(stage, attack, model, train, test.take(torch.tensor([place])))
            read = classes_of(found.model, x)
            turned += int(read[place] != y[place])
            others = torch.arange(len(y), device=y.device) != place
            others_right.append(float((read == y)[others].double().mean()))
        name = f"adversarial training: direct attack on one test image, {100 * self.size:g} % {WORDS['l2']}"
        return [
            Measured(name=f"{name}: the image is misread", rate=clopper_pearson(turned, len(right))),
            Measured(name=f"{name}: accuracy on all others, mean", value=sum(others_right) / len(others_right)),
        ]


def kept(
    stage: Stage, attack: ParameterAttack, model: nn.Module, train: Dataset, victims: Dataset | None = None
) -> AttackedWeights:
    """The attack's outcome; kept in the folder of the runs, so that a killed exhibit goes on."""
    decides = [repr(attack), fingerprint(model), train.name, len(train)]
    decides += [] if victims is None else [victims.content()]
    path = stage.runs / "x10" / f"{hashlib.sha256(repr(decides).encode()).hexdigest()[:24]}.safetensors"
    if path.is_file():
        attacked = copy.deepcopy(model)
        load_weights(attacked, path)
        attacked.requires_grad_(False)
        return AttackedWeights(attacked, change_of(attacked, model), [])
    found = attack(model, train, victims)
    save_weights(found.model, path)
    return found


def accuracies(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, seed: int) -> tuple[Rate, Rate]:
    """(accuracy unmoved, accuracy under PGD-20 on the margin)."""
    attack = PGD(ball, 20, payoff="cw", seed=seed)
    clean = int((classes_of(model, x) == y).sum())
    moved = torch.cat([attack(model, a, b) for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)])
    return clopper_pearson(clean, len(y)), clopper_pearson(int((classes_of(model, moved) == y).sum()), len(y))


def _two(name: str, clean: Rate, robust: Rate) -> list[Measured]:
    return [Measured(name=f"{name}: clean", rate=clean), Measured(name=f"{name}: under attack", rate=robust)]


def _spent(name: str, found: AttackedWeights, weights: WeightBall) -> list[Measured]:
    rows = [Measured(name=f"{name}: spent, largest of a tensor", value=found.spent[weights.norm])]
    if weights.norm == "l0":
        rows.append(Measured(name=f"{name}: l2 norm of the change over that of all", value=found.spent["l2 overall"]))
    return rows


def _tilts(size: float) -> list[Measured]:
    """How often a one-layer network's sign stands within distance 1 across the data, tilted and not, over its width."""
    rows = []
    for width in WIDTHS:
        draw = torch.Generator().manual_seed(width)
        weight = torch.randn(width, 20, generator=draw, dtype=torch.float64) / 20**0.5
        bias = torch.randn(width, generator=draw, dtype=torch.float64)
        readout = (torch.randint(0, 2, (width,), generator=draw) * 2.0 - 1).double() / width**0.5
        x = torch.randn(40, 20, generator=draw, dtype=torch.float64)
        x[:, 0] = 0
        normal = torch.eye(20, dtype=torch.float64)[0]
        moved = tilted(weight, readout, normal, size * float(weight.norm()) / width**0.5)
        same = torch.equal((x @ moved.T + bias).relu() @ readout, (x @ weight.T + bias).relu() @ readout)
        name = f"one layer of width {width}"
        for words, layer in (("as drawn", weight), (f"tilted by {100 * size:g} % (l2)", moved)):
            stands = int((flip_distance(layer, bias, readout, x, normal) > 1).sum())
            rows.append(
                Measured(name=f"{name}, {words}: sign stands within l2 1", rate=clopper_pearson(stands, len(x)))
            )
        rows.append(Measured(name=f"{name}, tilted: answers on the data unchanged (1: exactly)", value=float(same)))
    return rows
