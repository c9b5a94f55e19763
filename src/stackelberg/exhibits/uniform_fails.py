"""X20: uniform bounds on real networks, beside the true gap and the bounds by which one can decide."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from stackelberg import data
from stackelberg.bounds.fitting import answers
from stackelberg.bounds.hold_out import hold_out
from stackelberg.bounds.norms import norm_bounds, norms_of, sizes
from stackelberg.bounds.pac_bayes import pac_bayes
from stackelberg.bounds.rademacher import rademacher, random_labels
from stackelberg.bounds.uniform import architecture_of, vc, vc_dimension
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.threat import Ball, clopper_pearson

NAMES = ("VC", "spectral", "Frobenius", "path", "random labels", "hold-out", "PAC-Bayes", "PAC-Bayes, one draw")
UNIFORM = NAMES[:5]


@dataclass(frozen=True)
class UniformFails(Exhibit):
    """A small CNN each on MNIST and CIFAR-10.

    Attributes:
        sets: data sets.
        width: of the networks.
        epochs: of their training.
        n: training examples for the gap and the bounds, at most.
        labels: training examples with random labels.
        label_epochs: passes over them, at most.
        prior_epochs: of the PAC-Bayes prior.
        prior: training examples for PAC-Bayes, half of them for the prior.
        draws: of networks.
    """

    id = "X20"
    title = "Uniform bounds are empty for over-parameterised networks"
    published = "the bounds are above 1; networks fit random labels"
    source = "Bartlett et al. 2019, Bartlett et al. 2017, Zhang et al. 2017; X.-S. Gao 2024, slide 'Uniform bounds'"
    claim = (
        "VC, the norm-based bounds and Rademacher by random labels are all above 1 on both networks, whose gaps are"
        " below .3; on MNIST hold-out and PAC-Bayes bound the error below .1 with 95 % confidence; no bound is below"
        " the test error of its network"
    )

    sets: tuple[str, ...] = ("mnist", "cifar10")
    width: int = 16
    epochs: int = 3
    n: int = 60_000
    labels: int = 600
    label_epochs: int = 100
    prior_epochs: int = 3
    prior: int = 40_000
    draws: int = 800

    def run(self, stage: Stage) -> Outcome:
        rows: list[Measured] = []
        found: dict[str, dict[str, float]] = {}
        holds = True
        for name in self.sets:
            values, measured, good = self._of(stage, name)
            found[name] = values
            rows += measured
            holds = holds and good
        self._draw(stage, found)
        test = data.load(self.sets[-1], "test")
        return Outcome(
            measured=tuple(rows),
            holds=holds,
            notes=(
                f"small-cnn of width {self.width}, {self.epochs} epochs; delta = .05 for each bound; the gap is test"
                " error - training error",
                "random labels: the complexity is a lower estimate on fewer examples, never a guarantee",
                "PAC-Bayes: a network of the same structure, its prior trained on half of the examples used; mean error"
                " of networks drawn from the posterior, and error of one of them",
                *stage.notes(test),
            ),
            pictures=("X20.png",),
        )

    def _of(self, stage: Stage, name: str) -> tuple[dict[str, float], list[Measured], bool]:
        network = Network(
            f"{name}-small-cnn{self.width}-standard", name, "small-cnn", self.width, "standard", Ball("linf", 0.1),
            epochs=self.epochs,
        )  # fmt: skip
        model = stage.network(network)
        train, test = data.load(name, "train").take(self.n), data.load(name, "test")
        seen, unseen = answers(model, train), answers(model, test)
        counted = vc(model, train.shape, len(train), seen.error)
        normed = norm_bounds(norms_of(model, train.shape), sizes(train), seen)
        stage.say(f"X20: {name}: training error {seen.error:.4f}, test error {unseen.error:.4f}; random labels")
        labels = random_labels(model, train, self.labels, self.label_epochs, stage.seed)
        stage.say(f"X20: {name}: {labels}; PAC-Bayes")
        pac = pac_bayes(
            model, train, n=min(self.prior, len(train)), epochs=self.prior_epochs, draws=self.draws, seed=stage.seed
        )
        own = answers(pac.network, test)
        values = dict(
            zip(
                NAMES,
                (
                    counted.value, *(bound.value for bound in normed), rademacher(labels, seen.error).value,
                    hold_out(unseen.wrong, len(test)).value, pac.bound.value, pac.single.value,
                ),
                strict=True,
            )
        )  # fmt: skip
        dimension = vc_dimension(architecture_of(model, train.shape))
        rows = [
            Measured(name=f"{name}: training error", rate=clopper_pearson(seen.wrong, len(train))),
            Measured(name=f"{name}: test error", rate=clopper_pearson(unseen.wrong, len(test))),
            Measured(name=f"{name}: gap", value=unseen.error - seen.error),
            Measured(name=f"{name}: bound of the VC dimension", value=dimension),
            Measured(name=f"{name}: random labels fitted of {labels.n}", value=labels.fitted),
            Measured(name=f"{name}: complexity by random labels, at most .5", value=labels.complexity),
            Measured(name=f"{name}: test error of PAC-Bayes' one draw", rate=clopper_pearson(own.wrong, len(test))),
        ]
        rows += [
            Measured(name=f"{name}: error by {kind}", published="> 1" if kind in UNIFORM else None, value=value)
            for kind, value in values.items()
        ]
        empty = all(values[kind] > 1 for kind in UNIFORM) and unseen.error - seen.error < 0.3
        tight = name != "mnist" or max(values["hold-out"], values["PAC-Bayes"]) < 0.1
        true = values["hold-out"] >= unseen.error and values["PAC-Bayes, one draw"] >= own.error
        return values | {"test error": unseen.error, "own error": own.error}, rows, empty and tight and true

    def _draw(self, stage: Stage, found: dict[str, dict[str, float]]) -> None:
        figure = Figure(figsize=(8, 1 + 2.6 * len(found)), layout="constrained")
        for axes, (name, values) in zip(
            figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0], found.items(), strict=True
        ):
            shown = [values[kind] for kind in reversed(NAMES)]
            colours = ["#a33b2f" if kind in UNIFORM else "#3c7d3c" for kind in reversed(NAMES)]
            axes.barh(range(len(NAMES)), shown, color=colours, left=1e-3)
            axes.set_yticks(range(len(NAMES)), list(reversed(NAMES)), fontsize=8)
            axes.axvline(1.0, color="black", linewidth=0.8, linestyle="--")
            axes.axvline(max(values["test error"], 1e-3), color="#1f5fa8", linewidth=1)
            axes.set_xscale("log")
            axes.set_title(f"{name}: bounds of the error; blue: test error; dashed: 1", fontsize=9)
        with replacing(stage.out / "X20.png") as part:
            figure.savefig(part, format="png", dpi=110)
