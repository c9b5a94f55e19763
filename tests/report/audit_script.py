"""Audits a perceptron on the digits, in as many processes as asked for where this is the main program."""

import sys
from pathlib import Path

from lightning_fabric import Fabric

from stackelberg import models
from stackelberg.data import load
from stackelberg.games.processes import launch
from stackelberg.report import Report, audit
from stackelberg.threat import Ball


def audited(fabric: Fabric | None, out: Path) -> Report:
    digits = load("digits", "test")
    net = models.build("mlp", 10, digits.shape, width=16, seed=0).eval()
    return audit(net, digits, Ball("linf", 0.02), n=40, effort="fast", batch_size=15, fabric=fabric, out=out)


if __name__ == "__main__":
    audited(launch("cpu", int(sys.argv[1])), Path(sys.argv[2]))
