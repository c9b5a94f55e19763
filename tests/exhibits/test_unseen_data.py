"""X19, X26, X28 at a size of seconds, on scikit-learn's digits in MNIST's place."""

from pathlib import Path

import pytest

from stackelberg import data
from stackelberg.data import resized, save_parquet
from stackelberg.exhibits import Stage, named
from stackelberg.exhibits.double_descent import DoubleDescent
from stackelberg.exhibits.exhibit import Outcome


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for STACKELBERG_DATA: mnist/{train,test}.parquet of enlarged digits."""
    root = tmp_path_factory.mktemp("data")
    (root / "mnist").mkdir()
    for split in ("train", "test"):
        save_parquet(resized(data.load("digits", split), 28, 2), root / "mnist" / f"{split}.parquet")
    return root


@pytest.fixture
def bare(enlarged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("STACKELBERG_DATA", str(enlarged))
    return Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)


def values(outcome: Outcome) -> dict[str, float]:
    return {row.name: row.rate.value if row.rate else row.value or 0.0 for row in outcome.measured}


def test_double_descent(bare: Stage) -> None:
    outcome = named(
        "X19", sets=("mnist",), n=100, fresh=200, features=(10, 100, 1000), widths=(1, 40), epochs=400, seeds=2
    ).run(bare)  # fmt: skip
    found = values(outcome)
    features = [found[f"mnist, random features, width {width}: test error"] for width in (10, 100, 1000)]
    assert features[0] < features[1] > features[2]
    assert found["mnist, random features, width 1000: training error"] == 0
    assert found["mnist, network, width 40: test error"] < found["mnist, network, width 1: test error"]
    assert (bare.out / "X19.png").stat().st_size > 10_000


def test_a_curve_without_a_peak_does_not_hold() -> None:
    exhibit = DoubleDescent(n=100)
    peak = {10: ([0.2, 0.2], [0.3, 0.31]), 100: ([0.0, 0.0], [0.8, 0.81]), 900: ([0.0, 0.0], [0.2, 0.21])}
    assert exhibit._peaks(peak)
    assert not exhibit._peaks(peak | {100: ([0.0, 0.0], [0.1, 0.11])})  # falls all the way
    assert not exhibit._peaks(peak | {100: ([0.0, 0.0], [0.3, 0.9])})  # within the intervals
    assert not exhibit._peaks(peak | {900: ([0.1, 0.0], [0.2, 0.21])})  # does not interpolate
    assert exhibit._recovers(peak)
    assert not exhibit._recovers({1: ([0.5, 0.5], [0.5, 0.5]), 2: ([0.3, 0.3], [0.6, 0.6])})


def test_shifted_tests(bare: Stage) -> None:
    outcome = named(
        "X26", words=10, for_words=500, n=900, of_network=200, fresh=120, severities=(1,), radii=(0.02,),
        degrees=(5.0,), trials=40, played=20,
    ).run(bare)  # fmt: skip
    found = values(outcome)
    assert found["codebook: shifted test sets on which the bound is violated"] == 0
    assert found["network: shifted test sets on which the bound is violated"] == 0
    assert found["three atoms, radius with sigma carried by gamma: violated"] == 0
    assert found["raw images: log10 of the N needed at 95 %, Z = [0,1]^784 x 10 classes"] > 1000
    on, off = (
        found[f"network, linf 0.02: L by the follower, {words} the sample (estimate)"] for words in ("on", "off")
    )
    assert on <= off <= 1
    assert sum(name.endswith(": error") and "network, " in name for name in found) >= 15 + 1 + 1 + 3
    assert (bare.out / "X26.png").is_file()


def test_poisoned_bounds(bare: Stage) -> None:
    outcome = named(
        "X28", n=700, held=600, fresh=300, width=4, epochs=6, dirty=(0.05,), clean=(0.3,), mixed=(), all=(1.0,)
    ).run(bare)  # fmt: skip
    found = values(outcome)
    assert found["class patterns, alpha 1: clean error's bound, held out, infinite"] == 1
    for case in ("patch, false labels, alpha 0.05", "patch, true labels, alpha 0.3"):
        parts = {name: value for name, value in found.items() if name.startswith(f"{case}: clean error's bound, held")}
        total = next(value for name, value in parts.items() if "term" not in name)
        assert total == pytest.approx(sum(value for name, value in parts.items() if "term" in name))
        assert found[f"{case}: clean error"] <= total
        missed = [v for name, v in found.items() if name.startswith(f"{case}: miss's bound") and "term" not in name]
        assert found[f"{case}: triggered images missed"] <= missed[0]
    assert (bare.out / "X28.png").is_file()
