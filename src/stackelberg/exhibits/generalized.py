"""X24: memorization that generalizes, what it certifies as it is, and how far the same neurons get by training."""

import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stackelberg import data, games
from stackelberg.certify import steepness
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.memorize import (
    NO_ANSWER,
    class_distances,
    condensed,
    distance_net,
    generalizable,
    lipschitz,
    medoids,
    nearby_set_of,
    uncovered,
)
from stackelberg.memorize.sample_size import expected_error, nearby_set, seen_share
from stackelberg.models.stored import RUN
from stackelberg.threat import Ball, clopper_pearson

PAIRS = ((1, 7), (4, 9), (3, 5))
RADII = {"l2": (0.1, 0.25, 0.5, 1.0), "linf": (0.1, 0.3)}
BATCH = 500
RECIPE = {"augment": 1, "check_steps": 1, "precision": "float32"}


@dataclass(frozen=True)
class Other:
    """Another set of images for a network of distances, with the published training's theta and mix.

    Attributes:
        eps: linf radius.
        published: certified accuracy of a large network.
        epochs: of training.
        game: played.
        recipe: beside what all have.
    """

    eps: float
    published: str
    epochs: int
    game: games.LipschitzMargin
    recipe: dict[str, Any]


OTHERS = {
    "fashion_mnist": Other(0.1, "79.23 %", 40, games.LipschitzMargin(Ball("linf", 0.1), theta=3.0), {}),
    "cifar10": Other(
        8 / 255, "40.06 %", 20, games.LipschitzMargin(Ball("linf", 8 / 255), 3.0, 0.1, 5e-4), {"flip": True}
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Generalized(Exhibit):
    """The efficient memorizer on real and synthetic data, and networks of distances.

    Attributes:
        each: training images of each label for the pairs; as many are held out, from the 2000th of each label on.
        asked: test images asked of all training images.
        thinned: training images among which prototypes are thinned.
        radius: that the thinned prototypes promise, l2.
        sizes: samples of the synthetic law.
        draws: of each size.
        widths: of the networks of distances, trained on MNIST at linf `eps` from fresh weights.
        begun: widths of those that begin as the memorizer of so many training images, trained alike.
        epochs: of their training.
        eps: at which they are certified.
        others: more sets of images, of `OTHERS`.
        wide: width of their networks.
        test: test images at which networks are certified.
    """

    id = "X24"
    title = "Efficient memorization, and training past it"
    published = (
        "E_D ln(E_D / delta) / eps samples suffice for a polynomial-time network of O(N^2 d) parameters;"
        " E_D <= ([6.2 d / c] + 1)^d; 'almost all' pairs of MNIST digits above 90 % with 500 samples a label"
    )
    source = "Yu, Gao, Zhang and Miao, NeurIPS 2024; networks of distances: Zhang et al., ICML 2021 and ICLR 2022"
    claim = (
        "every sample is remembered and every answer is the nearest neighbour's; each pair of digits is above 90 %;"
        " on a law with a known nearby set the expected error is at most S / (e N); a trained network of distances"
        " certifies at least 85 % of MNIST at linf 0.3"
    )

    each: int = 500
    asked: int = 500
    thinned: int = 10_000
    radius: float = 0.25
    sizes: tuple[int, ...] = (32, 64, 128, 256)
    draws: int = 100
    widths: tuple[int, ...] = (64, 128, 256)
    begun: tuple[int, ...] = (64, 128, 256)
    epochs: int = 40
    eps: float = 0.3
    others: tuple[str, ...] = ("fashion_mnist", "cifar10")
    wide: int = 256
    test: int = 10_000

    def run(self, stage: Stage) -> Outcome:
        train, test = data.load("mnist", "train"), data.load("mnist", "test")
        pairs, kept = self._pairs(stage, train)
        law, below, curve = self._law(stage)
        nets, best, histories = self._networks(stage, test)
        measured = [*pairs, *law, *self._bare(stage, train, test), *self._thinned(stage, train, test), *nets]
        self._draw(stage.out / self.id / "curves.png", curve, histories)
        return Outcome(
            measured=tuple(measured),
            holds=kept and below and best >= 0.85,
            notes=(
                "an abstention (F = 0) counts as wrong",
                "the bound on parity is of an expectation, and close to it at N = S: it counts as broken where the mean"
                " accuracy lies more than three standard errors below it",
                "the nearby set's size is a greedy upper bound for the sample, not for the law; what was not sampled is"
                " bounded by the held-out images outside all balls",
                "bare memorization stores all training images; its certificate is half the lead of the nearest class",
                "networks of distances: three layers of w, w and 10 neurons ||x - w||_inf + b, of Lipschitz constant 1;"
                " certified is half the margin, less its rounding, over the radius; minutes of one processor that"
                " other work shared; published are networks of five or six layers of 5,120, for MNIST and Fashion-MNIST"
                " those of 2021, for CIFAR-10 that of 2022 (35.10 % in 2021)",
                "from the memorizer: training begins at the nearest of w stored images, those closest to the centres of"
                " each class's k-means; same width, epochs and recipe",
            ),
            pictures=(f"{self.id}/curves.png",),
        )

    def _pairs(self, stage: Stage, train: data.Dataset) -> tuple[list[Measured], bool]:
        """Accuracy on held-out digits of two labels, and whether all of the theorem's exact statements held."""
        rows, holds = [], True
        for pair in PAIRS:
            places = [(train.y == label).nonzero()[:, 0] for label in pair]
            own = torch.cat([place[: self.each] for place in places])
            held = torch.cat([place[2000 : 2000 + self.each] for place in places])
            label = (train.y == pair[1]).long()
            memorizer = generalizable(train.x[own], label[own])
            answer = memorizer.predict(train.x[held])
            near, _ = class_distances(train.x[own], label[own], 2, train.x[held], "l2")
            answered = answer != NO_ANSWER
            same = torch.equal(answer[answered], torch.from_numpy(near.argmin(1))[answered])
            remembered = torch.equal(memorizer.predict(train.x[own]), label[own])
            right = clopper_pearson(int((answer == label[held]).sum()), len(held))
            holds &= same and remembered and right.value > 0.9
            name = f"{pair[0]} and {pair[1]}, {self.each} a label"
            rows += [
                Measured(name=f"{name}: accuracy", published="> 90 %", rate=right),
                Measured(name=f"{name}: abstentions", rate=clopper_pearson(int((~answered).sum()), len(held))),
                Measured(name=f"{name}: parameters", value=float(memorizer.num_parameters)),
                Measured(name=f"{name}: greedy nearby set", value=float(len(nearby_set_of(train.x[own], label[own])))),
                Measured(
                    name=f"{name}: held out, outside all balls", rate=uncovered(train.x[own], label[own], train.x[held])
                ),
            ]
            stage.say(f"X24: {name}: {right}, nearest neighbour's where it answers: {same}")
        return rows, holds

    def _law(self, stage: Stage) -> tuple[list[Measured], bool, list[tuple[int, float, float, float]]]:
        """Parity on {0,1}^6, whose nearby set are its 64 points: accuracy against N, and the bound."""
        points = torch.from_numpy(np.stack(np.meshgrid(*[[0.0, 1.0]] * 6), -1).reshape(-1, 6))
        label = points.sum(1).long() % 2
        rng, rows, curve, holds = np.random.default_rng(stage.seed), [], [], True
        for size in self.sizes:
            found = np.empty(self.draws)
            for draw in range(self.draws):
                seen = np.unique(rng.choice(64, size))
                right = generalizable(points[seen], label[seen]).predict(points) == label
                found[draw] = float(right.double().mean())
            mean, bound = float(found.mean()), 1 - expected_error(64, size)
            error = float(found.std(ddof=1)) / math.sqrt(self.draws)
            holds &= mean + 3 * error >= bound
            curve.append((size, mean, bound, seen_share(64, size)))
            rows += [
                Measured(name=f"parity on 64 points, N = {size}: mean accuracy of {self.draws} samples", value=mean),
                Measured(name=f"parity on 64 points, N = {size}: its standard error", value=error),
                Measured(name=f"parity on 64 points, N = {size}: 1 - S / (e N)", value=bound),
            ]
        rows.append(Measured(name="parity: nearby set by the dimension alone, S <=", value=float(nearby_set(6, 1.0))))
        stage.say(f"X24: parity: {curve}")
        return rows, holds, curve

    def _bare(self, stage: Stage, train: data.Dataset, test: data.Dataset) -> list[Measured]:
        """All training images by heart: the nearest class, and what half its lead certifies."""
        rows = []
        for norm, radii in RADII.items():
            y = test.y[: self.asked].numpy()
            distance, _ = class_distances(train.x, train.y, 10, test.x[: self.asked], norm)
            first, second = np.partition(distance, 1, axis=1)[:, :2].T
            right = distance.argmin(1) == y
            name = f"all {len(train)} by heart, {norm}"
            rows.append(Measured(name=f"{name}: accuracy", rate=clopper_pearson(int(right.sum()), len(y))))
            for radius in radii:
                sure = right & ((second - first) / 2 > radius)
                rows.append(
                    Measured(name=f"{name}: certified at {radius:g}", rate=clopper_pearson(int(sure.sum()), len(y)))
                )
            stage.say(f"X24: {', '.join(f'{row.name} {row.here}' for row in rows[-len(radii) - 1 :])}")
        return rows

    def _thinned(self, stage: Stage, train: data.Dataset, test: data.Dataset) -> list[Measured]:
        x, y, asked = train.x[: self.thinned], train.y[: self.thinned], test.x[: self.asked]
        rows = []
        for radius in (0.0, self.radius):
            kept = torch.from_numpy(condensed(x, y, radius).kept)
            name = f"{len(x)} images thinned, promise {radius:g}"
            rows.append(Measured(name=f"{name}: kept", value=float(len(kept))))
            for words, chosen in (("all", torch.arange(len(x))), ("kept", kept)):
                distance, _ = class_distances(x[chosen], y[chosen], 10, asked, "l2")
                right = int((distance.argmin(1) == test.y[: self.asked].numpy()).sum())
                rows.append(Measured(name=f"{name}: accuracy by {words}", rate=clopper_pearson(right, len(asked))))
        stage.say(f"X24: {', '.join(f'{row.name} {row.here}' for row in rows)}")
        return rows

    def _networks(self, stage: Stage, test: data.Dataset) -> tuple[list[Measured], float, dict[str, list[Any]]]:
        """(rows, the best share certified of MNIST, the trainings on it by name)."""
        rows, best, histories = [], 0.0, {}
        ball = Ball("linf", self.eps)
        asked = [(width, "", None) for width in self.widths]
        asked += [(width, " from the memorizer", partial(_memorizer, width)) for width in self.begun]
        for width, words, start in asked:
            name = f"mnist-distance-net-{width}{'-memorizer' if words else ''}"
            network = Network(
                name, "mnist", "distance-net", width, "margin", ball, epochs=self.epochs, recipe=RECIPE, start=start
            )
            published = "93.09 %" if width == max(self.widths + self.begun) else None
            title = f"distances{words}, width {width}"
            found, certified, histories[title] = self._certified(stage, network, test, title, published)
            rows += found
            best = max(best, certified)
        return rows + self._others(stage), best, histories

    def _others(self, stage: Stage) -> list[Measured]:
        rows = []
        for source in self.others:
            other = OTHERS[source]
            network = Network(
                f"{source}-distance-net-{self.wide}", source, "distance-net", self.wide, other.game, other.game.ball,
                epochs=other.epochs, recipe=RECIPE | other.recipe,
            )  # fmt: skip
            title = f"distances, {source}, width {self.wide}"
            rows += self._certified(stage, network, data.load(source, "test"), title, other.published)[0]
        return rows

    def _certified(
        self, stage: Stage, network: Network, test: data.Dataset, title: str, published: str | None
    ) -> tuple[list[Measured], float, list[Any]]:
        """(rows, the share certified, the training's history)."""
        model = stage.network(network)
        device, ball = next(model.parameters()).device, network.ball
        test = test.take(torch.arange(min(self.test, len(test))))
        right, sure = 0, 0
        for part in torch.arange(len(test)).split(BATCH):
            x, y = (tensor.to(device) for tensor in test.batch(part))
            with torch.no_grad():
                right += int((model(x).argmax(1) == y).sum())
            sure += int(steepness(model, x, y, ball).certified.sum())
        history = _history(stage.runs / network.name / RUN)
        certified = clopper_pearson(sure, len(test))
        stage.say(f"X24: {title}: certified {certified}")
        rows = [
            Measured(name=f"{title}: clean", rate=clopper_pearson(right, len(test))),
            Measured(name=f"{title}: certified at {ball.radius:.3g}", published=published, rate=certified),
            Measured(name=f"{title}: minutes of training", value=sum(one["seconds"] for one in history) / 60),
            Measured(name=f"{title}: parameters", value=float(_count(model.parameters()))),
        ]
        return rows, certified.value, history

    def _draw(self, path: Path, curve: list[tuple[int, float, float, float]], histories: dict[str, list[Any]]) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        colours = {str(width): f"C{place}" for place, width in enumerate(sorted({*self.widths, *self.begun}))}
        sizes, mean, bound, seen = zip(*curve, strict=True)
        left.plot(sizes, mean, "o-", label="measured")
        left.plot(sizes, seen, ":", label="share of points seen")
        left.plot(sizes, bound, "k--", label="bound 1 - S / (e N)")
        left.set(xlabel="samples N", ylabel="accuracy", xscale="log", ylim=(0, 1.02), title="parity on 64 points")
        left.set_xticks(sizes, [str(size) for size in sizes])
        left.minorticks_off()
        left.legend()
        for title, history in histories.items():
            minutes = np.cumsum([one["seconds"] for one in history]) / 60
            words, _, width = title.rpartition(" ")
            style = {"linestyle": "-" if "memorizer" in words else ":", "color": colours[width]}
            right.plot(minutes, [one["certified"] for one in history], label=title, **style)
        right.set(
            xlabel="minutes of training", ylabel=f"certified at {self.eps:g}, held out", ylim=(0, 1),
            title="networks of distances, MNIST",
        )  # fmt: skip
        right.legend(loc="lower right", fontsize=7)
        with replacing(path) as scratch:
            figure.savefig(scratch, dpi=120, format="png")


def _memorizer(width: int, train: data.Dataset, seed: int) -> nn.Module:
    """The memorizer of the images nearest to `width` centres, as a network of distances."""
    kept = torch.from_numpy(medoids(train.x, train.y, width, seed))
    return distance_net(lipschitz(train.x[kept], train.y[kept]), width, seed)


def _count(parameters: Any) -> int:
    return sum(one.numel() for one in parameters)


def _history(path: Path) -> list[Any]:
    return json.loads(path.read_text(encoding="utf-8"))["history"]
