"""Are backdoors, aimed poison and their detectors as strong as public ones on the same images and networks?  As fast?

What the peers need to run is said in `planted_peers`; ART must be importable, and a checkout that is not there is left
out. Rows are written as they come, and one that is there already is not made again.

- detect: a network trained on MNIST with a BadNets patch, and one trained on clean images, are looked at by both.
- backdoor: the same CIFAR-10 images of the target class are poisoned at 16/255, labels kept, by both tools with one
  surrogate and as many steps; the same victim learns from either, and success is counted on other classes' test images.
- aimed: known features get a new head on data of which a twentieth is poisoned, for pairs of a test image and a class.

    PYTHONPATH=art python benchmarks/planted_vs_peers.py --peers checkouts [--parts detect backdoor aimed] [--seed 1]
    python benchmarks/planted_vs_peers.py --table
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import planted_peers as peers
from attack_step import conditions
from stackelberg import poison
from stackelberg.data import Dataset, load
from stackelberg.files import write_text
from stackelberg.poison.learner import accuracy, learn, logits
from stackelberg.poison.trigger import patch
from stackelberg.threat import Ball, clopper_pearson

OURS, ART, SCRIPT, BULLSEYE = "stackelberg", "ART", "backdoor-attack", "BullseyePoison"
BALL, STEPS, TARGET = Ball("linf", 16 / 255), 20, 0
NETWORK = ("resnet18", 8, 12)
"""Victims, and F_1 of other weights: (name, width, epochs)."""
F2_IMAGES, F2_EPOCHS, F2_INNER = 1000, 8, 10
"""Of the clean-label trigger's second net, for both tools."""
INSET = 4
"""Of a patch from the edges: the victims crop by as much."""
DETECT_RATE = 0.02
"""Poisoned share where poison is to be found; ten times as much of the target class."""
AIMED_STEPS, PAIRS = 100, 30


@dataclass(frozen=True)
class Setting:
    """What is poisoned and judged.

    Attributes:
        train: the first images.
        test: all test images.
        rate: poisoned share.
        seed: of networks and choices.
        folder: of the checkouts, if any.
    """

    train: Dataset
    test: Dataset
    rate: float
    seed: int
    folder: Path | None

    def victim(self, data: Dataset) -> nn.Module:
        """A network trained on this data, always from the same weights."""
        return learn(data, *NETWORK, self.seed, augment=4)

    def surrogate(self) -> nn.Module:
        """A network of the same kind and other weights, trained on half of the clean images."""
        return poison.surrogate_of(self.train, *NETWORK, seed=self.seed, radius=0)


Row = dict[str, Any]
Jobs = Iterator[tuple[Row, Callable[[], Row]]]
"""(what names a row, what makes the rest of it)."""


def detect(setting: Setting) -> Jobs:
    """Each detector of both tools, on poisoned and on clean digits, whose patch a small network soon learns."""
    train, test = load("mnist", "train").take(len(setting.train)), load("mnist", "test")
    made = poison.backdoor(train, method="badnets", target=TARGET, rate=DETECT_RATE, seed=setting.seed)
    found: dict[str, nn.Module] = {}

    def flagged(kind: str, tool: str, data: Dataset, name: str) -> Row:
        if name not in found:
            found[name] = learn(data, "small-cnn", 16, 5, setting.seed)
        model = found[name]
        share = DETECT_RATE * 10 / (1 + DETECT_RATE * 10)
        ours = {
            "activation clustering": lambda: poison.activation_clustering(model, data).flagged,
            "spectral signatures": lambda: poison.spectral_signatures(model, data, share).flagged,
        }
        began = time.process_time()
        flags = ours[kind]() if tool == OURS else peers.DETECTORS[kind](model, data, share)
        seconds = time.process_time() - began
        bad = torch.zeros_like(flags)
        if data is made.data:
            bad[made.index] = True
        learnt = poison.attack_success(model, test, made.trigger)
        return {
            "of_poison": [int(flags[bad].sum()), int(bad.sum())],
            "of_rest": [int(flags[~bad].sum()), int((~bad).sum())],
            "trigger_learnt": [learnt.hits, learnt.n],
            "processor_seconds": seconds,
        }

    for name, data in (("badnets", made.data), ("clean", train)):
        for kind in peers.DETECTORS:
            for tool in (OURS, ART):
                yield (
                    {"part": "detect", "method": f"{kind}, {name}", "tool": tool},
                    lambda kind=kind, tool=tool, data=data, name=name: flagged(kind, tool, data, name),
                )


def backdoor(setting: Setting) -> Jobs:
    """The two poisons with true labels: each tool's images, the same victim."""
    train = setting.train
    stamp = patch(train.shape, TARGET, len(train.classes), 3, corners=4, inset=INSET)
    chosen = poison.backdoor(train, BALL, target=TARGET, rate=setting.rate, trigger=stamp, seed=setting.seed).index
    x, y = train.batch(chosen)
    others = setting.test.take((setting.test.y != TARGET).nonzero()[:1000, 0])
    kept: dict[str, nn.Module] = {}

    def once(name: str, train_it: Callable[[], nn.Module]) -> nn.Module:
        if name not in kept:
            kept[name] = train_it()
        return kept[name]

    def judged(moved: Tensor, where: Tensor, triggered: Tensor, seconds: float) -> Row:
        """Poisoned images and triggered test images, rounded and kept in [0, 1] for both tools."""
        pixels = train.x.clone()
        pixels[where] = (moved * 255).round().clamp(0, 255).to(torch.uint8)
        control = once("control", lambda: setting.victim(train))
        victim, seen = setting.victim(replace(train, x=pixels)), triggered.clamp(0, 1)
        hits = [int((logits(net, seen).argmax(1) == TARGET).sum()) for net in (victim, control)]
        right = accuracy(victim, setting.test)
        return {
            "success": [hits[0], len(seen)], "control": [hits[1], len(seen)], "clean": [right.hits, right.n],
            "processor_seconds": seconds,
        }  # fmt: skip

    def consistent(tool: str) -> Row:
        f_1, began = once("F_1", setting.surrogate), time.process_time()
        if tool == OURS:
            made = poison.backdoor(
                train,
                BALL,
                "label-consistent",
                target=TARGET,
                rate=setting.rate,
                surrogate=f_1,
                inset=INSET,
                seed=setting.seed,
            )
            moved, where = made.data.batch(made.index)[0], made.index
        else:
            where = (train.y == TARGET).nonzero()[:, 0]
            np.random.seed(setting.seed)
            moved = peers.consistent_by_art(
                f_1, train.batch(where)[0], len(chosen), TARGET, len(train.classes), BALL.radius, STEPS, stamp
            )
        seconds = time.process_time() - began
        return judged(moved, where, stamp(others.batch(slice(None))[0]), seconds)

    def two_part(tool: str) -> Row:
        f_1, began = once("F_1", setting.surrogate), time.process_time()
        if tool == OURS:
            trigger: Callable[[Tensor, Tensor], Tensor] = poison.two_part(
                train, BALL, TARGET, f_1, images=F2_IMAGES, epochs=F2_EPOCHS, inner=F2_INNER, seed=setting.seed
            )
        else:
            assert setting.folder is not None
            torch.manual_seed(setting.seed)
            trigger = peers.Script(setting.folder / SCRIPT, f_1, train, BALL, F2_IMAGES, F2_EPOCHS, F2_INNER)
        moved, triggered = trigger(x, y), trigger(*others.batch(slice(None)))
        seconds = time.process_time() - began
        return judged(moved, chosen, triggered, seconds)

    jobs = [
        ("label-consistent", OURS, consistent),
        ("label-consistent", ART, consistent),
        ("clean-label", OURS, two_part),
    ]
    if setting.folder is not None and (setting.folder / SCRIPT).is_dir():
        jobs.append(("clean-label", SCRIPT, two_part))
    for method, tool, make in jobs:
        yield {"part": "backdoor", "method": method, "tool": tool}, partial(make, tool)


def aimed(setting: Setting) -> Jobs:
    """Pairs of a test image and a class, features known: each tool's poison, the same new head."""
    tune = load("cifar10", "train").take(slice(len(setting.train), len(setting.train) + 500))
    kept: dict[str, Any] = {}

    def shots(method: str, poisons: Callable[[peers.Asked], Tensor] | None) -> Row:
        """Over all pairs; by our own method where there is no other."""
        if not kept:
            kept["model"] = learn(setting.train, "small-cnn", 8, 10, setting.seed)
            kept["pairs"] = _pairs(kept["model"], poison.new_head(kept["model"], tune), setting)
        model, hits, spent, out = kept["model"], 0, 0.0, 0
        for turn, (image, wish) in enumerate(kept["pairs"]):
            began = time.process_time()
            made = poison.targeted(
                tune, model, image, wish, BALL, method, rate=0.05, steps=AIMED_STEPS if poisons is None else 1,
                seed=turn,
            )  # fmt: skip
            data = made.data
            if poisons is not None:  # the same base images
                x, y = tune.batch(made.index)
                np.random.seed(turn)
                torch.manual_seed(turn)
                began = time.process_time()
                moved = poisons(peers.Asked(model, x, y, image, BALL.radius, AIMED_STEPS))
                pixels = tune.x.clone()
                pixels[made.index] = (moved * 255).round().clamp(0, 255).to(torch.uint8)
                data = replace(tune, x=pixels)
            spent += time.process_time() - began
            moves = (data.x[made.index].int() - tune.x[made.index].int()).abs().amax((1, 2, 3))
            out += int((moves > 16).sum())
            hits += made.hit(poison.new_head(model, data))
        return {"success": [hits, len(kept["pairs"])], "outside": out, "processor_seconds": spent}

    public: dict[str, tuple[str, Callable[[peers.Asked], Tensor]]] = {
        "gradient-matching": (ART, peers.matched_by_art),
        "feature-collision": (ART, peers.collided_by_art),
    }
    if setting.folder is not None and (setting.folder / BULLSEYE).is_dir():
        public["bullseye"] = BULLSEYE, partial(peers.bullseye_by_authors, setting.folder / BULLSEYE)
    for method in poison.TARGETED:
        named = {"part": "aimed", "method": method}
        yield named | {"tool": OURS}, partial(shots, method, None)
        if method in public:
            tool, poisons = public[method]
            yield named | {"tool": tool}, partial(shots, method, poisons)


def _pairs(model: nn.Module, control: nn.Module, setting: Setting) -> list[tuple[Tensor, int]]:
    """Test images that network and control have right, each with a random other class."""
    some = setting.test.take(slice(1000, 2000))
    x, y = some.batch(slice(None))
    right = (logits(model, x).argmax(1) == y) & (logits(control, x).argmax(1) == y)
    draw = torch.Generator().manual_seed(setting.seed)
    places = right.nonzero()[:, 0][torch.randperm(int(right.sum()), generator=draw)[:PAIRS]]
    return [(x[place : place + 1], int((y[place] + 1 + torch.randint(9, (), generator=draw)) % 10)) for place in places]


PARTS: dict[str, Callable[[Setting], Jobs]] = {"detect": detect, "backdoor": backdoor, "aimed": aimed}


def table(rows: list[Row]) -> str:
    """One line for each row: shares with their 95 % intervals."""
    lines = ["| part | method | tool | seed | found | processor s |", "|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row["part"], row["method"], row["seed"], row["tool"] != OURS)):
        shares = [
            f"{name.replace('_', ' ')} {clopper_pearson(*value)}"
            for name, value in row.items()
            if isinstance(value, list) and value[1]
        ]
        if row.get("outside"):
            shares.append(f"{row['outside']} images outside the ball")
        words = "; ".join(shares)
        lines.append(
            f"| {row['part']} | {row['method']} | {row['tool']} | {row['seed']} | {words} |"
            f" {row['processor_seconds']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make the rows that are asked for and not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, help="folder of the checkouts")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--n", type=int, default=10000, help="training images")
    parser.add_argument("--rate", type=float, default=0.05, help="poisoned share of backdoor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--out", default="benchmarks/results/planted_vs_peers.json")
    arguments = parser.parse_args()
    path = Path(arguments.out)
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    if arguments.table:
        print(table(rows))
        return
    train, test = load("cifar10", "train").take(arguments.n), load("cifar10", "test")
    setting = Setting(train, test, arguments.rate, arguments.seed, arguments.peers)
    for part in arguments.parts:
        for named, make in PARTS[part](setting):
            mine = named | {"n": arguments.n, "rate": arguments.rate, "seed": arguments.seed}
            if any(all(row[name] == value for name, value in mine.items()) for row in rows):
                continue
            row = mine | make() | {"when": datetime.now(UTC).isoformat(timespec="seconds")}
            rows.append(row)
            write_text(arguments.out, json.dumps({"conditions": conditions(), "rows": rows}, indent=1) + "\n")
            print(table([row]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
