"""What does an exhibit have at hand?  A folder, a seed, a device, trained networks, and audits that are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from stackelberg import data
from stackelberg.attacks.suite import Effort
from stackelberg.data import Dataset
from stackelberg.exhibits import networks
from stackelberg.exhibits.networks import Network
from stackelberg.games.processes import launch
from stackelberg.report import Report, audit
from stackelberg.report.auditing import choose
from stackelberg.report.surroundings import jpeg_traces, model_record
from stackelberg.threat import Ball

JPEG = "the images are a JPEG copy whose error is about as large as 8/255, so the original images give other numbers"


@dataclass
class Stage:
    """Where an exhibit is measured.

    Attributes:
        out: folder of the results.
        runs: folder of the trained networks.
        seed: of all random numbers.
        device: "cpu", "cuda" or "auto".
        say: tells the user how far it is.
        used: names of the networks it asked for.
        kept: seconds that audits, numbers and networks taken from before have cost.
        spent: seconds in which the ledgers' numbers and networks were made.
        opened: folders of ledgers whose seconds are in `kept`.
    """

    out: Path
    runs: Path
    seed: int = 0
    device: str = "auto"
    say: Callable[[str], None] = print
    used: list[str] = field(default_factory=list)
    kept: float = 0.0
    spent: float = 0.0
    opened: set[Path] = field(default_factory=set)

    def network(self, network: Network) -> nn.Module:
        """A trained network in evaluation mode, on the device."""
        self.say(f"network {network.name} ({self.runs / network.name})")
        model = networks.trained(network, self.runs, self.seed, self.device).eval()
        self.used.append(network.name)
        return model.to(launch(self.device).device)

    def examples(self, source: str, n: int) -> tuple[Dataset, Tensor]:
        """(test set, the places of n of its examples, a simple random sample by the seed)."""
        test = data.load(source, "test")
        return test, choose(len(test), n, self.seed)[0]

    def notes(self, test: Dataset) -> tuple[str, ...]:
        """What is to be said about the data."""
        return (JPEG,) if jpeg_traces(test) else ()

    def audited(self, folder: Path, model: nn.Module, test: Dataset, ball: Ball, n: int, effort: Effort) -> Report:
        """The audit kept in `folder` if it is of this network and these settings, else a new one."""
        path = folder / "report.json"
        if path.is_file():
            report = Report.from_json(path)
            threat = report.threat
            same = (
                report.model.weights == model_record(model, report.model.outputs).weights
                and (threat.norm, threat.radius) == (ball.norm, ball.radius)
                and (report.n, report.settings.seed, report.settings.effort) == (min(n, len(test)), self.seed, effort)
                and report.data.name == test.name
            )
            if same:
                self.kept += report.environment.seconds
                return report

        def tell(done: int, total: int, words: str) -> None:
            self.say(f"audit {folder.name}, {done} of {total} done: {words}")

        return audit(model, test, ball, n, seed=self.seed, effort=effort, out=folder, progress=tell)
