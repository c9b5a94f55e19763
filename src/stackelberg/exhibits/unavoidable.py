"""X11: for a given network, data on which it is accurate and yet has an adversary at every example."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from stackelberg import memorize
from stackelberg.attacks import PGD, Inevitable, classes_of, inevitable, nearest, untouched
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.stage import JPEG, Stage
from stackelberg.files import replacing
from stackelberg.threat import Ball, clopper_pearson

BATCH = 250
REACH = 0.4
NETWORKS = {
    "MNIST, standard": ("mnist-small-cnn-16", "mnist", "standard", 16, 2),
    "MNIST, adversarial training": ("mnist-small-cnn-at-16", "mnist", "at", 16, 4),
    "CIFAR-10, standard": ("cifar10-small-cnn-16", "cifar10", "standard", 16, 2),
}
"""What is shown: (run directory, data, game, width, epochs)."""


@dataclass(frozen=True)
class Unavoidable(Exhibit):
    """The construction of `attacks.inevitable` on real images, for three trained networks.

    Attributes:
        radius: linf, within which an adversary is built, in input units: one grey level.
        n: test images from which bisections start towards images of other classes.
        close: of them, those from which bisections start towards their own nearest error.
        networks: which of `NETWORKS`, by their first letters' order; all if 3.
    """

    id = "X11"
    title = "Adversarial samples are inevitable: a distribution for every given network"
    published = (
        "for any given DNN C there is D such that if C is accurate on D, then C has adversaries over D with high"
        " probability"
    )
    source = "Bastounis, Hansen and Vlacic 2021; X.-S. Gao 2024, slide 'Adversarial samples are inevitable'"
    claim = (
        "each network is right on at least 99 % of its D and has an adversary within one grey level of at least 99 % of"
        " it, while another network is right on all of D within that radius"
    )

    radius: float = 1 / 255
    n: int = 1000
    close: int = 200
    networks: int = 3

    def run(self, stage: Stage) -> Outcome:
        ball = Ball("linf", self.radius)
        measured, holds, shown = [], True, []
        for title, (name, source, game, width, epochs) in list(NETWORKS.items())[: self.networks]:
            trained_in = Ball("linf", 0.3 if game == "at" else 0.1)
            recipe = {"radius_warmup": 0.5, "learning_rate": 0.003, "batch_size": 128} if game == "at" else {}
            model = stage.network(Network(name, source, "small-cnn", width, game, trained_in, 3, epochs, recipe))
            device = next(model.parameters()).device
            test, index = stage.examples(source, self.n)
            x, y = (part.to(device) for part in test.batch(index))
            ends = _nearest_errors(model, x[: self.close], y[: self.close])
            for words, found in (
                ("towards other images", inevitable(model, x, y, ball, seed=stage.seed)),
                ("towards the nearest error", inevitable(model, x[: self.close], y[: self.close], ball, ends)),
            ):
                rows, right = self._rows(f"{title}, {words}", model, found, stage.seed)
                measured, holds = measured + rows, holds and right
                shown.append((f"{title}, {words}", model, found, test.classes))
            stage.say(f"X11: {title}: {'as claimed' if holds else 'NOT as claimed'}")
        _draw(stage, shown)
        return Outcome(
            measured=tuple(measured),
            holds=holds,
            notes=(
                f"D: bisection from test images, each rightly read, until the ends are within linf {self.radius:.3g};"
                " the label is the class of the image from which it began, and the network gives it",
                "towards other images the examples of D are mixtures of two images; towards the nearest error (by"
                " PGD and bisection) they are within the stated distance of test images, and look like them",
                "accuracy and adversaries are asked anew of the network, in other batches than the bisection's; PGD is"
                " an attack that does not know the construction",
                "the separation is that of the finite sample of D: below half of it the optimal memorizer (X13) is"
                " right on every ball, by its theorem; it was asked about the adversaries besides",
                "the proof needs no property of the network but that it is not constant, see stackelberg.attacks"
                ".inevitable",
                JPEG,
            ),
            pictures=("X11.png",),
        )

    def _rows(self, title: str, model: nn.Module, found: Inevitable, seed: int) -> tuple[list[Measured], bool]:
        accuracy, adversaries = found.accuracy(model), found.adversaries(model)
        attack = PGD(found.ball, 20, payoff="cw", seed=seed)
        moved = torch.cat(
            [attack(model, a, b) for a, b in zip(found.x.split(BATCH), found.y.split(BATCH), strict=True)]
        )
        fell = classes_of(model, moved) != found.y
        points, labels = found.x.cpu(), found.y.cpu()
        apart = memorize.separation(points, labels, norm="linf").value
        other = memorize.optimal(points, labels, norm="linf")
        stands = (other.predict(found.moved.cpu()) == labels) & (other.predict(moved.cpu()) == labels)
        whole = other.radius >= found.ball.radius and bool(stands.all())
        start = Ball("linf", 0.5).distance(found.x, found.start)
        rows = [
            Measured(name=f"{title}: the network is right on D", rate=accuracy),
            Measured(name=f"{title}: D has an adversary within {self.radius:.3g}", published="high", rate=adversaries),
            Measured(name=f"{title}: PGD-20 finds one", rate=clopper_pearson(int(fell.sum()), len(fell))),
            Measured(
                name=f"{title}: a memorizer is right on x' of both", rate=clopper_pearson(int(stands.sum()), len(fell))
            ),
            Measured(name=f"{title}: separation of D, linf", value=apart),
            Measured(name=f"{title}: mean linf distance of D from test images", value=float(start.mean())),
        ]
        return rows, accuracy.value >= 0.99 and adversaries.value >= 0.99 and whole and apart > 2 * self.radius


def _nearest_errors(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """An adversarial example of each image, by PGD within linf `REACH` and bisection; the image where it finds none."""
    parts = [
        nearest(model, a, b, "linf", maker=lambda ball: PGD(ball.with_radius(REACH), 40, payoff="cw", start="clean"))[0]
        for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)
    ]
    return torch.cat(parts)


def _draw(stage: Stage, shown: list[tuple[str, nn.Module, Inevitable, list[str]]]) -> None:
    """Of each D one example: the image it began with, x, x', the other end, and the margin between the two ends."""
    figure = Figure(figsize=(9.5, 1.9 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 1.8))
    for row, (title, model, found, classes) in zip(grid, shown, strict=True):
        place = len(found.y) // 2
        y, other = int(found.y[place]), int(found.fell_to[place])
        pictures = (
            (found.start[place], f"test image: {classes[y]}"),
            (found.x[place], f"x, read as {classes[y]}"),
            (found.moved[place], f"x', read as {classes[other]}"),
            (found.end[place], "other end"),
        )
        for axes, (picture, words) in zip(row[:4], pictures, strict=True):
            grey = picture.shape[0] == 1
            axes.imshow(
                picture.cpu().permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray" if grey else None, vmin=0, vmax=1
            )
            axes.set_title(words, fontsize=8)
            axes.axis("off")
        share = torch.linspace(0, 1, 201, device=found.x.device)
        a, b = found.start[place], found.end[place]
        with untouched(model), torch.no_grad():
            logits = model(a + share.view(-1, 1, 1, 1) * (b - a))
        mark = float((found.x[place] - a).norm() / (b - a).norm())
        rest = logits.clone()
        rest[:, y] = -torch.inf
        row[4].plot(share.cpu().numpy(), (logits[:, y] - rest.amax(1)).cpu().numpy(), color="#1f5fa8")
        row[4].axhline(0, color="#777777", linewidth=0.8)
        row[4].axvline(mark, color="#a8321f", linewidth=0.8)
        row[4].set_title(f"{title}\nmargin from end to end", fontsize=7)
        row[4].tick_params(labelsize=7)
    with replacing(stage.out / "X11.png") as part:
        figure.savefig(part, format="png", dpi=100)
