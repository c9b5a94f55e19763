"""X14: whole training sets by heart with small weights: the nearest stored point decides."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from stackelberg import data
from stackelberg.exhibits import perturbing
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.memorized import SOURCE
from stackelberg.exhibits.stage import Stage
from stackelberg.memorize import LipschitzMemorizer, OptimalMemorizer, lipschitz

TASKS = {"mnist": "mnist", "mnist, odd or even": "mnist", "cifar10": "cifar10"}


@dataclass(frozen=True)
class LipschitzMemorized(Exhibit):
    """The Lipschitz memorizer of whole training sets, binary and one against the rest.

    Attributes:
        tasks: names in `TASKS`.
        share: of half the separation, by which points are moved.
        train: training examples asked as they are, for each task.
        random: perturbations at random, for each task.
        directed: perturbations towards the nearest enemy, for each task.
        stored: points of the first task in the network that is compared with the evaluator.
        asked: inputs at which they are compared.
        test: test images asked.
    """

    id = "X14"
    title = "Optimal robust memorization with bounded weights and Lipschitz constant"
    published = "O(N d log d) parameters; Lipschitz constant and weights bounded whatever the radius"
    source = SOURCE
    claim = (
        "every training example asked is right, certified to lambda / 2; no perturbation of linf size 0.999 lambda / 2"
        " changes an answer; at 1.001 lambda / 2 the closest pair is wrong; all weights are -1, 0 or 1; network and"
        " evaluator differ by at most 1e-9"
    )

    tasks: tuple[str, ...] = tuple(TASKS)
    share: float = 0.999
    train: int = 10_000
    random: int = 30_000
    directed: int = 2000
    stored: int = 300
    asked: int = 1000
    test: int = 1000

    def run(self, stage: Stage) -> Outcome:
        measured, holds = [], True
        for name in self.tasks:
            rows, true = self._task(stage, name)
            measured, holds = measured + rows, holds and true
        gap = self._network(stage)
        measured.append(
            Measured(
                name=f"{self.tasks[0]}, {self.stored} points: largest difference of network and evaluator", value=gap
            )
        )
        return Outcome(
            measured=tuple(measured),
            holds=holds and gap <= 1e-9,
            notes=(
                "one memorizer is right for every radius below lambda / 2 at once, by its exact separation lambda and"
                " its Lipschitz constant",
                "parameters are those of the layout, without the zeros of full matrices; largest weight and Lipschitz"
                " constant of the optimal memorizer are those at 0.999 lambda / 2",
                f"queries a second: wall time on {os.cpu_count()} processors shared with other work (load average"
                f" {os.getloadavg()[0]:.1f} at the end), exact nearest distances to all classes",
                *stage.notes(data.load(TASKS[self.tasks[-1]], "test")),
            ),
        )

    def _data(self, name: str, split: str) -> tuple[Tensor, Tensor]:
        examples = data.load(TASKS[name], split)
        return examples.x, examples.y % 2 if name.endswith("odd or even") else examples.y

    def _task(self, stage: Stage, name: str) -> tuple[list[Measured], bool]:
        memorizer = lipschitz(*self._data(name, "train"))
        bound = memorizer.separation.value
        radius = self.share * bound / 2
        peer = OptimalMemorizer(
            memorizer.points, memorizer.labels, memorizer.shape, "linf", radius, memorizer.separation
        )
        trial = perturbing.tried(
            memorizer, self.share, self.train, self.random, self.directed, stage.seed,
            lambda words: stage.say(f"X14: {name}: {words}"),
        )  # fmt: skip
        pair = memorizer.certified(torch.from_numpy(memorizer.points[list(memorizer.separation.pair)]))
        values = {
            "separation, grey levels": 255 * bound,
            "certified radius of the closest pair, over lambda / 2": float(pair.radius.min()) / (bound / 2),
            "width, 3d + K": memorizer.width,
            "depth, N (ceil(log2 d) + 2) + 1": memorizer.depth,
            "parameters": memorizer.num_parameters,
            "parameters of the optimal memorizer": peer.num_parameters,
            "largest weight": memorizer.largest_weight,
            "largest weight of the optimal memorizer": peer.largest_weight,
            "Lipschitz constant of a score": memorizer.lipschitz,
            "Lipschitz constant of the optimal memorizer": peer.lipschitz,
            "queries a second": trial.moved.asked / trial.moved.seconds,
        }
        rows = [Measured(name=f"{name}: {what}", value=float(value)) for what, value in values.items()]
        tallies = trial.tallies() | {"test images that are wrong": self._held_out(memorizer, name)}
        rows += [Measured(name=f"{name}: {what}", rate=tally.rate) for what, tally in tallies.items()]
        stage.say(f"X14: {name}: {', '.join(str(row.here) for row in rows)}")
        return rows, trial.holds

    def _held_out(self, memorizer: LipschitzMemorizer, name: str) -> perturbing.Tally:
        x, y = self._data(name, "test")
        return perturbing.answered(memorizer, x[: self.test].flatten(1).double().numpy() / 255, y[: self.test].numpy())

    def _network(self, stage: Stage) -> float:
        """The largest difference of the literal network and the evaluator; its weights are looked at, too."""
        x, y = self._data(self.tasks[0], "train")
        memorizer = lipschitz(x[: self.stored], y[: self.stored])
        network = memorizer.network()
        if not all(bool((layer.weight.values().abs() <= 1).all()) for layer in network.layers()):
            return float("inf")
        generator = torch.Generator().manual_seed(stage.seed)
        queries = 3 * torch.rand(self.asked, memorizer.points.shape[1], dtype=torch.float64, generator=generator) - 1
        queries[::2] = x[: self.stored].flatten(1).double()[torch.arange(len(queries[::2])) % self.stored] / 255
        with torch.no_grad():
            return float((network(queries) - memorizer.scores(queries)).abs().max())
