"""Audits a perceptron on the digits in many small batches, so that it can be killed between and within them.

Run as a program it audits in as many processes as asked for (resume_script.py PROCESSES OUT); imported it offers the
pieces. Every finished batch costs a pause of OPEN seconds, so that a kill falls in the middle of the work.
"""

import sys
import time
from pathlib import Path

from lightning_fabric import Fabric

from stackelberg import models
from stackelberg.data import load
from stackelberg.games.processes import launch
from stackelberg.report import Report, audit
from stackelberg.threat import Ball

OPEN = 0.05
BATCHES = 12


def audited(fabric: Fabric | None, out: Path, seed: int = 0, radius: float = 0.02) -> Report:
    digits = load("digits", "test")
    net = models.build("mlp", 10, digits.shape, width=16, seed=seed).eval()
    ball = Ball("linf", radius)
    return audit(net, digits, ball, n=48, effort="fast", batch_size=48 // BATCHES, fabric=fabric, out=out)


def slowly(fabric: Fabric | None, out: Path) -> None:
    """The same audit, which lingers after every batch."""
    from stackelberg.report import resuming

    keep = resuming.Store.keep

    def kept(self: resuming.Store, number: int, pair: resuming.Pair) -> None:
        keep(self, number, pair)
        time.sleep(OPEN)

    resuming.Store.keep = kept
    audited(fabric, out)


if __name__ == "__main__":
    slowly(launch("cpu", int(sys.argv[1])), Path(sys.argv[2]))
