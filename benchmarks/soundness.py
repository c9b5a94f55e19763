"""Does any certified pair fall?  Thousands of (example, radius) pairs, each proved, attacked by the strongest suite.

    python benchmarks/soundness.py [--pairs 10000] [--patience 5000] [--parts NAME ...]
    python benchmarks/soundness.py --table

A part is a network, trained here in seconds, a method of proof, a norm and a ladder of radii. Each example is proved as
high up the ladder as the method goes, and attacked there, where the proof has least to spare: one pair an example,
never a second one at a smaller radius, which the first implies. Attacked is by suite(effort="max"), in which nothing is
passed over or given up; a break would be a point in ball and box at which the network, in float32, errs. Finished
batches are written to --out at once, and are not made again.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attack_step import conditions
from stackelberg import attacks, data, games, models
from stackelberg.attacks.suite import STANDING
from stackelberg.certify.claiming import METHODS
from stackelberg.files import write_text
from stackelberg.threat import Ball, clopper_pearson

SECONDS = 5.0
"""An example, for the methods that search."""


@dataclass(frozen=True)
class Part:
    """Pairs of one kind.

    Attributes:
        source: of the examples.
        model: a name in `models.NAMES`.
        width: of it.
        game: the network is trained by: "standard", "at" or "ibp", in linf.
        radius: of the game.
        epochs: of the game.
        method: of proof.
        norm: of the pairs.
        ladder: radii, rising.
        n: examples, at most.
    """

    source: str
    model: str
    width: int
    game: str
    radius: float
    epochs: int
    method: str
    norm: str
    ladder: tuple[float, ...]
    n: int

    @property
    def name(self) -> str:
        """For example digits-mlp-16-ibp, crown, linf."""
        return f"{self.source}-{self.model}-{self.width}-{self.game}, {self.method}, {self.norm}"


PARTS = (
    Part("digits", "mlp", 32, "ibp", 0.05, 60, "ibp", "linf", (0.03, 0.05, 0.07, 0.1), 1797),
    Part("digits", "mlp", 32, "at", 0.1, 20, "crown", "linf", (0.04, 0.08, 0.12, 0.16), 1797),
    Part("digits", "small-cnn", 4, "at", 0.1, 20, "zonotope", "linf", (0.03, 0.06, 0.09, 0.12), 1797),
    Part("digits", "mlp", 32, "at", 0.1, 20, "lipschitz", "l2", (0.1, 0.2, 0.3, 0.4), 1797),
    Part("digits", "mlp", 16, "standard", 0.1, 20, "milp", "linf", (0.04, 0.08), 200),
    Part("digits", "mlp", 32, "standard", 0.1, 20, "complete", "linf", (0.04, 0.08), 300),
    Part("digits", "small-cnn", 4, "at", 0.1, 20, "crown", "l2", (0.1, 0.2, 0.3, 0.4), 1797),
    Part("digits", "small-cnn", 4, "at", 0.1, 20, "alpha-crown", "linf", (0.04, 0.08, 0.12), 700),
    Part("mnist", "small-cnn", 4, "ibp", 0.2, 4, "ibp", "linf", (0.05, 0.1, 0.15, 0.2), 2500),
    Part("digits", "mlp", 32, "at", 0.1, 20, "zonotope", "linf", (0.04, 0.08, 0.12, 0.16), 1797),
    Part("digits", "mlp", 64, "at", 0.1, 20, "crown", "linf", (0.04, 0.08, 0.12, 0.16), 1797),
    Part("digits", "mlp", 64, "at", 0.1, 20, "zonotope", "linf", (0.04, 0.08, 0.12, 0.16), 1797),
    Part("digits", "mlp", 32, "at", 0.1, 20, "alpha-crown", "linf", (0.08, 0.12, 0.16, 0.2), 1797),
    Part("digits", "mlp", 32, "at", 0.1, 20, "crown", "l2", (0.1, 0.2, 0.3, 0.4), 1797),
    Part("digits", "mlp", 32, "at", 0.1, 20, "crown", "l1", (0.2, 0.4, 0.6, 0.8), 1797),
    Part("mnist", "mlp", 32, "at", 0.1, 2, "crown", "linf", (0.01, 0.02, 0.03, 0.04), 2500),
    Part("fashion_mnist", "mlp", 32, "at", 0.1, 2, "zonotope", "linf", (0.01, 0.02, 0.03, 0.04), 2500),
)


def examples(part: Part) -> tuple[Tensor, Tensor]:
    """Inputs and labels: of the digits all there are, of others the test examples."""
    splits = ("test", "train") if part.source == "digits" else ("test",)
    x, y = zip(*(data.load(part.source, split).batch(slice(None)) for split in splits), strict=True)
    return torch.cat(x)[: part.n], torch.cat(y)[: part.n]


def network(part: Part, folder: Path) -> nn.Module:
    """The part's network, trained the first time."""
    path = folder / part.name.partition(",")[0]
    if not (path / "best.safetensors").exists():
        train, ball = data.load(part.source, "train"), Ball("linf", part.radius)
        kinds = {
            "standard": games.Standard(),
            "at": games.Adversarial(ball, steps=3),
            "ibp": games.IntervalBound(ball),
        }
        built = models.build(part.model, len(train.classes), train.shape, part.width, seed=0)
        games.solve(kinds[part.game], built, train, part.epochs, out=path, learning_rate=0.002, progress=False)
    return models.load(path).eval()


def highest(model: nn.Module, x: Tensor, y: Tensor, part: Part) -> Tensor:
    """The place on the ladder up to which each example is proved, -1 for none, [B]."""
    place = torch.full((len(x),), -1)
    for rung, radius in enumerate(part.ladder):
        left = (place == rung - 1).nonzero()[:, 0]
        for some in left.split(200):
            proof, _ = METHODS[part.method].prove(model, x[some], y[some], Ball(part.norm, radius), SECONDS)
            place[some[proof.certified]] = rung
    return place


def batches(part: Part, folder: Path, done: set[tuple[str, float]], patience: int) -> Iterator[dict[str, Any]]:
    """One row for each rung of the part that is not done."""
    if all((part.name, radius) in done for radius in part.ladder):
        return
    model, (x, y) = network(part, folder), examples(part)
    place = highest(model, x, y, part)
    for rung, radius in enumerate(part.ladder):
        index = (place == rung).nonzero()[:, 0]
        if (part.name, radius) in done or not len(index):
            continue
        begun = time.process_time()
        found = attacks.suite(Ball(part.norm, radius), "max", patience=patience).run(model, x[index], y[index])
        fell = index[found.broken_by != STANDING].tolist()
        yield {
            "part": part.name, "radius": radius, "pairs": len(index), "broken": len(fell), "which": fell,
            "patience": patience, "forwards": sum(step.forwards for step in found.steps),
            "attacks": [step.name for step in found.steps if step.skipped is None],
            "processor_seconds": round(time.process_time() - begun, 1),
        }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """One line for a part, and the sum with the upper end of its interval."""
    lines = ["| network, proof, norm | radii | pairs | broken |", "|---|---|---|---|"]
    for name in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == name]
        radii = f"{own[0]['radius']:g} to {own[-1]['radius']:g}"
        lines.append(f"| {name} | {radii} | {sum(r['pairs'] for r in own)} | {sum(r['broken'] for r in own)} |")
    return "\n".join([*lines, words(rows)])


def words(rows: list[dict[str, Any]]) -> str:
    """The sum."""
    pairs, broken = (sum(row[key] for row in rows) for key in ("pairs", "broken"))
    high = clopper_pearson(broken, pairs).high if pairs else 1.0
    return f"{broken} of {pairs} pairs broken; 95 % interval of the rate: at most {high:.2e}"


def main() -> None:
    """Run until there are enough pairs, or print what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--patience", type=int, default=5000, help="queries of the search by scores")
    parser.add_argument("--parts", nargs="*", help="only those whose names begin so")
    parser.add_argument("--networks", type=Path, default=Path("runs/soundness"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soundness.json"))
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(asked.out.read_text())["rows"] if asked.out.exists() else []
    if asked.table:
        print(table(rows))
        return
    parts = [part for part in PARTS if not asked.parts or part.name.startswith(tuple(asked.parts))]
    for part in parts:
        for row in batches(part, asked.networks, {(row["part"], row["radius"]) for row in rows}, asked.patience):
            rows.append(row)
            pairs, broken = (sum(row[key] for row in rows) for key in ("pairs", "broken"))
            rate = clopper_pearson(broken, pairs)
            result = {
                "conditions": conditions(),
                "pairs": pairs,
                "broken": broken,
                "rate_at_most": rate.high,
                "rows": rows,
            }
            write_text(asked.out, json.dumps(result, indent=1) + "\n")
            print(
                f"{part.name} {row['radius']:g}: {row['pairs']} pairs, {row['processor_seconds']:.0f} s; {words(rows)}",
                flush=True,
            )
            if pairs >= asked.pairs:
                return


if __name__ == "__main__":
    main()
