"""X25: does the statistically robust game overfit less?  Best epoch against last, three games, several seeds."""

from dataclasses import dataclass
from statistics import fmean

import torch
from matplotlib.figure import Figure

from stackelberg import attacks, data
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.games import (
    Adversarial,
    Equilibrium,
    Game,
    StatisticallyRobust,
    Trades,
    WassersteinDRO,
    WeightPerturbed,
    solve,
)
from stackelberg.models import build
from stackelberg.threat import Ball
from stackelberg.threat.rate import half_interval

COLOURS = {
    "at": "#1f5fa8", "udr": "#a86a00", "sr-wdro": "#3c7d3c", "trades": "#8a3fa8", "sr-trades": "#b03060",
    "at, averaged": "#6f9fd8", "sr-wdro, averaged": "#7dbd7d", "at-awp": "#555555",
}  # fmt: skip
AVERAGE = 0.99
"""Decay of the averaged weights, a step."""


@dataclass(frozen=True)
class RobustOverfitting(Exhibit):
    """Robust accuracy over the epochs of a training that is too long for its few examples.

    Attributes:
        dataset: a named data set.
        n: training examples.
        held_out: more of them, not trained on, by which the best epoch is chosen.
        test_n: test images on which best and last network are attacked.
        radius: linf, in input units.
        gamma: of the KL ball, in nats.
        width: of small-cnn.
        epochs: of every training; the rate falls by 10 at 1/2 and at 3/4 of them.
        learning_rate: of Adam.
        steps: of the inner attack.
        beside: whether TRADES, its sr form, averaged weights and adversarial weights are trained, too.
        seeds: of examples, initialisation and order, the stage's seed first.
    """

    id = "X25"
    title = "Statistically robust training overfits less"
    published = "less robust overfitting than AT and UDR; the tables' numbers were not to be had"
    source = "Liu et al. 2025, 'SR-WDRO' (ICLR 2025); X.-S. Gao 2024, slide 'SR-WDRO'"
    claim = (
        "the robust accuracy that is lost between the best and the last epoch, mean over the seeds, is smaller for"
        " SR-WDRO than for adversarial training and for Wasserstein DRO (UDR)"
    )

    dataset: str = "cifar10"
    n: int = 1000
    held_out: int = 1000
    test_n: int = 500
    radius: float = 8 / 255
    gamma: float = 0.1
    width: int = 32
    epochs: int = 40
    learning_rate: float = 0.002
    steps: int = 3
    beside: bool = True
    seeds: int = 3

    def run(self, stage: Stage) -> Outcome:
        ball = Ball("linf", self.radius)
        games = self._games(ball)
        test = data.load(self.dataset, "test").split(self.test_n, stage.seed)[1]
        rows: list[Measured] = []
        lost: dict[str, list[float]] = {}
        best: dict[str, float] = {}
        curves: dict[str, list[list[float]]] = {}
        for name, game in games.items():
            runs = [self._trained(stage, name, game, seed) for seed in range(stage.seed, stage.seed + self.seeds)]
            curves[name] = [[float(record["robust"]) for record in run.history] for run in runs]
            judged = [
                (self._robust(run.best, test, ball, stage), self._robust(run.model, test, ball, stage)) for run in runs
            ]
            gaps = {"held out": [max(c) - c[-1] for c in curves[name]], "test": [best - last for best, last in judged]}
            lost[name], best[name] = gaps["held out"], fmean(b for b, _ in judged)
            rows += [
                Measured(name=f"{name}: robust, best epoch, test, mean", value=best[name]),
                Measured(name=f"{name}: robust, last epoch, test, mean", value=fmean(last for _, last in judged)),
            ]
            for where, values in gaps.items():
                rows.append(Measured(name=f"{name}: lost, {where}, mean of {self.seeds} seeds", value=fmean(values)))
                rows.append(
                    Measured(name=f"{name}: lost, {where}, half the 95 % t interval", value=half_interval(values))
                )
        fewer = {name: [b - a for a, b in zip(lost["sr-wdro"], lost[name], strict=True)] for name in ("at", "udr")}
        for name, values in fewer.items():
            row = f"sr-wdro loses less than {name}, held out, by the same seeds"
            rows.append(Measured(name=f"{row}: mean", value=fmean(values)))
            rows.append(Measured(name=f"{row}: half the 95 % t interval", value=half_interval(values)))
        self._draw(stage, curves)
        return Outcome(
            measured=tuple(rows),
            holds=all(fmean(values) > 0 for values in fewer.values()),
            notes=(
                f"small-cnn of width {self.width}, {self.n} images of {self.dataset}, linf {self.radius:g}, Adam,"
                " the rate falls in steps early, so that what a long training shows comes within few epochs",
                f"held out: PGD-10 after each epoch on {self.held_out} images; the largest minus the last. Test:"
                f" the suite with effort 'fast' on {len(test)} test images, best held-out epoch minus last one",
                *(
                    ["averaged: exponential moving average of the weights, decay .99 a step; awp: adversarial weights"]
                    if self.beside
                    else []
                ),
                f"the most robust best epoch on test images is that of {max(best, key=lambda name: best[name])}; a"
                " difference whose interval is wider than itself may be the seeds' alone",
                "the intervals are over seeds, which also draw the training images",
                *stage.notes(test),
            ),
            pictures=("X25.png",),
        )

    def _games(self, ball: Ball) -> dict[str, Game]:
        """The three of the claim first, then what reviewers asked for beside them."""
        at, trades = Adversarial(ball, steps=self.steps), Trades(ball, steps=self.steps)
        udr = WassersteinDRO(ball, steps=self.steps)
        robust = StatisticallyRobust(udr, self.gamma)
        claimed: dict[str, Game] = {"at": at, "udr": udr, "sr-wdro": robust}
        others: dict[str, Game] = {
            "trades": trades, "sr-trades": StatisticallyRobust(trades, self.gamma), "at, averaged": at,
            "sr-wdro, averaged": robust, "at-awp": WeightPerturbed(at),
        }  # fmt: skip
        return claimed | (others if self.beside else {})

    def _trained(self, stage: Stage, name: str, game: Game, seed: int) -> Equilibrium:
        whole = data.load(self.dataset, "train")
        _, chosen = whole.split(self.n + self.held_out, seed)
        network = build("small-cnn", len(whole.classes), whole.shape, self.width, seed=seed)
        stage.say(f"X25: {name}, seed {seed}")
        folder = stage.runs / f"X25-{self.dataset}-{self.n}-{self.epochs}-{name.replace(', ', '-')}-{seed}"
        return solve(
            game, network, chosen, self.epochs, seed=seed, device=stage.device, progress=False, batch_size=50,
            optimizer="adam", learning_rate=self.learning_rate, schedule="steps", held_out=self.held_out, augment=-1,
            out=folder, resume=True, average=AVERAGE if name.endswith("averaged") else 0.0,
        )  # fmt: skip

    def _robust(self, model: torch.nn.Module, test: Dataset, ball: Ball, stage: Stage) -> float:
        """Share of the test images that the suite leaves standing."""
        x, y = test.batch(slice(None))
        return attacks.suite(ball, "fast", seed=stage.seed).run(model, x, y).robust / len(test)

    def _draw(self, stage: Stage, curves: dict[str, list[list[float]]]) -> None:
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        for name, runs in curves.items():
            for place, run in enumerate(runs):
                label = name if place == 0 else None
                axes.plot(range(1, self.epochs + 1), run, color=COLOURS[name], alpha=0.8, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("held-out robust accuracy (PGD-10)")
        axes.legend()
        with replacing(stage.out / "X25.png") as part:
            figure.savefig(part, format="png", dpi=110)
