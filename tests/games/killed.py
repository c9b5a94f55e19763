"""Kills a training with SIGKILL at ten random steps, resumes it each time, and compares the final weights.

A script of its own: the child processes are forked before torch has started a thread.
"""

import os
import random
import signal
import sys
import traceback
from pathlib import Path

from safetensors.torch import load_file

from stackelberg import data, games, models
from stackelberg.games import loop
from stackelberg.threat import Ball

DIGITS = data.load("digits", "train").take(500)
KILLS = 10


def play(folder: Path, last_step: int | None) -> None:
    """The training from where it stands, a state saved at every step; killed at its `last_step`-th step from here."""
    move, left = loop._move, last_step

    def counted(*arguments):
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return move(*arguments)

    loop._move = counted
    model = models.build("resnet18", 10, DIGITS.shape, width=4, seed=0)
    game = games.StatisticallyRobust(games.WassersteinDRO(Ball("linf", 0.1), steps=2, price_every=2), 0.1)
    games.solve(
        game, model, DIGITS, epochs=6, out=folder, resume=True, progress=False, save_seconds=0.0,
        batch_size=64, held_out=50, average=0.9, check_steps=2,
    )  # fmt: skip


def child(folder: Path, last_step: int | None = None) -> int:
    """Run `play` in a process of its own; its wait status."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            play(folder, last_step)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(process, 0)[1]


def main(root: Path) -> None:
    assert child(root / "whole") == 0, "the uninterrupted run failed"
    steps = random.Random(int(os.environ.get("STACKELBERG_TEST_SEED", "0")))
    for kill in range(KILLS):
        status = child(root / "killed", steps.randrange(1, 5))
        assert os.WIFSIGNALED(status), f"run {kill} was to be killed, it ended with {status}"
    assert child(root / "killed") == 0, "the last resumed run failed"
    for name in ("last.safetensors", "best.safetensors"):
        one, other = load_file(root / "whole" / name), load_file(root / "killed" / name)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.equal(other[key]), f"{name}: {key} differs"
    print(f"{KILLS} kills, equal")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
