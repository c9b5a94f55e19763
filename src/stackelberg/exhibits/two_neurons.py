"""X16: whether two neurons can memorize robustly is decided exactly, and gets dear with N."""

import itertools
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.memorize.halfplanes import ruled_out
from stackelberg.memorize.hardness import Decision, decide
from stackelberg.threat import clopper_pearson


@dataclass(frozen=True)
class TwoNeurons(Exhibit):
    """Random points with random labels, decided; every answer confirmed by a second method where there is one.

    Attributes:
        sizes: N, for 1, 2 and 3 dimensions each.
        draws: instances of each N and dimension.
        share: of the separation: the radius.
        seconds: for one decision at most.
    """

    id = "X16"
    title = "Robust memorization by two neurons: exact answers, and what they cost"
    published = "NP-hard to decide for depth 2 and width 2; some data admit none"
    source = "Yu, Gao and Zhang 2024, 'Optimal robust memorization with ReLU neural networks' (ICLR)"
    claim = (
        "yes and no both occur; every yes is a network with a margin > 0 on all balls, in fractions; every answer in"
        " one and two dimensions is confirmed by exhaustive methods; none is left open"
    )

    sizes: tuple[int, ...] = (3, 4, 5, 6, 8, 10)
    draws: int = 4
    share: float = 0.3
    seconds: float = 60.0

    def run(self, stage: Stage) -> Outcome:
        rows: list[tuple[int, int, Decision, bool | None]] = []
        for d, n, draw in itertools.product((1, 2, 3), self.sizes, range(self.draws)):
            chance = np.random.default_rng([stage.seed, d, n, draw])
            x, y = chance.random((n, d)), np.append([0, 1], chance.integers(0, 2, n - 2))
            radius = self.share * float(np.abs(x[y == 0][:, None] - x[y == 1][None]).max(2).min())
            decision = decide(x, y, radius, seconds=self.seconds)
            rows.append((d, n, decision, _agrees(x, y, radius, decision.answer)))
            if draw == self.draws - 1:
                stage.say(f"X16: {d}-D, N = {n}: {', '.join(row[2].answer for row in rows[-self.draws :])}")
        answers = [row[2].answer for row in rows]
        checked = [row[3] for row in rows if row[3] is not None]
        least = min(float(row[2].margin) for row in rows if row[2].margin is not None)
        measured = [
            Measured(name="instances answered yes", rate=clopper_pearson(answers.count("yes"), len(rows))),
            Measured(name="instances left open", rate=clopper_pearson(answers.count("unknown"), len(rows))),
            Measured(name="answers confirmed by a second method, of those it knows",
                     rate=clopper_pearson(sum(checked), len(checked))),
            Measured(name="least exact margin of a yes, the program asks for 1", value=least),
        ]  # fmt: skip
        fits = {d: self._exponent(rows, d) for d in (1, 2, 3)}
        measured += [Measured(name=f"{d}-D: seconds grow as N to the power", value=power) for d, power in fits.items()]
        self._draw(stage, rows, fits)
        return Outcome(
            measured=tuple(measured),
            holds=0 < answers.count("yes") < len(rows) and "unknown" not in answers and least > 0 and all(checked),
            notes=(
                "a no speaks of weights up to 200 (data scaled to half width 1) and margin 1; its confirmation in two"
                " dimensions tries all directions of half-planes and has no such bound; one in one dimension counts the"
                " changes of label, which may be two",
                "the powers are least-squares fits of the mean of log seconds to log N over few and small N, wall time"
                " on a machine shared with other work: a picture, no asymptotic law",
                "NP-hardness is about growing dimension and N together; in a fixed dimension the problem is polynomial",
            ),
            pictures=("X16.png",),
        )

    def _exponent(self, rows: list[tuple[int, int, Decision, bool | None]], d: int) -> float:
        means = [np.mean([np.log(row[2].seconds) for row in rows if row[:2] == (d, n)]) for n in self.sizes]
        return float(np.polyfit(np.log(self.sizes), means, 1)[0])

    def _draw(self, stage: Stage, rows: list[tuple[int, int, Decision, bool | None]], fits: dict[int, float]) -> None:
        figure = Figure(figsize=(7.5, 4.8), layout="constrained")
        axes = figure.subplots()
        for (d, power), colour in zip(fits.items(), ("#1f5fa8", "#a86a00", "#3c7d3c"), strict=True):
            for answer, mark in (("yes", "o"), ("no", "x"), ("unknown", "^")):
                chosen = [row for row in rows if row[0] == d and row[2].answer == answer]
                axes.plot(
                    [r[1] * 1.02**d for r in chosen], [r[2].seconds for r in chosen], mark, color=colour, alpha=0.8
                )
            middle = [np.exp(np.mean([np.log(r[2].seconds) for r in rows if r[:2] == (d, n)])) for n in self.sizes]
            axes.plot(self.sizes, middle, color=colour, label=f"{d}-D, about N^{power:.1f}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(self.sizes, [str(n) for n in self.sizes])
        axes.minorticks_off()
        axes.set_xlabel("N; circle: yes, cross: no")
        axes.set_ylabel("seconds")
        axes.legend()
        with replacing(stage.out / "X16.png") as part:
            figure.savefig(part, format="png", dpi=110)


def _agrees(x: np.ndarray, y: np.ndarray, radius: float, answer: str) -> bool | None:
    """Whether a second method says the same; None where it cannot say."""
    if x.shape[1] == 1:
        changes = int((np.diff(y[np.argsort(x[:, 0])]) != 0).sum())
        return answer == ("yes" if changes <= 2 else "no")
    if x.shape[1] == 2:
        return ruled_out(x, y, radius, grid=5) == (answer == "no")
    return None
