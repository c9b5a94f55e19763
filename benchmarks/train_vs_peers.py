"""How much faster is adversarial training here than by public trainers, a step and up to a fixed robust accuracy?

Two parts, both in one process on one machine. `--steps`: the same ResNet-18 of width 16 on CIFAR-10, the same attack
(linf 8/255, 10 steps of 2/255), the same batches of 128; a step of theirs, then a step of ours, and so on; medians.
`--reach ACCURACY`: a smaller network on a part of a data set; after each epoch the fast suite is asked how many of
`--judged` held-out images stand, and the seconds of all steps until that share is reached are the time. The checks do
not count, nor does making the peers' batches; ours are made inside the time. Ours runs with the same games, and with
the one that is cheapest, `SingleStep`; by a schedule of `--ours` epochs, which must be chosen before, while the peers
keep the learning rate that they start with. What the peers need to run is said in `peer_trainers`; one that is not
there is left out. Processor seconds stand beside wall seconds, since they hardly move with the load of the machine.

    PYTHONPATH=SR-WDRO:MAIR OMP_NUM_THREADS=2 python benchmarks/train_vs_peers.py --steps
    PYTHONPATH=SR-WDRO:MAIR OMP_NUM_THREADS=1 python benchmarks/train_vs_peers.py --reach 0.25 [--trainers "MAIR AT"]
"""

import argparse
import importlib.util
import json
import statistics
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attack_step import conditions
from peer_trainers import PEERS, RADIUS, STEP, STEPS, Lessons, clocks, since
from stackelberg import games
from stackelberg.attacks import suite
from stackelberg.data import Dataset, load
from stackelberg.files import write_text
from stackelberg.games import Game, loop, processes
from stackelberg.games.recipe import Recipe
from stackelberg.games.training import prepare
from stackelberg.models import build
from stackelberg.threat import Ball, clopper_pearson

BALL = Ball("linf", RADIUS)
SAME: dict[str, Game] = {
    "SR-WDRO script": games.StatisticallyRobust(games.WassersteinDRO(BALL, STEPS, STEP), gamma=0.1),
    "SR-WDRO script, gamma 0": games.WassersteinDRO(BALL, STEPS, STEP),
}
"""The game that a peer plays; adversarial training if it is not here."""
MADRY = games.Adversarial(BALL, steps=STEPS, step=STEP)
OURS: dict[str, Game] = {
    "stackelberg SR-WDRO": SAME["SR-WDRO script"],
    "stackelberg AT": MADRY,
    "stackelberg fast": games.SingleStep(BALL, steps=STEPS, step=STEP),
}


class Reached(Exception):
    """The robust accuracy is there: the training is left."""


def steps(name: str, width: int, rounds: int) -> dict[str, Any]:
    """Medians of a step of this peer and of ours in the same game, taken in turn."""
    train = load("cifar10", "train").take(128 * (rounds + 1) + 1)
    theirs, mine = (build("resnet18", 10, train.shape, width=width, seed=0) for _ in range(2))
    plan = Recipe.suited(mine, train, held_out=1)
    game = SAME.get(name, MADRY)
    fabric = processes.launch("cuda" if torch.cuda.is_available() else "cpu")
    training = prepare(fabric, game, mine, train, 1, plan, 0, None, float("inf"))
    ours: list[tuple[float, float]] = []

    def between(index: Tensor) -> None:
        start = clocks()
        loop._move(training, index, 0)  # pyright: ignore[reportPrivateUsage]
        ours.append(since(start))

    lessons = Lessons(train.take(len(train) - 1), between=between)
    PEERS[name][1](theirs, lessons, 1)
    row: dict[str, Any] = {"trainer": name, "game": game.describe()["name"], "width": width, "rounds": rounds}
    for clock, at in (("", 0), ("processor_", 1)):
        one, other = (statistics.median(t[at] for t in spent[1:]) for spent in (lessons.spent, ours))
        row |= {f"theirs_{clock}seconds": one, f"ours_{clock}seconds": other, f"{clock}ratio": one / other}
    return row | {"precision": training.record["precision"]}


class Race:
    """One training on the way to `goal`, and how far it is.

    Attributes:
        model: that is trained.
        judged: held-out images.
        goal: robust accuracy.
        rows: a record for each epoch.
    """

    def __init__(self, model: nn.Module, judged: Dataset, goal: float) -> None:
        self.model, self.goal, self.rows = model, goal, list[dict[str, Any]]()
        self.x, self.y = judged.batch(slice(None))

    def judge(self, wall: float, processor: float) -> bool:
        """Ask the suite after an epoch, these seconds of training behind; whether the goal is reached."""
        training = self.model.training
        result = suite(BALL, effort="fast").run(self.model.eval(), self.x, self.y)
        self.model.train(training)
        rate = clopper_pearson(result.robust, len(self.y))
        row = {
            "epoch": len(self.rows) + 1, "seconds": wall, "processor_seconds": processor,
            "clean": result.clean_right / len(self.y),
            "robust": {"value": rate.value, "low": rate.low, "high": rate.high},
        }  # fmt: skip
        self.rows.append(row)
        print(f"  epoch {row['epoch']}: {processor:.1f} s, robust {rate}", flush=True)
        return rate.value >= self.goal


def reach_by_peer(name: str, train: Dataset, race: Race, most: int, seed: int) -> None:
    """Train by a peer until the goal, or for `most` epochs."""

    def after_epoch() -> None:
        if race.judge(*(sum(part) for part in zip(*lessons.spent, strict=True))):
            raise Reached

    lessons = Lessons(train, after_epoch=after_epoch, seed=seed)
    torch.manual_seed(seed)
    with suppress(Reached):
        PEERS[name][1](race.model, lessons, most)
        lessons.end()


def reach_by_ours(game: Game, train: Dataset, race: Race, epochs: int, seed: int) -> None:
    """Train by `solve`, by a schedule of `epochs`, until the goal; one example is held out to choose an epoch by."""
    spent = [0.0, 0.0]
    move: Callable[..., float] = loop._move  # pyright: ignore[reportPrivateUsage]

    def timed(*given: Any) -> float:
        start = clocks()
        loss = move(*given)
        for at, seconds in enumerate(since(start)):
            spent[at] += seconds
        return loss

    class Judge:
        """A logger that is told of each epoch's end."""

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            if race.judge(*spent):
                raise Reached

    loop._move = timed
    with suppress(Reached):
        games.solve(
            game, race.model, train, epochs, seed=seed, loggers=[Judge()], progress=False, held_out=1, check_steps=1
        )
    loop._move = move


def reach(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One trainer on its way to the goal."""
    rest, judged = load(arguments.data, "train").split(arguments.judged, seed=7)
    train = rest.take(arguments.n)
    model = build("resnet18", len(train.classes), train.shape, width=arguments.small, seed=arguments.seed)
    race = Race(model, judged, arguments.reach)
    print(name, flush=True)
    if name in OURS:
        reach_by_ours(OURS[name], train, race, arguments.ours, arguments.seed)
    else:
        reach_by_peer(name, train, race, arguments.most, arguments.seed)
    there = next((row for row in race.rows if row["robust"]["value"] >= race.goal), None)
    return {
        "trainer": name, "data": arguments.data, "goal": race.goal, "width": arguments.small, "n": arguments.n,
        "judged": arguments.judged, "seed": arguments.seed, "reached": there, "epochs": race.rows,
        "conditions": conditions(),
    }  # fmt: skip


def main() -> None:
    """Measure what is asked for, and write each row as it comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", action="store_true", help="a step of each peer beside ours")
    parser.add_argument("--reach", type=float, help="robust accuracy up to which training is timed")
    parser.add_argument("--trainers", nargs="*", help="only these")
    parser.add_argument("--width", type=int, default=16, help="of the ResNet-18 whose steps are timed")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data", default="fashion_mnist", help="of --reach")
    parser.add_argument("--small", type=int, default=8, help="width of the ResNet-18 of --reach")
    parser.add_argument("--n", type=int, default=5000, help="training images of --reach")
    parser.add_argument("--judged", type=int, default=500, help="held-out images of --reach")
    parser.add_argument("--ours", type=int, default=10, help="epochs of our schedule in --reach")
    parser.add_argument("--most", type=int, default=40, help="epochs a peer is given in --reach")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="benchmarks/results/train_vs_peers.json")
    arguments = parser.parse_args()
    path = Path(arguments.out)
    found = json.loads(path.read_text()) if path.exists() else {"steps": [], "reach": []}
    here = [name for name, (module, _) in PEERS.items() if importlib.util.find_spec(module)]
    wanted = [name for name in [*here, *OURS] if arguments.trainers is None or name in arguments.trainers]

    def keep(part: str, row: dict[str, Any], keys: tuple[str, ...]) -> None:
        found[part] = [old for old in found[part] if any(old[key] != row[key] for key in keys)] + [row]
        write_text(arguments.out, json.dumps(found, indent=1) + "\n")

    for name in (one for one in wanted if arguments.steps and one in PEERS):
        row = steps(name, arguments.width, arguments.rounds) | {"conditions": conditions()}
        row["threads"] = torch.get_num_threads()
        keep("steps", row, ("trainer", "width", "threads", "precision"))
        print(
            f"{name}: {row['theirs_seconds']:.2f} s, ours {row['ours_seconds']:.2f} s, ratio {row['ratio']:.2f};"
            f" processor {row['processor_ratio']:.2f}",
            flush=True,
        )
    for name in (one for one in wanted if arguments.reach is not None):
        keep("reach", reach(name, arguments), ("trainer", "data", "goal", "width", "n", "seed"))


if __name__ == "__main__":
    main()
