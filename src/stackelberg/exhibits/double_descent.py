"""X19: the test error over width, through the threshold at which noisy labels are interpolated."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from stackelberg import data
from stackelberg.bounds import random_features
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.ledger import Ledger
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.threat.rate import half_interval

Errors = tuple[list[float], list[float]]
"""(training, test) error of each seed."""
Curve = dict[int, Errors]
"""By width."""

INPUT = 0.1  # what the networks' inputs are multiplied by


@dataclass(frozen=True)
class DoubleDescent(Exhibit):
    """Random features and two-layer networks, part of the training labels replaced at random.

    Attributes:
        sets: named sets of images.
        n: training images.
        fresh: test images, their labels untouched.
        noise: share of the training labels drawn anew among all classes.
        features: widths of the random features.
        widths: hidden units of the networks.
        epochs: of the networks.
        seeds: of images, noise, features and networks.
    """

    id = "X19"
    title = "Double descent: interpolation without overfitting"
    published = "test error over width peaks at the interpolation threshold and falls again; no table"
    source = "Belkin, Hsu, Ma and Mandal 2019 (PNAS); X.-S. Gao 2024, slide 'Double descent'"
    claim = (
        "on each set of images: the test error of random features peaks within a factor 1.25 of n features, by more"
        " than the 95 % t intervals above the best narrower and the widest model, which interpolates the noise; of the"
        " networks the widest, which interpolates too, is better than the worst"
    )

    sets: tuple[str, ...] = ("mnist", "cifar10")
    n: int = 1000
    fresh: int = 2000
    noise: float = 0.2
    features: tuple[int, ...] = (
        10, 30, 60, 100, 200, 400, 600, 800, 900, 1000, 1100, 1250, 1500, 2000, 3000, 5000, 10_000,
    )  # fmt: skip
    widths: tuple[int, ...] = (1, 2, 4, 6, 8, 10, 12, 14, 18, 24, 32, 64, 128, 256)
    epochs: int = 800
    seeds: int = 3

    def run(self, stage: Stage) -> Outcome:
        curves: dict[str, tuple[Curve, Curve]] = {}
        rows: list[Measured] = []
        balance: dict[str, float] = {}
        for name in self.sets:
            draws = [self._draw_data(name, stage.seed + k) for k in range(self.seeds)]
            balance[name] = (10 * self.n - 10) / (draws[0][0].shape[1] + 11)
            curves[name] = (
                self._curve(stage, f"{name}, random features", self.features, partial(self._features, draws)),
                self._curve(stage, f"{name}, network", self.widths, partial(self._networks, draws)),
            )
            for kind, curve in zip(("random features", "network"), curves[name], strict=True):
                rows += self._rows(f"{name}, {kind}", curve)
        self._draw(stage, curves, balance)
        return Outcome(
            measured=tuple(rows),
            holds=all(self._peaks(features) and self._recovers(networks) for features, networks in curves.values()),
            notes=(
                f"{self.n} training images with {100 * self.noise:g} % of the labels drawn anew, {self.fresh} test"
                f" images with their own; mean of {self.seeds} draws of images, noise and features, half the 95 % t"
                " interval over them",
                "random features: relu, least norm by a singular value decomposition in float64, no penalty; the"
                " threshold is n features",
                f"networks: one hidden layer, squared loss on one-hot labels, Adam, {self.epochs} epochs, every weight"
                " trained",
                *(self._threshold(name, networks, balance[name]) for name, (_, networks) in curves.items()),
            ),
            pictures=("X19.png",),
        )

    def _curve(self, stage: Stage, name: str, widths: Sequence[int], measure: Callable[[int, int], Errors]) -> Curve:
        """The errors at each width; those measured before a kill are not measured again."""
        ledger, found = Ledger(stage, self), {}
        for width in widths:
            train, test = ledger.number(f"{name}, width {width}", lambda width=width: measure(width, stage.seed))
            found[width] = train, test
            stage.say(f"X19: {name}, width {width}: train, test error {self._words(found[width])}")
        return found

    def _draw_data(self, name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(x, noisy labels, fresh x, its labels); pixels with mean 0 and a variance of 1 over all training images."""
        chance = np.random.default_rng(seed)
        parts = []
        for split, count in (("train", self.n), ("test", self.fresh)):
            whole = data.load(name, split)
            x, y = whole.batch(torch.from_numpy(chance.permutation(len(whole))[:count]))
            parts += [x.flatten(1).numpy().astype(np.float64), y.numpy()]
        x, y, fresh, truth = parts
        middle, spread = x.mean(), x.std()
        drawn = chance.random(len(y)) < self.noise
        y = np.where(drawn, chance.integers(0, 10, len(y)), y)
        return (x - middle) / spread, y, (fresh - middle) / spread, truth

    def _features(self, draws: list, width: int, seed: int) -> Errors:
        train, test = [], []
        for k, (x, y, fresh, truth) in enumerate(draws):
            fit = random_features.fitted(x, y, width, 10, seed + k)
            train.append(fit.error(x, y))
            test.append(fit.error(fresh, truth))
        return train, test

    def _networks(self, draws: list, width: int, seed: int) -> Errors:
        """All seeds' networks side by side."""
        x, fresh = (torch.from_numpy(np.stack([d[i] for d in draws])).float() for i in (0, 2))
        y, truth = (torch.from_numpy(np.stack([d[i] for d in draws])) for i in (1, 3))
        weights = trained_side_by_side(x, y, width, self.epochs, seed)
        errors = [(answers(weights, a).argmax(2) != b).float().mean(1).tolist() for a, b in ((x, y), (fresh, truth))]
        return errors[0], errors[1]

    def _peaks(self, found: Curve) -> bool:
        mean = _mean_test_errors(found)
        peak = max(mean, key=lambda width: mean[width])
        narrow = min((width for width in mean if width < peak), key=lambda width: mean[width], default=peak)
        widest = max(mean)
        clear = all(
            mean[peak] - half_interval(found[peak][1]) > mean[w] + half_interval(found[w][1]) for w in (narrow, widest)
        )
        return self.n / 1.25 <= peak <= 1.25 * self.n and clear and max(found[widest][0]) == 0

    def _recovers(self, found: Curve) -> bool:
        mean = _mean_test_errors(found)
        return mean[max(mean)] < max(mean.values()) and fmean(found[max(mean)][0]) <= 0.01

    def _threshold(self, name: str, found: Curve, balance: float) -> str:
        first = next((width for width, (train, _) in found.items() if fmean(train) <= 0.01), None)
        reached = "at none of these widths" if first is None else f"from width {first} on"
        mean = _mean_test_errors(found)
        best = min(mean, key=lambda width: mean[width])
        return (
            f"{name}: as many weights as residuals at width {balance:.1f}; a training error of at most 1 % {reached};"
            f" the least test error of a network is {mean[best]:.3f}, at width {best}, that of the widest"
            f" {mean[max(mean)]:.3f}, so " + ("the curve falls to its end" if best == max(mean) else "it overfits some")
        )

    def _rows(self, name: str, found: Curve) -> list[Measured]:
        return [
            Measured(name=f"{name}, width {width}: {words} error{more}", value=value)
            for width, errors in found.items()
            for words, values in zip(("training", "test"), errors, strict=True)
            for more, value in (("", fmean(values)), (", half the interval", half_interval(values)))
            if words == "test" or not more
        ]

    def _words(self, errors: Errors) -> str:
        return ", ".join(f"{fmean(values):.3f}" for values in errors)

    def _draw(self, stage: Stage, curves: dict[str, tuple[Curve, Curve]], balance: dict[str, float]) -> None:
        figure = Figure(figsize=(10, 0.6 + 3.8 * len(curves)), layout="constrained")
        for (name, found), (left, right) in zip(
            curves.items(), figure.subplots(len(curves), 2, squeeze=False), strict=True
        ):
            _curves(left, found[0], f"{name}: random features")
            left.axvline(self.n, color="#777777", linestyle=":")
            _curves(right, found[1], f"{name}: hidden units, network")
            right.axvline(balance[name], color="#777777", linestyle=":")
            left.legend()
        figure.suptitle(f"{self.n} images, {100 * self.noise:g} % of the labels drawn anew", fontsize=10)
        with replacing(stage.out / "X19.png") as part:
            figure.savefig(part, format="png", dpi=110)


def trained_side_by_side(
    x: Float[Tensor, "S n d"], y: Int64[Tensor, "S n"], width: int, epochs: int, seed: int, batch: int = 100
) -> list[Tensor]:
    """S networks d - width - 10 with ReLU, each on its own n examples: squared loss, Adam, cosine rate from 0.001.

    The first layer sees the inputs divided by 10 and starts 10 times as large: a step of Adam moves a unit by its rate
    times the inputs' l1 norm, and undivided the units of a narrow network die in the first steps.
    """
    chance = torch.Generator().manual_seed(seed)
    seeds, n, d = x.shape
    shapes = ((d, width), (1, width), (width, 10), (1, 10))
    scales = (math.sqrt(2 / d) / INPUT, 0.0, math.sqrt(1 / width), 0.0)
    weights = [
        (torch.randn(seeds, *shape, generator=chance) * scale).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    optimizer = torch.optim.Adam(weights, lr=0.001)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    targets = torch.nn.functional.one_hot(y, 10).float()
    for _ in range(epochs):
        for places in torch.randperm(n, generator=chance).split(batch):
            loss = (answers(weights, x[:, places]) - targets[:, places]).square().mean((1, 2)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rate.step()
    return [w.detach() for w in weights]


def answers(weights: list[Tensor], x: Float[Tensor, "S n d"]) -> Float[Tensor, "S n 10"]:
    """Scores of the classes by each network."""
    first, bias, second, offset = weights
    return torch.baddbmm(offset, torch.relu(torch.baddbmm(bias, INPUT * x, first)), second)


def _mean_test_errors(found: Curve) -> dict[int, float]:
    return {width: fmean(test) for width, (_, test) in found.items()}


def _curves(axes: Axes, found: Curve, label: str) -> None:
    widths = list(found)
    for place, (words, colour) in enumerate((("training", "#777777"), ("test", "#1f5fa8"))):
        values = [errors[place] for errors in found.values()]
        axes.errorbar(
            widths, [fmean(v) for v in values], [half_interval(v) for v in values], fmt="o-", color=colour, capsize=2,
            markersize=3, label=f"{words} error",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylim(-0.02, None)
