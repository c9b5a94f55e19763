"""Trains on the digits, as started by torchrun; one worker may kill itself at one step of its first life.

torchrun --standalone --nproc-per-node 2 --max-restarts 1 restarted.py FOLDER STRATEGY [RANK STEP]
"""

import os
import signal
import sys
from pathlib import Path

from stackelberg import data, games, models
from stackelberg.games import loop
from stackelberg.threat import Ball


def main(out: Path, strategy: str, rank: int = -1, step: int = -1) -> None:
    """Ask for the same training in every life: it begins, or goes on from the last checkpoint."""
    digits = data.load("digits", "train").take(400)
    model = models.build("resnet18", 10, digits.shape, width=4, seed=0)
    game = games.StatisticallyRobust(games.WassersteinDRO(Ball("linf", 0.1), steps=2, price_every=2), 0.1)
    move = loop._move

    def watched(training, *arguments):
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and int(os.environ["RANK"]) == rank and training.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return move(training, *arguments)

    loop._move = watched
    games.solve(
        game, model, digits, epochs=4, out=out, resume=True, progress=False, device="cpu", precision="float32",
        strategy=strategy, batch_size=64, held_out=50, average=0.9, clip=1.0, check_steps=2,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
