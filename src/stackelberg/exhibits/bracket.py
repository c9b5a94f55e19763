"""B01: the bracket certified <= true <= attacked on MNIST, before and after certified training."""

from dataclasses import dataclass

from stackelberg.attacks.suite import Effort
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.stage import Stage
from stackelberg.report import Report, compare
from stackelberg.threat import Ball

GAMES = ("standard", "at", "trades", "sr-at", "ibp")
RECIPES = {
    "ibp": {"radius_warmup": 0.4, "learning_rate": 1e-3, "warmup": 0.05, "clip": 10.0},
} | {game: {"radius_warmup": 0.3, "learning_rate": 2e-3} for game in ("at", "trades", "sr-at")}


@dataclass(frozen=True)
class Bracket(Exhibit):
    """How much is not known of a network's robust accuracy, by the game in which it was trained.

    Attributes:
        radius: linf, in input units.
        n: test images.
        effort: of the suite.
        steps: of the adversary in training.
        epochs: of training with an adversary; certified training takes three times as many.
    """

    id = "B01"
    title = "The bracket, before and after certified training"
    published = "certified accuracy by interval bound training, MNIST at 0.3: 91.95 %"
    source = "Gowal et al. 2018, On the effectiveness of interval bound propagation, table 4 (their largest network)"
    claim = (
        "of the network trained by interval bounds at least 90 % is certified, and its bracket is narrower than that of"
        " any network trained against an attack"
    )

    radius: float = 0.3
    n: int = 1000
    effort: Effort = "standard"
    steps: int = 5
    epochs: int = 15

    def run(self, stage: Stage) -> Outcome:
        ball = Ball("linf", self.radius)
        test, _ = stage.examples("mnist", self.n)
        reports: dict[str, Report] = {}
        measured: list[Measured] = []
        for game in GAMES:
            model = stage.network(self._network(game, ball))
            report = stage.audited(stage.out / self.id / game, model, test, ball, self.n, self.effort)
            reports[game] = report
            published = "91.95 %" if game == "ibp" else None
            measured += [
                Measured(name=f"{game}: clean", rate=report.clean),
                Measured(name=f"{game}: upper end, suite", rate=report.robust.upper),
                Measured(name=f"{game}: lower end, proved", published=published, rate=report.robust.lower),
                Measured(name=f"{game}: width", value=width(report)),
            ]
        page = stage.out / f"{self.id}.html"
        compare(reports, page)
        widths = {game: width(report) for game, report in reports.items()}
        robust = [widths[game] for game in GAMES if game not in ("standard", "ibp")]
        return Outcome(
            measured=tuple(measured),
            holds=reports["ibp"].robust.lower.value >= 0.9 and widths["ibp"] < min(robust),
            notes=stage.notes(test),
            pictures=(page.name,),
        )

    def _network(self, game: str, ball: Ball) -> Network:
        epochs = 3 * self.epochs if game == "ibp" else self.epochs
        return Network(
            f"mnist-small-cnn-{game}", "mnist", "small-cnn", 32, game, ball, self.steps, epochs, RECIPES.get(game, {})
        )


def width(report: Report) -> float:
    """Upper end less lower end: the share of examples of which neither is known."""
    return report.robust.upper.value - report.robust.lower.value
