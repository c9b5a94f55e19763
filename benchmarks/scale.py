"""What does each job cost as it grows?  Measured small, extrapolated by a power law, checked at one larger size.

    python benchmarks/scale.py            writes benchmarks/results/scale.json and docs/scale.md

Processor seconds of one thread, so that a busy machine does not move them much. The power is fitted to the small sizes
(least squares of the logarithms) and predicts the larger one, which is then measured.
"""

import json
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


def audited(n: int) -> Callable[[], object]:
    train, test = sb.data.load("digits", "train"), sb.data.load("digits", "test")
    net = sb.models.build("small-cnn", classes=10, shape=train.shape, seed=0)
    ball = sb.Ball("linf", 0.1)
    best = sb.solve(sb.games.Adversarial(ball, steps=3), net, train, 6, progress=False, device="cpu").best
    return lambda: sb.audit(best, test, ball, n, gallery=0)


def bounded(width: int) -> Callable[[], object]:
    net = sb.models.build("mlp", classes=10, shape=(1, 28, 28), width=width, seed=0).eval()
    x, y = noise(8).batch(slice(None))
    return lambda: sb.certify.crown(net, x, y, sb.Ball("linf", 0.02))


def separated(n: int) -> Callable[[], object]:
    train = sb.data.load("mnist", "train").take(n)
    return lambda: sb.memorize.separation(train.x, train.y)


def answered(n: int) -> Callable[[], object]:
    train = sb.data.load("mnist", "train")
    net, asked = sb.memorize.optimal(train.x[:n], train.y[:n]), sb.data.load("mnist", "test").x[:2000]
    return lambda: net.predict(asked)


JOBS = (
    Job("one epoch of adversarial training, 5 steps, small-cnn", "training images", (1000, 2000, 4000, 16_000), epoch,
        "steps + 1, and the network's cost"),
    Job("PGD-5 on 64 images, ResNet-18", "width", (4, 8, 16, 32), step, "images and steps, each proportional"),
    Job("audit, effort standard, digits", "test images", (45, 90, 180, 355), audited,
        "how many stand: what falls early costs little"),
    Job("CROWN on 8 images, mlp of two hidden layers", "width", (64, 128, 256, 512), bounded, "images, proportional"),
    Job("exact separation, MNIST, linf", "images", (4000, 8000, 16_000, 60_000), separated,
        "how close the classes are: a smaller separation lets the sieve decide less"),
    Job("2,000 queries of the optimal memorizer, MNIST", "stored images", (4000, 8000, 16_000, 60_000), answered,
        "queries, proportional"),
)  # fmt: skip


def seconds(timed: Callable[[], object], times: int = 2) -> float:
    """The smaller of two runs, processor time of this process."""
    found = []
    for _ in range(times):
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


def page(costs: list[Cost], processor: str) -> str:
    lines = [
        "# What does it cost at another size?",
        "",
        "Written by `python benchmarks/scale.py`; nothing here is typed in by hand. Processor seconds of one thread on",
        f"{processor}. The power is fitted to all sizes but the last, which it predicts.",
        "",
        "| job | size | seconds at the sizes | power | largest: predicted | measured | also depends on |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in costs:
        sizes = ", ".join(f"{s:,}" for s in c.sizes)
        took = ", ".join(f"{s:.3g}" for s in c.seconds)
        lines.append(
            f"| {c.name} | {c.unit}: {sizes} | {took} | {c.power:.2f} | {c.predicted:.3g} | {c.seconds[-1]:.3g} |"
            f" {c.room} |"
        )
    lines += [
        "",
        "Devices: training and audits share whole batches, so p processes take about 1/p of the time as long as each",
        "has several batches; the gradient is averaged once a step, 4 bytes a parameter. An audit of n images at batch",
        "size b can use n/b processes. Memory: images stay bytes (CIFAR-10: 150 MB); a network's activations are those",
        "of one batch; a memorizer holds its stored images as bytes and its layers one at a time.",
        "",
        "Larger models: the attack's share of a training is steps/(steps + 1) and more; a step costs one forward and",
        "the backward without the parameters' gradients. Linear bounds grow with the square of a layer's width and",
        "with the number of its unstable units; beyond about 50,000 activations take `lipschitz` or `smoothing`.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    begun = time.perf_counter()
    costs = [cost(job) for job in JOBS]
    where = environment(torch.nn.Identity(), 1, time.perf_counter() - begun)
    target = ROOT / "benchmarks" / "results" / "scale.json"
    record = {"environment": where.model_dump(), "costs": [asdict(c) for c in costs]}
    write_text(target, json.dumps(record, indent=1) + "\n")
    write_text(ROOT / "docs" / "scale.md", page(costs, where.processor))
