"""Trains twice on the digits in two processes, whole and in parts; rank 0 writes how far apart the weights end."""

import json
import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from stackelberg import data, games, models
from stackelberg.games import Game, sharding
from stackelberg.games.processes import STRATEGIES
from stackelberg.threat import Ball

GAMES: dict[str, Game] = {
    "standard": games.Standard(),
    "adversarial": games.ParameterBox(games.Adversarial(Ball("l2", 0.5), steps=3), 0.3),
}


def main(out: Path) -> None:
    """For each game and optimiser: the largest difference of a weight, and whether the second run was split at all."""
    digits = data.load("digits", "train").take(400)
    answer, split = {}, []
    collect = sharding.collect

    def watched(parts, model):
        split.append(any(isinstance(p, DTensor) and p.to_local().numel() < p.numel() for p in parts.parameters()))
        collect(parts, model)

    sharding.collect = watched
    for name, game in GAMES.items():
        ends = []
        for strategy in STRATEGIES:
            model = models.build("resnet18", 10, digits.shape, width=4, seed=0)
            split.clear()
            solved = games.solve(
                game, model, digits, epochs=2, progress=False, device="cpu", precision="float32", devices=2,
                strategy=strategy, batch_size=64, held_out=50, average=0.9, clip=1.0, check_steps=2,
            )  # fmt: skip
            assert all(split) == any(split) == (strategy == "fsdp")
            ends.append(solved.model.state_dict() | {f"given {k}": v for k, v in model.state_dict().items()})
        one, other = ends
        answer[name] = max(float((v - other[k]).abs().max()) for k, v in one.items() if v.is_floating_point())
    if torch.distributed.get_rank() == 0:
        out.write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
