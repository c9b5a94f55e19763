"""X13: whole training sets by heart, right on every ball below half the separation."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stackelberg import data
from stackelberg.exhibits import perturbing, regions
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.memorize import OptimalMemorizer, optimal
from stackelberg.memorize.memorizer import in_units
from stackelberg.models.onnx_file import packages

SOURCE = "Yu, Gao and Zhang 2024, 'Optimal robust memorization with ReLU neural networks' (ICLR)"


@dataclass(frozen=True)
class Memorized(Exhibit):
    """The optimal robust memorizer of whole training sets.

    Attributes:
        sets: training sets.
        share: of half the separation: the memorizer's radius, by which points are moved.
        random: perturbations at random, for each set.
        directed: perturbations towards the nearest enemy, for each set.
        stored: points of the first set in the network that is compared with the evaluator.
        asked: inputs at which they are compared.
        few: inputs at which the network of the whole first set is asked.
        exported: points of the digits in the ONNX file.
    """

    id = "X13"
    title = "Optimal robust memorization: right for every radius below half the separation"
    published = "a ReLU network of width 3d + 1, depth 2N + 1 and O(Nd) parameters for every radius below lambda / 2"
    source = SOURCE
    claim = (
        "every training example is right; no perturbation of linf size 0.999 lambda / 2 changes an answer; at 1.001"
        " lambda / 2 the closest pair is wrong; network and evaluator differ by at most 1e-9; so do ONNX and evaluator"
    )

    sets: tuple[str, ...] = ("mnist", "cifar10")
    share: float = 0.999
    random: tuple[int, ...] = (1_000_000, 1_000_000)
    directed: int = 10_000
    stored: int = 2000
    asked: int = 10_000
    few: int = 4
    exported: int = 500

    def run(self, stage: Stage) -> Outcome:
        measured, holds = [], True
        for name, count in zip(self.sets, self.random, strict=True):
            train = data.load(name, "train")
            memorizer = self._made(train.x, train.y)
            stage.say(f"X13: {name}: {memorizer.separation}, radius {memorizer.radius:.5g}")
            rows, true = self._whole(stage, name, memorizer, count)
            measured, holds = measured + rows, holds and true
        first = data.load(self.sets[0], "train")
        gaps = self._networks(stage, first.x, first.y)
        gaps[f"digits, {self.exported} points: largest difference of ONNX and evaluator"] = self._onnx()
        measured += [Measured(name=name, value=gap) for name, gap in gaps.items()]
        folder = stage.out / self.id
        regions.draw(folder / "regions.png")
        regions.draw_network(folder / "network.png")
        return Outcome(
            measured=tuple(measured),
            holds=holds and max(gaps.values()) <= 1e-9,
            notes=(
                "each whole set is proved right for every radius below lambda / 2 by its exact separation lambda and"
                " the theorem; the perturbations can only refute that",
                f"queries a second: wall time on {os.cpu_count()} processors shared with other work (load average"
                f" {os.getloadavg()[0]:.1f} at the end), points at random places of random balls",
                "random perturbations: uniform in the ball and random corners, half each; directed: clipped steps to"
                " the nearest point of another class, and that corner of the ball, half each",
                "an example without an answer counts as wrong",
                *stage.notes(data.load(self.sets[-1], "test")),
            ),
            pictures=("X13/regions.png", "X13/network.png"),
        )

    def _made(self, x: Tensor, y: Tensor) -> OptimalMemorizer:
        bound = optimal(x, y)
        return OptimalMemorizer(
            bound.points, bound.labels, bound.shape, "linf", self.share * bound.separation.value / 2, bound.separation
        )

    def _whole(self, stage: Stage, name: str, memorizer: OptimalMemorizer, random: int) -> tuple[list[Measured], bool]:
        count, d = memorizer.points.shape
        trial = perturbing.tried(
            memorizer, self.share, count, random, self.directed, stage.seed,
            lambda words: stage.say(f"X13: {name}: {words}"),
        )  # fmt: skip
        test = data.load(name, "test").take(1000)
        held = perturbing.answered(memorizer, in_units(test.x.flatten(1).numpy()), test.y.numpy())
        values = {
            "separation, grey levels": 255 * memorizer.separation.value,
            "radius": memorizer.radius,
            f"width, 3d + 1 for d = {d}": memorizer.width,
            f"depth, 2N + 1 for N = {count}": memorizer.depth,
            "parameters of the layout, N (8d + 5) + d": memorizer.num_parameters,
            "parameters with zeros": memorizer.num_dense,
            "largest weight": memorizer.largest_weight,
            "Lipschitz constant": memorizer.lipschitz,
            "queries a second": trial.moved.asked / trial.moved.seconds,
        }
        rows = [Measured(name=f"{name}: {what}", value=float(value)) for what, value in values.items()]
        tallies = trial.tallies() | {"test images wrong or without an answer": held}
        rows += [Measured(name=f"{name}: {what}", rate=tally.rate) for what, tally in tallies.items()]
        stage.say(f"X13: {name}: {', '.join(str(row.here) for row in rows)}")
        return rows, trial.holds

    def _networks(self, stage: Stage, x: Tensor, y: Tensor) -> dict[str, float]:
        """Largest differences of the literal network and the evaluator."""
        gaps = {}
        for stored, asked in ((self.stored, self.asked), (len(x), self.few)):
            memorizer = self._made(x[:stored], y[:stored])
            network, largest = memorizer.network(), 0.0
            for part in torch.from_numpy(self._queries(memorizer, asked, stage.seed)).split(512):
                with torch.no_grad():
                    largest = max(largest, float((network(part)[:, 0] - memorizer.scores(part)).abs().max()))
            words = f"{self.sets[0]}, {len(memorizer.points)} points: largest difference of network and evaluator"
            gaps[f"{words}, {asked} inputs"] = largest
            stage.say(f"X13: {words}: {largest:.3g}")
        return gaps

    def _queries(self, memorizer: OptimalMemorizer, count: int, seed: int) -> np.ndarray:
        """A third in balls, a third where one coordinate lies between a ball and the next, a third of far noise."""
        rng, d = np.random.default_rng(seed), memorizer.points.shape[1]
        x = in_units(memorizer.points[rng.integers(0, len(memorizer.points), count)]).copy()
        kind, rows = np.arange(count) % 3, np.arange(count)
        x += np.where(kind == 0, memorizer.radius, 0.0)[:, None] * rng.uniform(-1, 1, x.shape)
        x[rows, rng.integers(0, d, count)] += np.where(
            kind == 1, memorizer.radius + rng.random(count) * memorizer.gap, 0
        )
        return x + np.where(kind == 2, 1.0, 0.0)[:, None] * rng.standard_normal(x.shape)

    def _onnx(self) -> float:
        digits = data.load("digits", "train").take(self.exported)
        memorizer = self._made(digits.x, digits.y)
        x = torch.from_numpy(self._queries(memorizer, 300, 0)).view(-1, *digits.shape)
        x = x.clamp(min=float(memorizer.floor.max()))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "memorizer.onnx"
            memorizer.network().to_onnx(path, digits.shape)
            session = packages()[1].InferenceSession(str(path), providers=["CPUExecutionProvider"])
            answer = session.run(None, {"x": x.numpy()})[0]
        return float(np.abs(answer[:, 0] - memorizer.scores(x).numpy()).max())
