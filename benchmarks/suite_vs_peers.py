"""Is the suite as strong as AutoAttack's standard version, and how much faster, on the same examples?

The peers are no dependencies. Put a checkout of AutoAttack (github.com/fra31/auto-attack) on PYTHONPATH and install
Foolbox, torchattacks or ART (torchattacks asks for torchvision) to have them run; a tool that is not there is left
out. Rows are written as they come, and a row that is there already is not made again. Processor seconds stand beside
wall seconds, since they hardly move with the load of the machine. Two tables: AutoAttack beside the suite, and the PGD
of 50 steps of other tools beside ours in few steps that choose their own length, and beside the fast suite, which finds
more and costs more. Ours is Auto-PGD with 14 steps on cross entropy; on colour images 20 on the margin; in l2 10 on the
margin and from far away, where networks trained in linf show errors that they hide nearby.

    PYTHONPATH=auto-attack python benchmarks/suite_vs_peers.py runs/a --data cifar10 --eps 8/255 [--norm l2] [--n 256]
    python benchmarks/suite_vs_peers.py --table
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attack_step import conditions
from peers import PEERS
from stackelberg.attacks import APGD, suite, untouched
from stackelberg.data import load
from stackelberg.exhibits.disguises import Disguised
from stackelberg.files import write_text
from stackelberg.models import load as load_model
from stackelberg.threat import Ball, clopper_pearson, parse_radius

Tool = Callable[[nn.Module, Tensor, Tensor, Ball], Tensor]

OURS: dict[str, Tool] = {
    "stackelberg suite": lambda model, x, y, ball: suite(ball)(model, x, y),
    "stackelberg suite fast": lambda model, x, y, ball: suite(ball, effort="fast")(model, x, y),
    "stackelberg apgd-short": lambda model, x, y, ball: (
        APGD(ball, 10, loss="cw", start="far")
        if ball.norm == "l2"
        else APGD(ball, 14)
        if x.shape[1] == 1
        else APGD(ball, 20, loss="cw")
    )(model, x, y),
}


def measured(tool: Tool, model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> dict[str, float | int]:
    """How many stand after the tool, judged here in float32 and only inside the ball, and what it cost."""
    wall, processor = time.perf_counter(), time.process_time()
    moved = tool(model, x, y, ball)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    with torch.no_grad():
        right = model(x).argmax(1) == y
        fallen = (model(moved).argmax(1) != y) & (ball.distance(moved, x) <= ball.radius * (1 + 1e-5) + 1e-7)
    standing = int((right & ~fallen).sum())
    return {"clean": int(right.sum()), "robust": standing, "seconds": wall, "processor_seconds": processor}


def case(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Run every tool that is asked for on one network, ball and set of examples; save after each."""
    model = load_model(arguments.model)
    if arguments.logits_times != 1.0:
        model = Disguised(model, lambda z: arguments.logits_times * z)
    x, y = load(arguments.data, "test").take(arguments.n).batch(slice(None))
    ball = Ball(arguments.norm, parse_radius(arguments.eps))
    key = {
        "model": Path(arguments.model).name + (f" x{arguments.logits_times:g}" if arguments.logits_times != 1 else ""),
        "data": arguments.data,
        "norm": ball.norm,
        "radius": arguments.eps,
        "n": len(x),
    }
    tools = OURS | {name: tool for name, (module, tool) in PEERS.items() if importlib.util.find_spec(module)}
    for name in arguments.tools or tools:
        old = [row for row in rows if row["tool"] == name and all(row[k] == v for k, v in key.items())]
        if name not in tools or (old and not arguments.again):
            continue
        with untouched(model):
            row = key | {"tool": name} | measured(tools[name], model, x, y, ball)
        row |= {"threads": torch.get_num_threads(), "when": datetime.now(UTC).isoformat(timespec="seconds")}
        rows[:] = [r for r in rows if r not in old] + [row]
        write_text(arguments.out, json.dumps({"conditions": conditions(), "rows": rows}, indent=1) + "\n")
        print(
            f"{name}: {row['robust']} of {row['clean']} stand, processor {row['processor_seconds']:.1f} s", flush=True
        )


KEYS = ("model", "norm", "radius", "n")
BASES = {"stackelberg suite": ("AutoAttack standard",), "stackelberg apgd-short": tuple(PEERS)[1:]}
"""What stands in one table: ours, to whose processor time the ratios are, and the others."""


def table(rows: list[dict[str, Any]], base: str) -> str:
    """One line for a network, ball and tool: what stands, its interval, and the ratio of processor time to `base`."""
    lines = [
        f"| network | ball | n | tool | robust accuracy (95 % interval) | processor s | times {base} |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = (base,) if base == "stackelberg suite" else tuple(name for name in OURS if name != "stackelberg suite")
    for row in sorted(rows, key=lambda row: (*(str(row[k]) for k in KEYS), row["tool"] not in OURS, row["tool"])):
        bases = [r for r in rows if r["tool"] == base and all(r[k] == row[k] for k in KEYS)]
        if not bases or row["tool"] not in (*ours, *BASES[base]):
            continue
        rate = clopper_pearson(row["robust"], row["n"])
        lines.append(
            f"| {row['model']} | {row['norm']} {row['radius']} | {row['n']} | {row['tool']} | "
            f"{row['robust']}/{row['n']} = {rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f}) | "
            f"{row['processor_seconds']:.1f} | {row['processor_seconds'] / bases[0]['processor_seconds']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run a case, or print the table of all that were run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="a run directory, or anything else that models.load reads")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--norm", default="linf", choices=["linf", "l2", "l1"])
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--logits-times", type=float, default=1.0)
    parser.add_argument("--tools", nargs="*")
    parser.add_argument("--again", action="store_true", help="make rows again that are there already")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", default="benchmarks/results/suite_vs_peers.json")
    arguments = parser.parse_args()
    rows = json.loads(Path(arguments.out).read_text())["rows"] if Path(arguments.out).exists() else []
    if arguments.model is not None:
        case(arguments, rows)
    if arguments.table:
        print("\n\n".join(table(rows, base) for base in BASES))


if __name__ == "__main__":
    main()
