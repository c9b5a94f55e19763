"""Is the suite as strong as AutoAttack's standard version, and how much faster, on the same examples?

AutoAttack (github.com/fra31/auto-attack) is no dependency: put a checkout of it on PYTHONPATH, else only ours runs.
Processor seconds are compared beside wall seconds, since they hardly move with the load of the machine.

    PYTHONPATH=auto-attack python benchmarks/suite_vs_peers.py runs/a --data cifar10 --eps 8/255 [--norm linf] [--n 256]
"""

import argparse
import importlib.util
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from attack_step import conditions
from stackelberg.attacks import suite
from stackelberg.data import load
from stackelberg.files import write_text
from stackelberg.models import load as load_model
from stackelberg.threat import Ball, parse_radius

PEER_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def by_autoattack(model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """The standard version, fixed seed."""
    from autoattack import AutoAttack  # pyright: ignore[reportMissingImports]

    attack = AutoAttack(
        model,
        norm=PEER_NORMS[ball.norm],
        eps=ball.radius,
        seed=0,
        version="standard",
        device=str(x.device),
        verbose=False,
    )
    return attack.run_standard_evaluation(x, y, bs=256)


def by_us(model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """The suite at its standard effort."""
    return suite(ball)(model, x, y)


def main() -> None:
    """Run both on the same examples, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="a run directory, or anything else that models.load reads")
    parser.add_argument("--data", required=True)
    parser.add_argument("--norm", default="linf", choices=list(PEER_NORMS))
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--out", default="benchmarks/results/suite_vs_peers.json")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    x, y = load(arguments.data, "test").take(arguments.n).batch(slice(None))
    ball = Ball(arguments.norm, parse_radius(arguments.eps))
    tools = {"stackelberg": by_us}
    if importlib.util.find_spec("autoattack") is not None:
        tools["autoattack"] = by_autoattack
    rows = []
    with torch.no_grad():
        clean = int((model(x).argmax(1) == y).sum())
    for name, attack in tools.items():
        wall, processor = time.perf_counter(), time.process_time()
        moved = attack(model, x, y, ball)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        with torch.no_grad():
            robust = int((model(moved).argmax(1) == y).sum())
        rows.append({"tool": name, "robust": robust, "seconds": wall, "processor_seconds": processor})
        print(
            f"{name:>12}: {robust} of {len(x)} stand ({clean} right unmoved), {wall:.1f} s, processor {processor:.1f} s"
        )
    result = {
        "conditions": conditions(),
        "model": Path(arguments.model).name,
        "data": arguments.data,
        "norm": ball.norm,
        "radius": ball.radius,
        "n": len(x),
        "clean": clean,
        "rows": rows,
    }
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
