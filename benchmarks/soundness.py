"""Does any certified pair fall?  Thousands of (example, radius) pairs, each proved, attacked by the strongest suite.

    python benchmarks/soundness.py --runs runs --pairs 10000 --minutes 600

Networks: the MNIST runs found in --runs. Each example is proved by CROWN at rising radii, and by the other methods at
the first; every proved pair is attacked by suite(effort="max"). Written after every batch to --out, so a killed run
keeps what it has: networks, pairs, how many were broken (none may be), seconds, versions, and what was attacked how.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stackelberg import __version__, attacks, data, models
from stackelberg.attacks.suite import STANDING
from stackelberg.certify import Unsupported
from stackelberg.certify.claiming import METHODS
from stackelberg.files import write_text
from stackelberg.threat import Ball, clopper_pearson

RADII = {"linf": (0.005, 0.01, 0.02, 0.04, 0.08, 0.1), "l2": (0.05, 0.1, 0.2, 0.4)}
BATCH = 20


def proved(model: nn.Module, x: torch.Tensor, y: torch.Tensor, ball: Ball, names: tuple[str, ...]) -> torch.Tensor:
    """Which examples some of these methods prove [B]."""
    found = torch.zeros(len(x), dtype=torch.bool)
    for name in names:
        try:
            found |= METHODS[name].prove(model, x, y, ball, 5.0)[0].certified
        except Unsupported:
            continue
    return found


def attacked(model: nn.Module, x: torch.Tensor, y: torch.Tensor, ball: Ball, patience: int) -> list[int]:
    """Which of these examples the suite breaks, by their places."""
    found = attacks.suite(ball, "max", patience=patience).run(model, x, y)
    return (found.broken_by != STANDING).nonzero()[:, 0].tolist()


def write(path: Path, rows: dict[str, dict[str, Any]], begun: float, settings: dict[str, Any]) -> None:
    """The result so far."""
    total, broken = (sum(row[key] for row in rows.values()) for key in ("pairs", "broken"))
    interval = clopper_pearson(broken, total) if total else None
    result = {
        "pairs": total, "broken": broken, "rate_at_most": None if interval is None else interval.high,
        "networks": rows, "seconds": round(time.monotonic() - begun, 1), "settings": settings,
        "stackelberg": __version__, "torch": torch.__version__,
    }  # fmt: skip
    write_text(path, json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Run until there are enough pairs or the time is up."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--patience", type=int, default=1000, help="queries of the score-based search")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soundness.json"))
    asked = parser.parse_args()
    begun, test = time.monotonic(), data.load("mnist", "test")
    networks = {path.parent.name: models.load(path.parent) for path in sorted(asked.runs.glob("mnist-*/run.json"))}
    rows: dict[str, dict[str, Any]] = {}
    settings = {key: str(value) for key, value in vars(asked).items()} | {"radii": RADII}
    for start in range(0, len(test), BATCH):
        x, y = test.batch(slice(start, start + BATCH))
        for name, model in networks.items():
            for norm, radii in RADII.items():
                row = rows.setdefault(f"{name} {norm}", {"pairs": 0, "broken": 0, "which": []})
                left = torch.ones(len(x), dtype=torch.bool)
                for radius in radii:
                    ball, names = (
                        Ball(norm, radius),
                        ("ibp", "lipschitz", "crown") if radius == radii[0] else ("crown",),
                    )
                    places = left.nonzero()[:, 0]
                    left[places] = proved(model, x[places], y[places], ball, names)
                    places = left.nonzero()[:, 0]
                    if not len(places):
                        break
                    fell = attacked(model, x[places], y[places], ball, asked.patience)
                    row["pairs"] += len(places)
                    row["broken"] += len(fell)
                    row["which"] += [[start + int(places[i]), radius] for i in fell]
                    write(asked.out, rows, begun, settings)
                    pairs = sum(one["pairs"] for one in rows.values())
                    print(f"{time.monotonic() - begun:.0f} s, {pairs} pairs, {name} {norm} {radius:g}", flush=True)
                    if pairs >= asked.pairs or time.monotonic() - begun > 60 * asked.minutes:
                        return


if __name__ == "__main__":
    main()
