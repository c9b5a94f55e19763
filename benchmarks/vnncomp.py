"""How many of the verification competition's properties are decided, on one core, in a time limit?

    git clone https://github.com/stanleybak/vnncomp2021
    python benchmarks/vnncomp.py vnncomp2021/benchmarks --name ours [--seconds 30] [--each 12] [--processor]

Of each network of ACAS Xu, mnistfc and cifar10_resnet so many properties are taken at equal steps through the
competition's own list, and asked as `stackelberg certify --onnx --vnnlib` asks them. Answers are written to --out as
they come, and those there already are not asked again.
"""

import argparse
import csv
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from attack_step import conditions
from stackelberg.cli.certify import answered
from stackelberg.files import write_text

FAMILIES = ("acasxu", "mnistfc", "cifar10_resnet")


def instances(folder: Path, family: str, each: int) -> list[tuple[str, str]]:
    """(network, property) pairs of a family; of ACAS Xu, whose networks are alike, three times as many of them all."""
    with (folder / family / f"{family}_instances.csv").open() as file:
        listed = [(row[0], row[1]) for row in csv.reader(file) if row]
    if family == "acasxu":
        return _spread(listed, 3 * each)
    networks = dict.fromkeys(network for network, _ in listed)
    return [pair for name in networks for pair in _spread([pair for pair in listed if pair[0] == name], each)]


def _spread(listed: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    steps = min(count, len(listed))
    return [listed[i * len(listed) // steps] for i in range(steps)]


def kind(row: dict[str, Any]) -> str:
    """The line of the table."""
    return row["family"] if row["family"] == "acasxu" else f"{row['family']} {Path(row['network']).stem}"


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """A line for each network, a column for each run, of the properties all runs have been asked."""
    asked = [{(row["network"], row["property"]) for row in rows} for rows in runs.values()]
    common = set.intersection(*asked)
    lines = ["| network | properties | " + " | ".join(runs) + " |", "|---" * (2 + len(runs)) + "|"]
    first = [row for row in next(iter(runs.values())) if (row["network"], row["property"]) in common]
    for name, count in Counter(kind(row) for row in first).items():
        cells = []
        for rows in runs.values():
            own = [r for r in rows if kind(r) == name and (r["network"], r["property"]) in common]
            found = Counter(row["verdict"] for row in own)
            cells.append(f"{found['unsat']} unsat, {found['sat']} sat, {found['unknown']} unknown")
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def contradictions(runs: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str]]:
    """Properties that one run calls sat and another unsat."""
    said: dict[tuple[str, str], set[str]] = {}
    for row in (row for rows in runs.values() for row in rows):
        said.setdefault((row["network"], row["property"]), set()).add(row["verdict"])
    return [pair for pair, verdicts in said.items() if {"sat", "unsat"} <= verdicts]


def main() -> None:
    """Ask, or print what has been answered."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="the competition's folder of benchmarks; none to print")
    parser.add_argument("--name", default="ours", help="of the run, the column of the table")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--each", type=int, default=12)
    parser.add_argument("--families", nargs="*", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--processor", action="store_true", help="count processor seconds: what else runs is no matter")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/vnncomp.json"))
    asked = parser.parse_args()
    if asked.processor:
        time.monotonic = time.process_time
    runs: dict[str, Any] = json.loads(asked.out.read_text())["runs"] if asked.out.exists() else {}
    for family in asked.families if asked.folder else ():
        rows = runs.setdefault(asked.name, [])
        done = {(row["network"], row["property"]) for row in rows}
        for network, wanted in instances(asked.folder, family, asked.each):
            if (network, wanted) in done:
                continue
            begun = time.monotonic()
            answer = answered(asked.folder / family / network, asked.folder / family / wanted, asked.seconds)
            rows.append({
                "family": family, "network": network, "property": wanted, "verdict": answer.verdict,
                "seconds": round(time.monotonic() - begun, 2), "limit": asked.seconds, "processor": asked.processor,
            })  # fmt: skip
            write_text(asked.out, json.dumps({"conditions": conditions(), "runs": runs}, indent=1) + "\n")
            print(f"{network} {wanted}: {answer.verdict}, {rows[-1]['seconds']} s", flush=True)
    print(table(runs))
    for network, wanted in contradictions(runs):
        print(f"CONTRADICTION: {network} {wanted}")


if __name__ == "__main__":
    main()
