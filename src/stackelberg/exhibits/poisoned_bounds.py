"""X28: what can be proved about a network trained on poisoned data, beside what is measured, over the poison rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from stackelberg import data
from stackelberg.bounds import poisoned
from stackelberg.bounds.poisoned import Terms
from stackelberg.bounds.transport import total_variation
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.poison import surrogate_of, two_part
from stackelberg.poison.learner import accuracy, learn, logits
from stackelberg.poison.trigger import Trigger, patch
from stackelberg.threat import Ball, Rate, clopper_pearson

Poison = Callable[[Dataset, Tensor], Dataset]
"""(data, whether each example is to be poisoned) -> the poisoned data."""


@dataclass(frozen=True)
class Case:
    """A way to poison.

    Attributes:
        name: for the report.
        classes: which are poisoned, one flag for each.
        apply: how.
        trigger: that opens the backdoor; None for availability.
        rates: alpha, shares of these classes.
    """

    name: str
    classes: Tensor
    apply: Poison
    trigger: Trigger | None
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Found:
    """One network, trained at one rate."""

    case: Case
    alpha: float
    clean: Rate
    bound: Terms
    trained: Terms
    miss: Rate | None
    miss_bound: Terms | None

    @property
    def violated(self) -> bool:
        """Whether a measured error is above its bound, beyond its own interval."""
        missed = self.miss is not None and self.miss_bound is not None and self.miss.low > self.miss_bound.bound.value
        return missed or self.clean.low > self.bound.bound.value or self.clean.low > self.trained.bound.value


@dataclass(frozen=True)
class PoisonedBounds(Exhibit):
    """Small networks on MNIST: backdoors with false and with true labels, and class patterns.

    Attributes:
        n: training images.
        held: other training images: poisoned by the same rule, or triggered.
        fresh: further training images, clean: on them is measured.
        width: of small-cnn.
        epochs: of each training.
        target: the attacker's class.
        radius: linf, of the two-part trigger and of the class patterns.
        dirty: alphas of the patch with false labels.
        clean: alphas of the patch with true labels.
        mixed: alphas of the two-part trigger with true labels; without any it is not made.
        all: alphas of the class patterns.
    """

    id = "X28"
    title = "Backdoor and availability bounds over the poison rate"
    published = "clean and poison error bounded by the error on the poisoned set plus complexity terms; no table"
    source = (
        "Yu, Liu, Miao, Gao and Zhang 2024 (ICML), 'Generalization bound and new algorithm for clean-label backdoor'"
    )
    claim = (
        "no measured error above its bound at any rate; the clean bound by held-out poisoned data says something for"
        " every poison at its lowest rate and nothing at rate 1; where the total variation of the triggered features is"
        " small the backdoor is proved to open"
    )

    n: int = 6000
    held: int = 3000
    fresh: int = 10_000
    width: int = 8
    epochs: int = 6
    target: int = 0
    radius: float = 0.3
    dirty: tuple[float, ...] = (0.01, 0.05, 0.2, 0.5, 0.8)
    clean: tuple[float, ...] = (0.1, 0.5, 0.9)
    mixed: tuple[float, ...] = (0.1, 0.5, 0.9)
    all: tuple[float, ...] = (0.2, 0.5, 0.9, 1.0)

    def run(self, stage: Stage) -> Outcome:
        whole = data.load("mnist", "train")
        order = torch.from_numpy(np.random.default_rng(stage.seed).permutation(len(whole)))
        used = self.n + self.held
        train, held = whole.take(order[: self.n]), whole.take(order[self.n : used])
        test = whole.take(order[used : used + self.fresh])
        found = []
        for case in self._cases(train, stage.seed):
            for alpha in case.rates:
                found.append(self._at(case, alpha, train, held, test, stage.seed))
                stage.say(f"X28: {case.name}, alpha {alpha:g}: clean error {found[-1].clean}; {found[-1].bound}")
                if found[-1].miss is not None:
                    stage.say(f"X28:   miss {found[-1].miss}; {found[-1].miss_bound}")
        self._draw(stage, found)
        lowest = [next(f for f in found if f.case.name == name) for name in dict.fromkeys(f.case.name for f in found)]
        opened = [f.miss_bound for f in found if f.miss_bound is not None and not f.miss_bound.bound.vacuous]
        return Outcome(
            measured=tuple(row for f in found for row in self._rows(f)),
            holds=not any(f.violated for f in found)
            and not any(f.bound.bound.vacuous for f in lowest)
            and all(f.bound.bound.vacuous for f in found if f.alpha == 1)
            and bool(opened),
            notes=(
                f"MNIST, {self.n} training images, small-cnn of width {self.width}, {self.epochs} epochs; alpha is the"
                " share of the poisoned classes, each of their images poisoned by its own coin: false labels poison the"
                f" nine other classes, true labels the target class {self.target}, class patterns all",
                "clean bound: the 97.5 % end of the error on 3,000 held-out images poisoned by the same rule, over"
                " 1 - alpha; the bound by the training error has the complexity of all float32 networks of the size,"
                " ln 2^(32 P), and is empty, as expected of a class that large",
                "miss: the share of triggered fresh images of other classes not taken for the target. Its bound: the"
                " share of triggered target images not taken for it, plus the total variation, between the other"
                " classes and the target, of the network's first and second answer on triggered images",
                "measured on other clean images of the training set, of the same law; the bounds saw none of them",
                f"two-part trigger and class patterns: linf {self.radius:g}; networks of one seed each",
            ),
            pictures=("X28.png",),
        )

    def _cases(self, train: Dataset, seed: int) -> tuple[Case, ...]:
        own = torch.arange(10) == self.target
        stamp = patch(train.shape, self.target, 10)
        ball = Ball("linf", self.radius)
        mixed = (
            two_part(train, ball, self.target, surrogate_of(train, seed=seed + 1), seed=seed) if self.mixed else stamp
        )
        patterns = torch.randint(0, 2, (10, *train.shape), generator=torch.Generator().manual_seed(seed)) * 2 - 1
        step = round(self.radius * 255) * patterns

        def falsely(part: Dataset, chosen: Tensor) -> Dataset:
            y = torch.where(chosen, self.target, part.y)
            return replace(_stamped(part, chosen, stamp), y=y)

        def patterned(part: Dataset, chosen: Tensor) -> Dataset:
            moved = (part.x.int() + step[part.y]).clamp(0, 255).to(torch.uint8)
            return replace(part, x=torch.where(chosen[:, None, None, None], moved, part.x))

        return (
            Case("patch, false labels", ~own, falsely, stamp, self.dirty),
            Case("patch, true labels", own, lambda part, chosen: _stamped(part, chosen, stamp), stamp, self.clean),
            Case("two-part, true labels", own, lambda part, chosen: _stamped(part, chosen, mixed), mixed, self.mixed),
            Case("class patterns", torch.ones(10, dtype=torch.bool), patterned, None, self.all),
        )

    def _at(self, case: Case, alpha: float, train: Dataset, held: Dataset, test: Dataset, seed: int) -> Found:
        chance = torch.Generator().manual_seed(seed)
        chosen, others = (
            (torch.rand(len(part), generator=chance) < alpha) & case.classes[part.y] for part in (train, held)
        )
        dirty = case.apply(train, chosen)
        model = learn(dirty, "small-cnn", self.width, self.epochs, seed)
        wrong = _wrong(accuracy(model, case.apply(held, others)))
        bound = poisoned.clean_error_held_out(wrong, alpha, f"{case.name}, clean error, held out")
        untouched, parameters = int(len(train) - chosen.sum()), sum(p.numel() for p in model.parameters())
        complexity = math.sqrt(2 * 32 * parameters * math.log(2) / untouched) if untouched else math.inf
        trained = poisoned.clean_error(
            1 - accuracy(model, dirty).value, len(train), untouched, alpha, complexity,
            eta=float(case.classes[train.y].float().mean()), targeted=case.trigger is not None,
        )  # fmt: skip
        clean = _wrong(accuracy(model, test))
        if case.trigger is None:
            return Found(case, alpha, clean, bound, trained, None, None)
        miss = self._missed(model, test, case.trigger)
        return Found(case, alpha, clean, bound, trained, miss, self._miss_bound(model, held, case.trigger))

    def _missed(self, model: nn.Module, part: Dataset, trigger: Trigger, on_target: bool = False) -> Rate:
        chosen = part.take(((part.y == self.target) == on_target).nonzero()[:, 0])
        x, y = chosen.batch(slice(None))
        return clopper_pearson(int((logits(model, trigger(x, y)).argmax(1) != self.target).sum()), len(y))

    def _miss_bound(self, model: nn.Module, held: Dataset, trigger: Trigger) -> Terms:
        x, y = held.batch(slice(None))
        first, second = logits(model, trigger(x, y)).topk(2, dim=1).indices.T.numpy()
        features = 10 * first.astype(np.int64) + second
        own = (y == self.target).numpy()
        moved = total_variation(features[~own], features[own], 0.975)
        return poisoned.trigger_miss(self._missed(model, held, trigger, on_target=True), moved)

    def _rows(self, found: Found) -> list[Measured]:
        name = f"{found.case.name}, alpha {found.alpha:g}"
        rows = [
            Measured(name=f"{name}: clean error", rate=found.clean),
            *_bounded(f"{name}: clean error's bound, held out", found.bound),
            *_bounded(f"{name}: clean error's bound, by the training error", found.trained),
        ]
        if found.miss is not None and found.miss_bound is not None:
            rows.append(Measured(name=f"{name}: triggered images missed", rate=found.miss))
            rows += _bounded(f"{name}: miss's bound", found.miss_bound)
        return rows

    def _draw(self, stage: Stage, found: list[Found]) -> None:
        names = list(dict.fromkeys(f.case.name for f in found))
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
            mine = [f for f in found if f.case.name == name]
            alphas = [f.alpha for f in mine]
            axes.plot(alphas, [f.clean.value for f in mine], "o-", color="#1f5fa8", label="clean error")
            axes.plot(alphas, [min(f.bound.bound.value, 1.05) for f in mine], "s--", color="#1f5fa8", label="its bound")
            pairs = [(f.alpha, f.miss.value, f.miss_bound.bound.value) for f in mine if f.miss and f.miss_bound]
            if pairs:
                axes.plot([p[0] for p in pairs], [p[1] for p in pairs], "o-", color="#b03030", label="trigger missed")
                axes.plot([p[0] for p in pairs], [min(p[2], 1.05) for p in pairs], "s--", color="#b03030",
                          label="its bound")  # fmt: skip
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("share of the poisoned classes")
            axes.set_ylim(0, 1.1)
        figure.axes[0].legend(fontsize=7)
        with replacing(stage.out / "X28.png") as part:
            figure.savefig(part, format="png", dpi=110)


def _stamped(part: Dataset, chosen: Tensor, trigger: Trigger) -> Dataset:
    places, x = chosen.nonzero()[:, 0], part.x.clone()
    if len(places):
        x[places] = trigger.stored(part.x[places], part.y[places])
    return replace(part, x=x)


def _wrong(right: Rate) -> Rate:
    return clopper_pearson(right.n - right.hits, right.n, right.confidence)


def _bounded(name: str, terms: Terms) -> list[Measured]:
    """The bound and its terms; of an infinite bound only that it says nothing, as 1."""
    if math.isinf(terms.bound.value):
        return [Measured(name=f"{name}, infinite", value=1.0)]
    empty = ", says nothing" if terms.bound.vacuous else ""
    return [
        Measured(name=name + empty, value=terms.bound.value),
        *[Measured(name=f"{name}: term {k}, {words}", value=value) for k, (words, value) in enumerate(terms.terms, 1)],
    ]
