"""X15: a network no wider than its input has dimensions cannot be robust on every data set."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from stackelberg.certify import exact
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.memorize import optimal, rational
from stackelberg.memorize.narrow import Found, points_of_balls, search
from stackelberg.memorize.width import Refutation, Witness, collision, refute, shell
from stackelberg.threat import Ball, Rate, clopper_pearson

COLOURS = ListedColormap(("#f2c46d", "#7fb2e5"))


@dataclass(frozen=True)
class TooNarrow(Exhibit):
    """Random first layers, trained narrow networks, and wider ones, on the witness data.

    Attributes:
        layers: random first layers of width n - 1, n = 2..10 in turn.
        nets: trained networks of each depth and dimension.
        depths: hidden layers.
        steps: of training.
        radius: at which the narrow ones are trained, of a separation of 1.
    """

    id = "X15"
    title = "Width d is not enough for robust memorization"
    published = "necessary: width > d; sufficient: width 3d + 1"
    source = "Yu, Gao and Zhang 2024, 'Optimal robust memorization with ReLU neural networks' (ICLR)"
    claim = (
        "every first layer of width d - 1 maps two points of two classes' balls to one; of all networks of width d,"
        " trained or not, each is wrong at an exactly known point of a ball; networks of width d + 1 from the same"
        " training are proved right at radius .25, the memorizer of width 3d + 1 is right at .49"
    )

    layers: int = 900
    nets: int = 64
    depths: tuple[int, ...] = (1, 3)
    steps: int = 400
    radius: float = 0.49

    def run(self, stage: Stage) -> Outcome:
        met = self._collisions(stage.seed)
        measured = [Measured(name="first layers of width d - 1 with a collision, exactly", rate=met)]
        refuted, tried, silent = 0, 0, 0
        for dimension, grid in ((2, 5), (3, 3)):
            witness = shell(dimension)
            for depth in self.depths:
                found = search(witness, dimension, depth, self.radius, self.nets, self.steps, grid, seed=stage.seed)
                points = [refute(found.stack.member(place), witness) for place in range(self.nets)]
                refuted += sum(self._wrong(witness, point) for point in points)
                tried += self.nets
                silent += int((found.broken == 0).sum())
                name = f"{dimension}-D, {depth} hidden layers of width {dimension}"
                measured.append(
                    Measured(name=f"{name}: balls the best network breaks", value=int(found.broken[found.best]))
                )
                stage.say(f"X15: {name}: best breaks {int(found.broken[found.best])} of {len(witness.x)} balls")
        wider, proved = self._wider(stage)
        right = self._memorizer()
        measured += [
            Measured(
                name=f"trained networks of width d right on all balls of radius {self.radius:g}, as far as seen",
                published="0", rate=clopper_pearson(silent, tried),
            ),
            Measured(name="trained networks of width d refuted exactly", rate=clopper_pearson(refuted, tried)),
            Measured(name="same training, width d + 1 = 3, radius .25: right as far as seen", rate=wider),
            Measured(name="the best of them: least proved margin over all balls", value=proved),
            Measured(name="width 3d + 1: wrong points of balls of radius .49 in 2-D and 3-D", value=right),
        ]  # fmt: skip
        self._draw(stage)
        return Outcome(
            measured=tuple(measured),
            holds=met.hits == met.n and refuted == tried and silent == 0 and proved > 0 and right == 0,
            notes=(
                "a refutation is a point of a ball, in fractions, with the network's exact value there; it follows the"
                " path by which the proof leaves the centre",
                "the best network has the centre right and breaks the fewest balls, seen on a grid of each ball",
                "the margin of the width-3 network is proved by mixed-integer programs",
                "the memorizer of width 3d + 1 is right on whole balls by its theorem; a grid can only refute it",
            ),
            pictures=("X15.png",),
        )

    def _collisions(self, seed: int) -> Rate:
        """How many random first layers have their collision, checked in fractions."""
        chance, met = np.random.default_rng(seed), 0
        for place in range(self.layers):
            n = 2 + place % 9
            weight = chance.normal(size=(n - 1, n))
            found, rows = collision(weight), rational.matrix(weight)
            same = rational.times(rows, found.a) == rational.times(rows, found.b)
            near = [abs(v - (i + 1 == found.index)) for i, v in enumerate(found.a)] + [abs(v) for v in found.b]
            met += same and 4 * max(near) <= 1
        return clopper_pearson(met, self.layers)

    def _wrong(self, witness: Witness, found: Refutation) -> bool:
        """Whether the point is in the ball and on the wrong side."""
        off = max(abs(v - rational.vector([w])[0]) for v, w in zip(found.point, witness.x[found.index], strict=True))
        return off <= witness.radius and (found.value > 0) == (found.index > 0)

    def _wider(self, stage: Stage) -> tuple[Rate, float]:
        """(networks of width 3 right as far as seen, the proved margin of the best)."""
        found, witness = self._three(stage.seed), shell(2)
        pair = found.stack.member(found.best, outputs=2)
        ball = Ball("linf", 0.25, low=-2.0, high=2.0)
        certificate, _ = exact(pair, torch.from_numpy(witness.x), torch.from_numpy(witness.y), ball)
        return clopper_pearson(int((found.broken == 0).sum()), self.nets), float(certificate.margin.min())

    def _three(self, seed: int) -> Found:
        return search(shell(2), 3, 3, 0.25, self.nets, self.steps, seed=seed)

    def _memorizer(self) -> int:
        wrong = 0
        for dimension, grid in ((2, 15), (3, 5)):
            witness = shell(dimension)
            memorizer = optimal(torch.from_numpy(witness.x + 2), torch.from_numpy(witness.y), radius=0.49)
            every, ball = points_of_balls(witness, 0.49, grid)
            answers = memorizer.predict(torch.from_numpy(every + 2))
            wrong += int((answers != torch.from_numpy(witness.y)[torch.from_numpy(ball)]).sum())
        return wrong

    def _draw(self, stage: Stage) -> None:
        """The witness; the best trained network of width 2; a proved one of width 3."""
        witness = shell(2)
        two = search(witness, 2, 3, 0.25, self.nets, self.steps, seed=stage.seed)
        three = self._three(stage.seed)
        figure = Figure(figsize=(12.5, 4.6), layout="constrained")
        axes = figure.subplots(1, 3)
        _witness(axes[0], witness)
        axes[0].set_title("the witness: closed balls of radius 1/4\nclose the shell round the centre", fontsize=10)
        net = two.stack.member(two.best)
        _regions(axes[1], net)
        _witness(axes[1], witness)
        point = [float(v) for v in refute(net, witness).point]
        axes[1].plot(*point, "x", color="#b00020", markersize=11, markeredgewidth=2.5)
        axes[1].set_title(
            "width 2, best of the trained: its centre leaks out;\ncross: an exact point of error", fontsize=10
        )
        _regions(axes[2], three.stack.member(three.best))
        _witness(axes[2], witness)
        axes[2].set_title("width 3, same training:\nproved right on all balls", fontsize=10)
        with replacing(stage.out / "X15.png") as part:
            figure.savefig(part, format="png", dpi=110)


def _witness(axes: Axes, witness: Witness) -> None:
    for (a, b), label in zip(witness.x, witness.y, strict=True):
        axes.add_patch(Rectangle((a - 0.25, b - 0.25), 0.5, 0.5, fill=False, linewidth=0.8, edgecolor="#333333"))
        axes.plot(a, b, "o" if label else "s", color="#1f5fa8" if label else "#a86a00", markersize=6)
    axes.set_xlim(-1.6, 1.6)
    axes.set_ylim(-1.6, 1.6)
    axes.set_aspect("equal")


@torch.no_grad()
def _regions(axes: Axes, net: nn.Sequential) -> None:
    ticks = torch.linspace(-1.6, 1.6, 400, dtype=torch.float64)
    sign = (net(torch.cartesian_prod(ticks, ticks))[:, 0] > 0).reshape(400, 400).T.numpy()
    axes.imshow(sign, origin="lower", extent=(-1.6, 1.6, -1.6, 1.6), cmap=COLOURS, vmin=0, vmax=1, alpha=0.75)
