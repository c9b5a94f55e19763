"""X25 at a size of seconds: best and last epoch of every game, and the claim as the numbers say."""

from stackelberg.exhibits import Stage, named


def test_the_loss_between_best_and_last_epoch_is_counted(stage: Stage) -> None:
    small = {"dataset": "digits", "n": 60, "held_out": 40, "test_n": 20, "widths": (4, 2), "epochs": 2, "steps": 1}
    small |= {"seeds": 1, "models": ("small-cnn", "lenet5")}
    outcome = named("X25", **small).run(stage)
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    assert len([name for name in values if name.endswith("best epoch, test, mean")]) == 8 + 3
    holds = True
    for model in small["models"]:
        lost = {name: values[f"{model}, {name}: lost, held out, mean of 1 seeds"] for name in ("at", "udr", "sr-wdro")}
        assert min(lost.values()) >= 0
        holds &= lost["sr-wdro"] < min(lost["at"], lost["udr"])
        holds &= all(values[f"{model}, {name}: clean, last epoch, test, least"] > 0.2 for name in lost)
    assert outcome.holds == holds
    assert (stage.out / "X25.png").is_file()
    alone = named("X25", **small, beside=False).run(stage)
    assert len(alone.measured) == 2 * (3 * 7 + 2 * 2)
    assert not any("averaged" in note for note in alone.notes)
