"""X07, X08 and X09 at a size of seconds: they measure what they say, and hold only when their claims do."""

from collections.abc import Callable

import pytest

from stackelberg import data
from stackelberg.data import Dataset
from stackelberg.exhibits import Outcome, Stage, named
from stackelberg.threat import Rate

TINY = {"source_name": "digits", "epochs": 1}


@pytest.fixture(autouse=True)
def digits_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits in the place of every named data set."""
    load: Callable[..., Dataset] = data.load
    monkeypatch.setattr("stackelberg.data.load", lambda source, split: load("digits", split))


def rates(outcome: Outcome) -> dict[str, Rate]:
    return {one.name: one.rate for one in outcome.measured if one.rate is not None}


def values(outcome: Outcome) -> dict[str, float]:
    return {one.name: one.value for one in outcome.measured if one.value is not None}


def test_backdoors(stage: Stage) -> None:
    few = {
        "n": 300,
        "rate": 0.02,
        "radii": (16,),
        "model": "small-cnn",
        "width": 4,
        "augmented": False,
        "surrogate": "small-cnn",
        "surrogate_width": 4,
        "surrogate_epochs": 1,
        "shortcut_epochs": 2,
        "shortcut_steps": 3,
        "test_n": 40,
        "inset": 1,
        "inversion_steps": 3,
        "shortcut_images": 40,
    }
    few |= {"parts": ("shortcut",)}
    outcome = named("X07", **TINY, **few).run(stage)
    found = rates(outcome)
    whole = data.load("digits", "test")
    test = whole.take(40)
    for name in (
        "clean-label 16/255",
        "clean-label 16/255, shortcut part alone",
        "badnets patch",
        "label-consistent 16/255",
    ):
        assert found[f"{name}: attack success"].n == int((test.y != 0).sum())
        assert found[f"{name}: clean accuracy"].n == len(whole)
        assert f"{name}: the control under the same trigger" in found
    assert found["spectral signatures, clean data: flagged"].n == 300
    assert found["activation clustering, badnets patch: of the poison flagged"].n == 6
    assert found["activation clustering, badnets patch: of the rest flagged"].n == 294
    success, control = (
        found[f"clean-label 16/255: {kind}"] for kind in ("attack success", "the control under the same trigger")
    )
    kept = found["clean-label 16/255: clean accuracy"].value >= found["control: clean accuracy"].value - 0.01
    assert outcome.holds == (success.value >= 0.5 and success.low > control.high and kept)
    runs = sorted(path.name for path in stage.runs.iterdir())
    again = named("X07", **TINY, **few).run(stage)  # from the kept networks: nothing is trained twice
    assert again.measured == outcome.measured
    assert sorted(path.name for path in stage.runs.iterdir()) == runs


def test_targeted(stage: Stage) -> None:
    few = {"pretrain_n": 300, "tune_n": 100, "tune_steps": 2, "tune_targets": 2, "scratch_n": 150, "scratch_steps": 2}
    few |= {"scratch_targets": 2, "width": 4, "scratch_width": 4, "epochs": 8, "scratch_epochs": 8, "test_n": 20}
    outcome = named("X08", **few).run(stage)
    found = rates(outcome)
    for method in ("gradient-matching", "bullseye", "feature-collision"):
        assert found[f"transfer, {method}: success"].n <= 2
    better = any(
        found[f"transfer, {m}: success"].low > 0 for m in ("gradient-matching", "bullseye", "feature-collision")
    )
    scratch = found["from scratch, gradient-matching: success"]
    bare = found["from scratch, no poison: the same images in the same classes"]
    assert outcome.holds == (better or scratch.low > bare.value)


def test_ownership(stage: Stage) -> None:
    few = {"n": 300, "marked": 1, "clean": 2, "keys": 2, "probes": 20, "test_n": 30, "width": 4, "pairs": 10}
    outcome = named("X09", **TINY, **few, pruned=(0.5,)).run(stage)
    found = values(outcome)
    p = found["trained on the marks, key 0: p"]
    assert 0 < p <= 1
    assert p * 2**10 == int(p * 2**10)  # a count of signs
    assert rates(outcome)["clean models under fresh keys, p <= .05"].n == 4
    assert outcome.holds == (p < 1e-3 and found["clean models: smallest p"] > 0.05)
    assert any(name.startswith("distilled, on other clean images") for name in found)
    assert any(name.startswith("50 % of the weights pruned") for name in found)
