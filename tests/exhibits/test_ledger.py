"""What a ledger keeps: numbers and networks are made once, and what they cost is said again each time."""

import time

import pytest
from torch import nn

from stackelberg import models
from stackelberg.exhibits import Exhibit, Outcome, Stage
from stackelberg.exhibits.ledger import Ledger

LONG = 0.2


class Nothing(Exhibit):
    """Measures nothing."""

    id, title, published, source, claim = "X96", "Nothing", "nothing", "nobody", "nothing"

    def run(self, stage: Stage) -> Outcome:
        raise NotImplementedError


def slowly(value: float) -> float:
    time.sleep(LONG)
    return value


def network() -> nn.Module:
    return models.build("mlp", 2, (1, 2, 2), 4, seed=int(slowly(0)))


def measured(stage: Stage) -> float:
    """A number that rests on a network, and the network again; the seconds taken from before."""
    stage.kept = 0.0
    stage.opened.clear()
    ledger = Ledger(stage, Nothing())
    number = ledger.number("a", lambda: slowly(float(ledger.network("n", network).training)))
    Ledger(stage, Nothing()).network("n", network)  # opened twice in a run, as exhibits do
    assert number == 0
    return stage.kept


def test_what_is_kept_costs_its_seconds_again(stage: Stage) -> None:
    assert measured(stage) == 0  # all of it is made now
    for _ in range(2):
        begun = time.perf_counter()
        again = measured(stage)
        assert time.perf_counter() - begun < LONG
        assert again == pytest.approx(2 * LONG, rel=0.4)  # the number, and the network once


def test_a_killed_run_goes_on_with_what_it_paid(stage: Stage) -> None:
    Ledger(stage, Nothing()).network("n", network)  # then it was killed
    assert measured(stage) == pytest.approx(LONG, rel=0.4)
