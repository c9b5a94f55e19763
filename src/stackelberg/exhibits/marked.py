"""X09: whose data was it?  A mark within a radius, and p-values of models that saw it and of models that did not."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch import nn

from stackelberg import data, models
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.ledger import Ledger
from stackelberg.exhibits.stage import Stage
from stackelberg.poison import ownership
from stackelberg.poison.learner import accuracy, learn, logits
from stackelberg.threat import Ball, clopper_pearson


@dataclass(frozen=True)
class MarkedData(Exhibit):
    """p-values on Fashion-MNIST.

    Attributes:
        source_name: the data.
        n: images that are marked, and on which each network is trained.
        radius: of the mark, linf, grey levels.
        pairs: of candidate marks.
        share: of a class's images for one mark.
        epochs: of every training.
        width: of every small-cnn.
        marked: networks trained on the marks, each with a key of its own.
        clean: networks that never saw them.
        keys: fresh keys that each of these is asked about, for the law of p.
        probes: images that ask.
        test_n: for the accuracies.
        pruned: shares of the weights set to 0.
    """

    id = "X09"
    title = "Ownership: a marked data set, and a p-value that a model was trained on it"
    published = "no figure; ownership of data is to be proved by a watermark"
    source = "X.-S. Gao 2024, slide 'Data security'; mark after Sablayrolles et al. 2020 (radioactive data)"
    claim = "p < 1e-3 on every model trained with the mark, p > .05 on all 20 models that were not"

    source_name: str = "fashion_mnist"
    n: int = 2000
    radius: int = 8
    pairs: int = 20
    share: float = 0.5
    epochs: int = 10
    width: int = 8
    marked: int = 3
    clean: int = 20
    keys: int = 5
    probes: int = 200
    test_n: int = 2000
    pruned: tuple[float, ...] = (0.5, 0.8, 0.9)

    def run(self, stage: Stage) -> Outcome:
        train, test = data.load(self.source_name, "train"), data.load(self.source_name, "test")
        probes, judged = test.take(self.probes), test.take(slice(self.probes, self.probes + self.test_n))
        own, other = train.take(self.n), train.take(slice(self.n, 2 * self.n))
        ledger = Ledger(stage, self)
        reference = ledger.network("reference", lambda: self._trained(own, stage.seed + 7000))
        made = [self._mark(own, f"X09 {stage.seed} {turn}") for turn in range(self.marked)]
        suspects = [
            ledger.network(f"marked {turn}", lambda one=one, turn=turn: self._trained(one.data, stage.seed + turn))
            for turn, one in enumerate(made)
        ]
        rows, hit = [], []
        for turn, (one, net) in enumerate(zip(made, suspects, strict=True)):
            found = ledger.number(f"marked {turn}", lambda net=net, one=one: self._p(net, one.key, probes, reference))
            hit.append(found["p"])
            rows += _rows(f"trained on the marks, key {turn}", found)
            stage.say(f"X09: marked {turn}: {found}")
        rows.append(Measured(name="accuracy with the marks", rate=accuracy(suspects[0], judged)))
        rows.append(Measured(name="accuracy without", rate=accuracy(reference, judged)))
        for name, launder in self._laundered(suspects[0], made[0].data, other, stage.seed).items():
            net = ledger.network(name, launder)
            found = ledger.number(name, lambda net=net: self._p(net, made[0].key, probes, reference))
            rows += _rows(f"{name} (accuracy {accuracy(net, judged).value:.3f})", found)
            stage.say(f"X09: {name}: {found}")
        key = made[0].key
        asked = [
            ledger.number(
                f"clean {turn}", lambda turn=turn: self._clean(turn, stage, own, train, key, probes, reference)
            )
            for turn in range(self.clean)
        ]
        clean, fresh = [one[0] for one in asked], [p for one in asked for p in one[1]]
        rows += self._judged(clean, fresh)
        seen = made[0].stealth
        rows.append(Measured(name="mark: SSIM", value=seen.ssim))
        return Outcome(
            measured=tuple(rows),
            holds=max(hit) < 1e-3 and min(clean) > 0.05,
            notes=(
                f"small-cnn of width {self.width}, {self.epochs} epochs on {self.n} images of {self.source_name}; linf"
                f" {self.radius}/255 on {100 * min(1, self.share * math.ceil(self.pairs / 10)):.0f} % of the images;"
                f" {self.probes} test images ask; the smallest possible p is 2^-{self.pairs}",
                "a valid p-value is below .05 on one clean model in twenty, so that all 20 are above it is luck that"
                " the claim asks for: the law of p over fresh keys is the better witness",
                "half of the clean models were trained on the same images without marks, half on other images",
                "p by scores subtracts the answers of a network of the owner, trained on the images without marks",
            ),
        )

    def _mark(self, train: Dataset, key: str) -> ownership.Marked:
        return ownership.mark(train, Ball("linf", self.radius / 255), key, pairs=self.pairs, share=self.share)

    def _trained(self, train: Dataset, seed: int) -> nn.Module:
        return learn(train, "small-cnn", self.width, self.epochs, seed, learning_rate=3e-3)

    def _p(self, net: nn.Module, key: ownership.Key, probes: Dataset, reference: nn.Module) -> dict[str, float]:
        labels = models.BlackBox(lambda x: net(x).argmax(1), key.classes, labels=True)
        return {
            "p": ownership.test(net, key, probes, reference).p,
            "p without a reference": ownership.test(net, key, probes).p,
            "p by labels alone": ownership.test(labels, key, probes).p,
        }

    def _laundered(self, net: nn.Module, own: Dataset, other: Dataset, seed: int) -> dict[str, Callable[[], nn.Module]]:
        """What a thief may do to get rid of the mark."""

        def pupil(examples: Dataset) -> nn.Module:
            fresh = models.build("small-cnn", len(own.classes), own.shape, self.width, seed=seed + 50)
            return _taught(fresh, net, examples, self.epochs, seed)

        return {
            "fine-tuned on as many clean images, 3 epochs": lambda: _taught(copied(net), None, other, 3, seed),
            **{
                f"{100 * part:.0f} % of the weights pruned": lambda part=part: _pruned(net, part)
                for part in self.pruned
            },
            "distilled, on the marked images": lambda: pupil(own),
            "distilled, on other clean images": lambda: pupil(other),
        }

    def _clean(
        self, turn: int, stage: Stage, own: Dataset, train: Dataset, key: ownership.Key, probes: Dataset,
        reference: nn.Module,
    ) -> tuple[float, list[float]]:  # fmt: skip
        """(p of a clean model under the first key, its p under fresh keys)."""
        places = torch.randperm(len(train), generator=torch.Generator().manual_seed(turn))[: self.n]
        net = self._trained(own if turn % 2 == 0 else train.take(places), stage.seed + 100 + turn)
        p = ownership.test(net, key, probes, reference).p
        fresh = [
            ownership.test(net, replace(key, secret=f"fresh {stage.seed} {turn} {number}"), probes, reference).p
            for number in range(self.keys)
        ]
        stage.say(f"X09: clean {turn}: {p:.4f}")
        return p, fresh

    def _judged(self, clean: list[float], fresh: list[float]) -> list[Measured]:
        low = sum(p <= 0.05 for p in fresh)
        return [
            Measured(name="clean models: smallest p", value=min(clean)),
            Measured(
                name="clean models with p <= .05", rate=clopper_pearson(sum(p <= 0.05 for p in clean), len(clean))
            ),
            Measured(name="clean models under fresh keys, p <= .05", rate=clopper_pearson(low, len(fresh))),
            Measured(
                name="clean models under fresh keys, p <= .5",
                rate=clopper_pearson(sum(p <= 0.5 for p in fresh), len(fresh)),
            ),
            Measured(
                name="Kolmogorov-Smirnov test that these p are uniform: its p", value=float(kstest(fresh, "uniform")[1])
            ),
        ]


def _rows(name: str, found: dict[str, float]) -> list[Measured]:
    return [Measured(name=f"{name}: {kind}", value=value) for kind, value in found.items()]


def copied(net: nn.Module) -> nn.Module:
    """The same network, to be changed, with its record."""
    twin = copy.deepcopy(net)
    object.__setattr__(twin, "spec", models.spec_of(net))
    return twin


def _pruned(net: nn.Module, share: float) -> nn.Module:
    """A copy without the share of its weights that is smallest in size, over all layers together."""
    thin = copied(net)
    weights = [part.weight for part in thin.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    sizes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    least = sizes.kthvalue(max(1, round(share * len(sizes)))).values
    with torch.no_grad():
        for weight in weights:
            weight.mul_(weight.abs() > least)
    return thin.eval()


def _taught(pupil: nn.Module, teacher: nn.Module | None, examples: Dataset, epochs: int, seed: int) -> nn.Module:
    """Trained by Adam on the teacher's probabilities, or on the labels where there is none."""
    dice = torch.Generator().manual_seed(seed)
    x, y = examples.batch(slice(None))
    wanted = F.one_hot(y, len(examples.classes)).float() if teacher is None else logits(teacher, x).softmax(1)
    pupil.train()
    adam = torch.optim.Adam(pupil.parameters(), 1e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=dice).split(64):
            loss = F.cross_entropy(pupil(x[part]), wanted[part])
            adam.zero_grad()
            loss.backward()
            adam.step()
    return pupil.eval()
