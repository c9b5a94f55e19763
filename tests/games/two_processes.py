"""Trains on the digits in as many processes as asked for; rank 0 writes the accuracies and the first step's loss."""

import json
import sys
from pathlib import Path

import torch

from stackelberg import data, games, models
from stackelberg.games import loop
from stackelberg.threat import Ball


def main(devices: int, out: Path) -> None:
    digits = data.load("digits", "train")
    model = models.build("small-cnn", 10, digits.shape, width=8, seed=0)
    game = games.StatisticallyRobust(games.Adversarial(Ball("linf", 0.1), steps=3), gamma=0.2)
    first: list[float] = []
    move = loop._move

    def remembered(*arguments):
        first.append(move(*arguments))
        return first[-1]

    loop._move = remembered
    solved = games.solve(
        game, model, digits, epochs=5, test=data.load("digits", "test"), devices=devices, device="cpu", out=out / "run",
        progress=False, batch_size=64, held_out=100, precision="float32",
    )  # fmt: skip
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        (out / "answer.json").write_text(json.dumps({"test": solved.test, "losses": first[:3]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
