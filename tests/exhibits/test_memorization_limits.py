"""X15, X16, X23 at a size of seconds: they measure what they say, and draw it."""

from pathlib import Path

import pytest

from stackelberg.exhibits import Stage, named


@pytest.fixture
def bare(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)


def test_two_neurons(bare: Stage) -> None:
    outcome = named("X16", sizes=(3, 5), draws=2).run(bare)
    assert {row.name: row.rate.hits for row in outcome.measured if row.rate}["instances left open"] == 0
    assert (bare.out / "X16.png").stat().st_size > 10_000


def test_the_law_that_is_known(bare: Stage) -> None:
    exhibit = named("X23", largest=2**11)
    rows, _ = exhibit._law(bare)  # pyright: ignore[reportAttributeAccessIssue]
    rates = {row.name: row.rate for row in rows if row.rate is not None}
    assert rates["known law: fresh points right, network of the law"].value == 1
    assert rates["known law: fresh points right, sqrt(N) network of 4096"].value < 0.6
    powers = [row.value for row in rows if row.value is not None and "power" in row.name]
    assert 0.4 < powers[0] < 0.75 < powers[1]  # so few samples have large logarithms; the bits grow as N
    assert (bare.out / "X23.png").is_file()
