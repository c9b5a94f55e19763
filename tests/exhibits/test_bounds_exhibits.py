"""X20, X21 and X22 at a size of seconds: what they measure, and what their claims rest on."""

import pytest

from stackelberg.exhibits import Stage, named


def test_uniform_bounds_beside_the_gap(stage: Stage) -> None:
    few = {"sets": ("digits",), "width": 4, "epochs": 3, "n": 400, "labels": 40, "label_epochs": 10, "draws": 60}
    outcome = named("X20", **few).run(stage)
    rates = {one.name: one.rate.value for one in outcome.measured if one.rate is not None}
    values = rates | {one.name: one.value for one in outcome.measured if one.value is not None}
    assert values["digits: gap"] == values["digits: test error"] - values["digits: training error"]
    for kind in ("VC", "spectral", "Frobenius", "path"):
        assert values[f"digits: error by {kind}"] > 1
    assert values["digits: error by hold-out"] >= values["digits: test error"]
    labels = values["digits: error by random labels"] > 1
    assert outcome.holds == (labels and values["digits: gap"] < 0.3)
    assert (stage.out / "X20.png").is_file()


def test_stability_over_the_steps(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from stackelberg import data
    from stackelberg.exhibits import stability_fails

    digits = {split: data.load("digits", split) for split in ("train", "test")}
    monkeypatch.setattr(stability_fails.data, "load", lambda name, split: digits[split])
    few = {"n": 120, "test": 100, "width": 6, "steps": 12, "batch": 10, "every": 4}
    outcome = named("X21", **few).run(stage)
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    for words in ("softmax regression, standard", "perceptron, adversarial"):
        kind = "convex" if "softmax" in words else "non-convex"
        assert values[f"{words}, T = 12: uniform, {kind} (Hardt)"] > values[f"{words}, T = 1: uniform, {kind} (Hardt)"]
    assert values["softmax regression, adversarial: L_wx along the path"] > 0
    assert not outcome.holds  # twelve steps are too few for the bounds to be empty
    assert (stage.out / "X21.png").is_file()


def test_width_and_samples(stage: Stage) -> None:
    outcome = named("X22", samples=(100_000,), widths=(8, 1500), steps=60, random=8).run(stage)
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    assert values["cells of the grid"] == 4 * 2
    assert values["cells with an exact error above the bound"] == 0
    assert values["cells where the bound is below 1 and VC's above"] >= 1
    assert outcome.holds
    assert (stage.out / "X22.png").is_file()
