"""What does each job cost as it grows?  Measured small, extrapolated by a power law, checked at one larger size.

    python benchmarks/scale.py               writes benchmarks/results/scale.json and docs/scale.md
    python benchmarks/scale.py --only WORD   measures the jobs with this word in their names again, keeps the others
    python benchmarks/scale.py --page        writes docs/scale.md anew from the figures that are there

Processor seconds of one thread, so that a busy machine does not move them much. The power is fitted to the small sizes
(least squares of the logarithms) and predicts the larger one, which is then measured. How a training is shared by
processes is measured by the clock, so that part wants as many idle cores.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import stackelberg as sb
from stackelberg.data import Dataset
from stackelberg.files import write_text
from stackelberg.report.surroundings import environment

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "scale.json"


@dataclass(frozen=True)
class Job:
    """A job at several sizes.

    Attributes:
        name: what is done.
        unit: of the size.
        sizes: at which it is measured; the last is the check.
        make: from a size to what is timed.
        room: what else it depends on, in words.
    """

    name: str
    unit: str
    sizes: tuple[int, ...]
    make: Callable[[int], Callable[[], object]]
    room: str


@dataclass(frozen=True)
class Cost:
    """What came out: seconds = factor * size ** power on the small sizes; the larger one predicted and measured."""

    name: str
    unit: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    power: float
    predicted: float
    room: str


def noise(n: int, shape: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> Dataset:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, *shape), generator=draw, dtype=torch.uint8)
    return Dataset(x, torch.arange(n) % classes, [str(c) for c in range(classes)], "noise")


def epoch(n: int) -> Callable[[], object]:
    train, ball = noise(n + 100), sb.Ball("linf", 0.1)
    net = sb.models.build("small-cnn", classes=10, shape=(1, 28, 28), seed=0)
    game = sb.games.Adversarial(ball, steps=5)
    return lambda: sb.solve(game, net, train, 1, progress=False, device="cpu", held_out=100, check_steps=1)


def step(width: int) -> Callable[[], object]:
    net = sb.models.build("resnet18", classes=10, shape=(3, 32, 32), width=width, seed=0).eval()
    x, y = noise(64, (3, 32, 32)).batch(slice(None))
    attack = sb.attacks.PGD(sb.Ball("linf", 8 / 255), steps=5)
    return lambda: attack(net, x, y)


def pixels(d: int) -> Callable[[], object]:
    side = math.isqrt(d // 3)
    net = sb.models.build("small-cnn", classes=10, shape=(3, side, side), width=16, seed=0).eval()
    x, y = noise(64, (3, side, side)).batch(slice(None))
    attack = sb.attacks.PGD(sb.Ball("linf", 8 / 255), steps=5)
    return lambda: attack(net, x, y)


def audited(n: int) -> Callable[[], object]:
    train, test = sb.data.load("digits", "train"), sb.data.load("digits", "test")
    net = sb.models.build("small-cnn", classes=10, shape=train.shape, seed=0)
    ball = sb.Ball("linf", 0.1)
    best = sb.solve(sb.games.Adversarial(ball, steps=3), net, train, 6, progress=False, device="cpu").best
    return lambda: sb.audit(best, test, ball, n, gallery=0, effort="fast")


def bounded(width: int) -> Callable[[], object]:
    net = sb.models.build("mlp", classes=10, shape=(1, 28, 28), width=width, seed=0).eval()
    x, y = noise(8).batch(slice(None))
    return lambda: sb.certify.crown(net, x, y, sb.Ball("linf", 0.02))


def separated(n: int) -> Callable[[], object]:
    train = sb.data.load("mnist", "train").take(n)
    return lambda: sb.memorize.separation(train.x, train.y)


def spaced(d: int) -> Callable[[], object]:
    train = sb.data.resized(sb.data.load("mnist", "train").take(4000), math.isqrt(d))
    return lambda: sb.memorize.separation(train.x, train.y)


def answered(n: int) -> Callable[[], object]:
    train = sb.data.load("mnist", "train")
    net, asked = sb.memorize.optimal(train.x[:n], train.y[:n]), sb.data.load("mnist", "test").x[:2000]
    return lambda: net.predict(asked)


JOBS = (
    Job("an epoch of adversarial training, 5 steps, small-cnn", "training images N", (1000, 2000, 4000, 8000), epoch,
        "the steps: 1 + steps passes; the network"),
    Job("PGD-5 on 64 images, ResNet-18", "width; parameters are its square", (12, 16, 24, 48), step,
        "images and steps, both in proportion"),
    Job("PGD-5 on 64 images, small-cnn", "inputs d", (12_288, 27_648, 49_152, 110_592), pixels,
        "images and steps, both in proportion"),
    Job("an audit, effort fast, digits", "test images n", (45, 90, 180, 355), audited,
        "how many stand: what falls early costs little"),
    Job("CROWN on 8 images, mlp of two hidden layers", "width", (64, 128, 256, 512), bounded,
        "images, in proportion; how many units are open"),
    Job("exact separation, MNIST, linf", "images N", (15_000, 20_000, 30_000, 60_000), separated,
        "how near the classes are: the nearer, the less the sieve decides"),
    Job("exact separation, 4,000 of MNIST resized, linf", "inputs d", (196, 400, 784, 3136), spaced,
        "how near the classes are"),
    Job("2,000 queries of the optimal memorizer, MNIST", "stored images N", (4000, 8000, 16_000, 60_000), answered,
        "queries, in proportion"),
)  # fmt: skip


def seconds(timed: Callable[[], object], enough: float = 10.0) -> float:
    """Processor time of this process: the smaller of two runs, or that of one which took `enough` seconds."""
    found: list[float] = []
    while len(found) < 2 and sum(found) < enough:
        begun = time.process_time()
        timed()
        found.append(time.process_time() - begun)
    return min(found)


def cost(job: Job) -> Cost:
    found = [seconds(job.make(size)) for size in job.sizes]
    power, factor = np.polyfit(np.log(job.sizes[:-1]), np.log(found[:-1]), 1)
    predicted = float(np.exp(factor + power * np.log(job.sizes[-1])))
    print(f"{job.name}: power {power:.2f}, {predicted:.2f} s predicted, {found[-1]:.2f} s measured", flush=True)
    return Cost(job.name, job.unit, job.sizes, tuple(found), float(power), predicted, job.room)


def shared(images: int = 4000, epochs: int = 3, most: int = 2) -> list[float]:
    """Clock seconds of an epoch of adversarial training in 1, 2, ... `most` processes of one thread each."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split in ("train", "test"):
            sb.data.save_parquet(sb.data.load("mnist", split).take(images), folder / f"{split}.parquet")
        for processes in range(1, most + 1):
            out = folder / f"run-{processes}"
            words = ["train", "--data", str(folder), "--model", "small-cnn", "--game", "at", "--eps", "0.1"]
            words += ["--epochs", str(epochs), "--devices", str(processes), "--device", "cpu", "--out", str(out)]
            subprocess.run(
                [sys.executable, "-m", "stackelberg", *words], check=True, capture_output=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            history = json.loads((out / "run.json").read_text(encoding="utf-8"))["history"]
            found.append(min(record["seconds"] for record in history[1:]))
            print(f"{processes} processes: {found[-1]:.2f} s an epoch", flush=True)
    return found


def page(costs: list[Cost], epochs: list[float], processor: str) -> str:
    lines = [
        "# What does it cost at another size?",
        "",
        "Written by `python benchmarks/scale.py`; nothing here is typed in by hand. Processor seconds of one thread on",
        f"{processor}. The power is fitted to all sizes but the last; what it predicts for the last stands beside what",
        "was then measured there.",
        "",
        "| job | size | seconds at the sizes | power | last: predicted | measured | also depends on |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in costs:
        sizes = ", ".join(f"{s:,}" for s in c.sizes)
        took = ", ".join(f"{s:.3g}" for s in c.seconds[:-1])
        lines.append(
            f"| {c.name} | {c.unit}: {sizes} | {took} | {c.power:.2f} | {c.predicted:.3g} | {c.seconds[-1]:.3g} |"
            f" {c.room} |"
        )
    by_clock = ", ".join(
        f"{p} {'process' if p == 1 else 'processes'} {s:.2f} s (predicted {epochs[0] / p:.2f})"
        for p, s in enumerate(epochs, 1)
    )
    by_clock = by_clock or "not measured yet; `--only processes` does it, on idle cores"
    lines += [
        "",
        "A power well below what the job must cost (1 in images and inputs, 2 in width) says that small sizes pay",
        "mostly what does not grow, and then the prediction is too low: measure near the size you mean. On a machine",
        "that others use, processor seconds scatter, too.",
        "",
        "**Devices.** Training and audits share whole batches, so p processes are predicted to take 1/p of the time as",
        "long as each has several batches; the gradient is averaged once a step, 4 bytes a parameter. An audit of n",
        "images at batch size b can use n/b processes. Rows of `reproduce --all` and cells of `sweep` need nothing of",
        "one another: they run in any number of processes, or on a cluster. By the clock, an epoch of adversarial",
        "training on 4,000 images of MNIST, one thread a process:",
        f"{by_clock}.",
        "",
        "**Memory.** Images stay bytes (CIFAR-10: 150 MB); a network's activations are those of one batch; a memorizer",
        "holds its stored images as bytes and its layers one at a time.",
        "",
        "**Larger models.** The attack's share of a training is steps/(steps + 1) and more; a step costs one forward",
        "and the backward without the parameters' gradients. Linear bounds grow with the square of a layer's width and",
        "with the number of its open units; beyond about 50,000 activations take `lipschitz` or `smoothing`.",
    ]
    return "\n".join(lines) + "\n"


def measure(only: str | None) -> None:
    """Measure all jobs, or those with this word in their names, and write the record after each."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    record = json.loads(RESULT.read_text(encoding="utf-8")) if only is not None else {"costs": {}, "epochs": []}
    for name, job in [*((job.name, job) for job in JOBS), ("processes", None)]:
        if only is not None and only not in name:
            continue
        if job is None:
            record["epochs"] = shared()
        else:
            record["costs"][name] = asdict(cost(job))
        record["environment"] = environment(torch.nn.Identity(), 1, time.perf_counter() - begun).model_dump()
        write_text(RESULT, json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", metavar="WORD", help='a part of a job\'s name, or "processes"')
    parser.add_argument("--page", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    if not asked.page:
        measure(asked.only)
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    costs = [Cost(**found["costs"][job.name]) for job in JOBS if job.name in found["costs"]]
    words = page(costs, found["epochs"], found["environment"]["processor"])
    write_text(ROOT / "docs" / "scale.md", words)


if __name__ == "__main__":
    main()
