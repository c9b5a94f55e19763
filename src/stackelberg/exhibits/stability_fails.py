"""X21: stability bounds over the steps of SGD, beside the true gap, in standard and adversarial training."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import Tensor, nn

from stackelberg import data, models
from stackelberg.attacks import Oracle, ascend
from stackelberg.bounds.sgd_path import Mover, Path, walk
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy


class Linear(nn.Module):
    """Softmax regression: the one network whose loss is convex in its weights."""

    def __init__(self, train: Dataset) -> None:
        super().__init__()
        pixels = train.x[0].numel()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, len(train.classes)))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def climbing(ball: Ball, steps: int) -> Mover:
    """The adversary: projected ascent on the cross entropy from x itself, on the network as it is."""

    def move(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        oracle = Oracle(model, "float32", "direct")
        return ascend(oracle, x, x, lambda logits: cross_entropy(logits, y), ball, steps, 2.5 * ball.radius / steps)

    return move


@dataclass(frozen=True)
class StabilityFails(Exhibit):
    """Softmax regression and a multilayer perceptron on a part of MNIST, each with and without an adversary.

    Attributes:
        n: training examples.
        test: examples for the gap.
        width: of the perceptron.
        steps: T.
        batch: examples a step.
        rate: learning rate, constant.
        radius: of the adversary, linf.
        every: steps from one measurement of L and beta to the next.
    """

    id = "X21"
    title = "Stability bounds over the steps of training"
    published = "figure: the gap over T, uniform and on-average bounds beside it"
    source = (
        "Hardt et al. 2016; Kuzborskij and Lampert 2018; Wang, Liu and Gao 2025; X.-S. Gao 2024, slide 'Stability"
        " bounds'"
    )
    claim = (
        "at no step is a bound that applies below the measured gap; at the end Hardt's are above 1 in all four"
        " trainings while every gap is below .3; at the end the path bound of softmax regression is larger with the"
        " adversary"
    )

    n: int = 1000
    test: int = 2000
    width: int = 32
    steps: int = 2000
    batch: int = 20
    rate: float = 0.05
    radius: float = 0.1
    every: int = 25

    def run(self, stage: Stage) -> Outcome:
        train, test = data.load("mnist", "train").take(self.n), data.load("mnist", "test").take(self.test)
        made: dict[str, Callable[[], nn.Module]] = {
            "softmax regression": lambda: Linear(train),
            "perceptron": lambda: models.build("mlp", len(train.classes), train.shape, self.width, seed=stage.seed),
        }
        visit = (*(t for t in (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000) if t < self.steps), self.steps)
        paths: dict[str, Path] = {}
        for name, build in made.items():
            for radius in (0.0, self.radius):
                words = f"{name}, {'adversarial' if radius else 'standard'}"
                mover = climbing(Ball("linf", radius), 3) if radius else None
                paths[words] = walk(
                    build(), train, self.steps, self.rate, test, self.batch, 32, self.every, visit, mover=mover,
                    radius=radius, seed=stage.seed,
                )  # fmt: skip
                stage.say(f"X21: {words}: gap {paths[words].visits[-1].gap:.3f}")
        self._draw(stage, paths)
        rows = [row for words, path in paths.items() for row in _rows(words, path)]
        applies = all(
            bound[visit.step - 1] >= visit.gap
            for words, path in paths.items()
            for bound in _curves(words, path).values()
            for visit in path.visits
        )
        empty = all(min(_uniform(words, path)[-1], 1.0) == 1.0 for words, path in paths.items())
        small = all(path.visits[-1].gap < 0.3 for path in paths.values())
        standard, moved = (paths[f"softmax regression, {kind}"].on_average(True)[-1] for kind in _KINDS)
        return Outcome(
            measured=tuple(rows),
            holds=applies and empty and small and moved > standard,
            notes=(
                f"MNIST, {len(train)} training and {len(test)} test examples, SGD with {self.batch} examples a step at"
                f" {self.rate:g}; the gap is of 1 - softmax(z)_y, at the adversary's points where there is one",
                "L, beta, L_wx and the mean gradient are measured on 32 examples along the path: the values are"
                " estimates, no certificates",
                "softmax regression: Hardt's convex bound and the path bound without stretching; perceptron: the"
                " non-convex one, and the path bound with 1 + a beta; one seed",
                "with the adversary the loss is not smooth: the convex bound is shown as if it were, the path bound has"
                " the term that no N makes small",
            ),
            pictures=("X21.png",),
        )

    def _draw(self, stage: Stage, paths: dict[str, Path]) -> None:
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        for axes, (words, path) in zip(figure.subplots(2, 2, sharex=True).ravel(), paths.items(), strict=True):
            for (name, values), colour in zip(_curves(words, path).items(), ("#a33b2f", "#a86a00"), strict=True):
                axes.plot(range(1, len(values) + 1), [min(v, 1e6) for v in values], color=colour, label=name)
            gaps = [max(v.gap, 1e-4) for v in path.visits]
            axes.plot([v.step for v in path.visits], gaps, "o-", color="#1f5fa8", label="gap")
            axes.axhline(1.0, color="#777777", linewidth=0.8, linestyle="--")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("steps T")
            axes.set_title(words, fontsize=10)
            axes.legend(fontsize=8)
        with replacing(stage.out / "X21.png") as part:
            figure.savefig(part, format="png", dpi=110)


_KINDS = ("standard", "adversarial")


def _uniform(words: str, path: Path) -> list[float]:
    return path.convex() if words.startswith("softmax") else path.nonconvex()


def _curves(words: str, path: Path) -> dict[str, list[float]]:
    convex = words.startswith("softmax")
    return {
        f"uniform, {'convex' if convex else 'non-convex'} (Hardt)": _uniform(words, path),
        "on average, along the path": path.on_average(convex),
    }


def _rows(words: str, path: Path) -> list[Measured]:
    rows = [
        Measured(name=f"{words}: L along the path", value=path.lipschitz),
        Measured(name=f"{words}: beta along the path", value=path.smoothness),
    ]
    if path.radius:
        rows.append(Measured(name=f"{words}: L_wx along the path", value=path.mixed))
    for visit in path.visits:
        rows.append(Measured(name=f"{words}, T = {visit.step}: gap", value=visit.gap))
        rows += [
            Measured(name=f"{words}, T = {visit.step}: {name}", value=values[visit.step - 1])
            for name, values in _curves(words, path).items()
        ]
    return rows
