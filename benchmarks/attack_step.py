"""How much faster is one gradient step of an attack here than the plain step that scripts take?

The plain step: float32, the loss differentiated by parameters and input alike (`loss.backward()`), a sign step, a
clamp; once with the model in train mode and once in eval mode. Ours: `Oracle.gradient` and the step and projection of
the ball. All three alternate in one process on the same batch, and the table shows medians.

    python benchmarks/attack_step.py [--widths 16 64] [--batch 128] [--rounds 15]
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackelberg import __version__
from stackelberg.attacks import Oracle, untouched
from stackelberg.files import write_text
from stackelberg.models import build
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy

RADIUS, STEP = 8 / 255, 2 / 255


def plain_step(model: nn.Module, x: Tensor, moved: Tensor, y: Tensor) -> Tensor:
    """One step as training scripts write it."""
    moved = moved.detach().requires_grad_(True)
    model.zero_grad()
    F.cross_entropy(model(moved), y).backward()
    assert moved.grad is not None
    moved = moved.detach() + STEP * moved.grad.sign()
    return torch.min(torch.max(moved, x - RADIUS), x + RADIUS).clamp(0, 1)


def our_step(oracle: Oracle, ball: Ball, x: Tensor, moved: Tensor, y: Tensor) -> Tensor:
    """The same step by the oracle."""
    gradient, _, _ = oracle.gradient(moved, lambda logits: cross_entropy(logits, y))
    return ball.project(moved + STEP * ball.ascent(gradient, moved), x)


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """(wall seconds, processor seconds) of one call, the device waited for."""
    wall, processor = time.perf_counter(), time.process_time()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def measure(width: int, batch: int, rounds: int, device: str) -> dict[str, float | int]:
    """Medians of alternating rounds for a ResNet-18 of this width."""
    model = build("resnet18", 10, (3, 32, 32), width=width, seed=0).to(device)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 3, 32, 32, generator=generator).to(device)
    y = torch.randint(0, 10, (batch,), generator=generator).to(device)
    ball = Ball("linf", RADIUS)
    with untouched(model):
        oracle = Oracle(model)
        oracle.gradient(x, lambda logits: cross_entropy(logits, y))
    steps = {
        "train_mode": lambda: plain_step(model.train(), x, x, y),
        "eval_mode": lambda: plain_step(model.eval(), x, x, y),
        "ours": lambda: our_step(oracle, ball, x, x, y),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            spent = timed(step)
            if number:  # the first round warms up
                times[name].append(spent)
    wall = {name: statistics.median(t[0] for t in spent) for name, spent in times.items()}
    processor = {name: statistics.median(t[1] for t in spent) for name, spent in times.items()}
    return {
        "width": width,
        "batch": batch,
        **{f"{name}_seconds": wall[name] for name in steps},
        **{f"{name}_processor_seconds": processor[name] for name in steps},
        "times_faster_than_train_mode": wall["train_mode"] / wall["ours"],
        "times_faster_than_eval_mode": wall["eval_mode"] / wall["ours"],
    }


def conditions() -> dict[str, object]:
    """Under what a number was measured."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "stackelberg": __version__,
        "torch": torch.__version__,
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "load": os.getloadavg()[0],
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64], help="of the ResNet-18")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", default="benchmarks/results/attack_step.json")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    print(f"{'width':>5} {'plain, train':>13} {'plain, eval':>13} {'ours':>10} {'x train':>8} {'x eval':>7}")
    for width in arguments.widths:
        row = measure(width, arguments.batch, arguments.rounds, device)
        rows.append(row)
        print(
            f"{width:>5} {row['train_mode_seconds']:>11.4f} s {row['eval_mode_seconds']:>11.4f} s"
            f" {row['ours_seconds']:>8.4f} s"
            f" {row['times_faster_than_train_mode']:>8.2f} {row['times_faster_than_eval_mode']:>7.2f}",
            flush=True,
        )
    write_text(arguments.out, json.dumps({"conditions": conditions(), "rows": rows}, indent=1) + "\n")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
