"""Is each availability poison as strong as its published code makes it, from the same images, and what does it cost?

The peers are no dependencies. Put checkouts of them, under their own names, into one folder:
HanxunH/Unlearnable-Examples (EM), fshp971/robust-unlearnable-examples (robust EM), lhfowl/adversarial_poisons (TAP,
here "max-targeted"), lafeat/apbench (LSP; needs scikit-learn), vinusankars/Convolution-based-Unlearnability (CUDA, in
no ball) and hong-xian/gue (its solver, on our generator). One that is not there is left out. Each tool moves
the first n images of CIFAR-10 in the same ball, with the same surrogate, optimizer steps and steps of the noise; the
moved images are stored in 8 bits, and the same networks are trained on them and judged on all clean test images,
beside clean and randomly noised ones. Rows are written as they come, and one that is there already is not made again.

    python benchmarks/poison_vs_peers.py --peers checkouts [--methods em lsp] [--tools stackelberg] [--seed 1]
    python benchmarks/poison_vs_peers.py --table
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from attack_step import conditions
from poison_peers import PEERS, Task
from stackelberg import poison
from stackelberg.data import load
from stackelberg.files import write_text
from stackelberg.poison.availability import Moves
from stackelberg.poison.surrogates import Surrogate
from stackelberg.threat import Ball, clopper_pearson

OURS, PLAIN = "stackelberg", "stackelberg, no crops"
CONTROLS = ("clean", "noise")
CROPPING = ("em", "robust-em", "max-targeted")
"""Methods of ours that look through crops and mirror images, as no victim here does, unless they are told not to."""
VICTIMS: dict[str, tuple[int, int]] = {"small-cnn": (16, 12), "lenet5": (6, 12)}
"""The networks that learn from the poison: (width, epochs). The surrogate is the first kind."""
LSP_BALL = Ball("l2", 6 / 255 * math.sqrt(3 * 32 * 32))
"""That of the published code: 6 grey levels in the mean square."""


def ours(method: str, cropped: bool, task: Task) -> Tensor:
    """Our method, as bytes."""
    kind = task.surrogate
    learns: dict[str, Any] = {
        "network": kind.network, "network_width": kind.network_width, "epochs": kind.epochs,
        "batch_size": kind.batch_size, "steps": kind.steps, "last_steps": kind.last_steps, "cropped": cropped,
    }  # fmt: skip
    learns = {"lsp": {}, "gue": {}, "cuda": {"bounded": False}}.get(method, learns)
    if method == "robust-em":
        learns["rival_steps"] = task.rival_steps
    return poison.availability(task.train, task.ball, method, seed=task.seed, device="cpu", **learns).x


def judged(task: Task, moved: Tensor, kind: str = "poisoned") -> dict[str, list[int]]:
    """victim -> [right on clean test images, of how many], the recipe of X06."""
    test, poisoned, found = load("cifar10", "test"), replace(task.train, x=moved), {}
    for victim, (width, epochs) in VICTIMS.items():
        trials = poison.evaluate(
            poisoned, task.train, test, models=(victim,), counters=("none",), shares=(1.0,),
            controls=() if kind == "poisoned" else (kind,), seeds=(task.seed,), width=width, epochs=epochs,
            device="cpu", batch_size=64, precision="float32", augment=-1,
        ).trials  # fmt: skip
        rate = next(trial.test for trial in trials if trial.data == kind)
        found[victim] = [rate.hits, rate.n]
    return found


def row_of(task: Task, make: Callable[[Task], Tensor]) -> dict[str, Any]:
    """What one tool makes, how far it moves, what it costs in processor time and what networks learn from it."""
    torch.manual_seed(task.seed)
    began = time.process_time()
    moved = make(task)
    seconds = time.process_time() - began
    moves = Moves.between(task.train.x, moved, task.ball)
    return {
        "processor_seconds": seconds, "largest_levels": moves.levels, "mean_levels": moves.mean_levels,
        "outside": moves.outside, "right": judged(task, moved),
    }  # fmt: skip


def run(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Every tool that is there on every method that is asked for, and the controls; save after each."""
    train = load("cifar10", "train").take(arguments.n)
    surrogate = Surrogate("small-cnn", 16, arguments.epochs, 64, arguments.steps, arguments.last_steps)
    ball = Ball("linf", 8 / 255)
    key = {"n": len(train), "seed": arguments.seed, "epochs": surrogate.epochs, "steps": surrogate.steps}
    key["last_steps"] = surrogate.last_steps
    jobs: list[tuple[str, str, Callable[[Task], Tensor]]] = []
    for method in arguments.methods or dict.fromkeys(name for name, _ in PEERS):
        jobs.append((method, OURS, partial(ours, method, True)))
        if method in CROPPING:
            jobs.append((method, PLAIN, partial(ours, method, False)))
        jobs += [
            (method, tool, partial(peer, arguments.peers))
            for (name, tool), peer in PEERS.items()
            if name == method and arguments.peers and (arguments.peers / tool).is_dir()
        ]
    jobs = [*((control, "control", lambda task: task.train.x) for control in CONTROLS), *jobs]
    for method, tool, make in jobs:
        mine = key | {"method": method, "tool": tool}
        if tool not in (arguments.tools or (tool,)) or any(
            all(row[name] == value for name, value in mine.items()) for row in rows
        ):
            continue
        task = Task(train, LSP_BALL if method == "lsp" else ball, surrogate, 2, arguments.seed)
        if tool == "control":
            noise = poison.availability(train, ball, "noise", device="cpu").x
            row: dict[str, Any] = mine | {"right": judged(task, noise, method)}
        else:
            row = mine | row_of(task, make)
        rows.append(row | {"when": datetime.now(UTC).isoformat(timespec="seconds")})
        write_text(arguments.out, json.dumps({"conditions": conditions(), "rows": rows}, indent=1) + "\n")
        print(mine, row["right"], f"{row.get('processor_seconds', 0):.1f} s", flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """One line for a method and tool: mean accuracy of each victim over the seeds, and the cost beside ours."""
    judges = " | ".join(f"{victim}, clean test" for victim in VICTIMS)
    lines = [
        f"| method | tool | seeds | {judges} | processor s | ours is |",
        "|---|---|---|" + "---|" * len(VICTIMS) + "---|---|",
    ]
    pairs = dict.fromkeys((row["method"], row["tool"]) for row in rows)
    for method, tool in sorted(pairs, key=lambda pair: (pair[1] != "control", pair[0], pair[1] not in (OURS, PLAIN))):
        some = [row for row in rows if (row["method"], row["tool"]) == (method, tool)]
        accuracy = []
        for victim in VICTIMS:
            hits, n = (sum(row["right"][victim][place] for row in some) for place in (0, 1))
            rate = clopper_pearson(hits, n)
            accuracy.append(f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f})")
        cost = fmean(row.get("processor_seconds", 0.0) for row in some)
        base = [row["processor_seconds"] for row in rows if (row["method"], row["tool"]) == (method, OURS)]
        ratio = f"{cost / fmean(base):.1f} times as fast" if base and tool not in (OURS, PLAIN) else ""
        seconds = f"{cost:.1f}" if cost else ""
        lines.append(f"| {method} | {tool} | {len(some)} | {' | '.join(accuracy)} | {seconds} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, or print the table of all that was run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the folder of the checkouts")
    parser.add_argument("--methods", nargs="*", choices=tuple(dict.fromkeys(name for name, _ in PEERS)))
    parser.add_argument("--tools", nargs="*", help=f"of {OURS}, control and the checkouts' names; all if left out")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=6, help="of the surrogate")
    parser.add_argument("--steps", type=int, default=5, help="of the noise at each step of the surrogate")
    parser.add_argument("--last-steps", type=int, default=20, help="of the noise at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", default="benchmarks/results/poison_vs_peers.json")
    arguments = parser.parse_args()
    rows = json.loads(Path(arguments.out).read_text())["rows"] if Path(arguments.out).exists() else []
    if arguments.table:
        print(table(rows))
    else:
        run(arguments, rows)


if __name__ == "__main__":
    main()
