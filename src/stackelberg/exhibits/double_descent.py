"""X19: the test error over width, through the threshold at which noisy labels are interpolated."""

import math
from dataclasses import dataclass
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
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.threat.rate import half_interval

Errors = tuple[list[float], list[float]]
"""(training, test) error of each seed."""

INPUT = 0.1  # what the networks' inputs are multiplied by


@dataclass(frozen=True)
class DoubleDescent(Exhibit):
    """Random features and two-layer networks on MNIST, part of the training labels replaced at random.

    Attributes:
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
        "random features: the test error peaks within a factor 1.25 of n features, by more than the 95 % t intervals"
        " above the best narrower and the widest model, which interpolates the noise; networks: the widest, which"
        " interpolates too, is better than the worst"
    )
    short = (
        "the random features peak as published; in the run of 2026-11-25 the units of the networks died in the first"
        " steps, for which their inputs are scaled since, and that has not been measured yet"
    )

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
        draws = [self._draw_data(stage.seed + k) for k in range(self.seeds)]
        by_features: dict[int, Errors] = {}
        for width in self.features:
            by_features[width] = self._features(draws, width, stage.seed)
            stage.say(f"X19: {width} features: train, test error {self._words(by_features[width])}")
        by_width: dict[int, Errors] = {}
        for width in self.widths:
            by_width[width] = self._networks(draws, width, stage.seed)
            stage.say(f"X19: network of width {width}: train, test error {self._words(by_width[width])}")
        self._draw(stage, by_features, by_width)
        return Outcome(
            measured=(*self._rows("random features", by_features), *self._rows("network", by_width)),
            holds=self._peaks(by_features) and self._recovers(by_width),
            notes=(
                f"MNIST, {self.n} training images with {100 * self.noise:g} % of the labels drawn anew, {self.fresh}"
                f" test images with their own; mean of {self.seeds} draws of images, noise and features, half the 95 %"
                " t interval over them",
                "random features: relu, least norm by a singular value decomposition in float64, no penalty; the"
                " threshold is n features",
                f"networks: one hidden layer, squared loss on one-hot labels, Adam, {self.epochs} epochs, every weight"
                " trained; as many weights as residuals at width"
                f" {round((10 * self.n - 10) / 795)}: {self._threshold(by_width)}",
            ),
            pictures=("X19.png",),
        )

    def _draw_data(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(x, noisy labels, fresh x, its labels); pixels with mean 0 and a variance of 1 over all."""
        chance = np.random.default_rng(seed)
        parts = []
        for split, count in (("train", self.n), ("test", self.fresh)):
            whole = data.load("mnist", split)
            x, y = whole.batch(torch.from_numpy(chance.permutation(len(whole))[:count]))
            parts += [(x.flatten(1).numpy().astype(np.float64) - 0.1307) / 0.3081, y.numpy()]
        x, y, fresh, truth = parts
        drawn = chance.random(len(y)) < self.noise
        return x, np.where(drawn, chance.integers(0, 10, len(y)), y), fresh, truth

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

    def _peaks(self, found: dict[int, Errors]) -> bool:
        mean = {width: fmean(test) for width, (_, test) in found.items()}
        peak = max(mean, key=lambda width: mean[width])
        narrow = min((width for width in mean if width < peak), key=lambda width: mean[width], default=peak)
        widest = max(mean)
        clear = all(
            mean[peak] - half_interval(found[peak][1]) > mean[w] + half_interval(found[w][1]) for w in (narrow, widest)
        )
        return self.n / 1.25 <= peak <= 1.25 * self.n and clear and max(found[widest][0]) == 0

    def _recovers(self, found: dict[int, Errors]) -> bool:
        mean = {width: fmean(test) for width, (_, test) in found.items()}
        return mean[max(mean)] < max(mean.values()) and fmean(found[max(mean)][0]) <= 0.01

    def _threshold(self, found: dict[int, Errors]) -> str:
        first = next((width for width, (train, _) in found.items() if fmean(train) <= 0.01), None)
        return (
            "none has a training error of at most 1 %" if first is None else f"the error is at most 1 % from {first} on"
        )

    def _rows(self, name: str, found: dict[int, Errors]) -> list[Measured]:
        return [
            Measured(name=f"{name}, width {width}: {words} error{more}", value=value)
            for width, errors in found.items()
            for words, values in zip(("training", "test"), errors, strict=True)
            for more, value in (("", fmean(values)), (", half the interval", half_interval(values)))
            if words == "test" or not more
        ]

    def _words(self, errors: Errors) -> str:
        return ", ".join(f"{fmean(values):.3f}" for values in errors)

    def _draw(self, stage: Stage, by_features: dict[int, Errors], by_width: dict[int, Errors]) -> None:
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, by_features, "random features")
        left.axvline(self.n, color="#777777", linestyle=":")
        _curves(right, by_width, "hidden units, network")
        right.axvline((10 * self.n - 10) / 795, color="#777777", linestyle=":")
        left.legend()
        figure.suptitle(f"MNIST, {self.n} images, {100 * self.noise:g} % of the labels drawn anew", fontsize=10)
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


def _curves(axes: Axes, found: dict[int, Errors], label: str) -> None:
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
