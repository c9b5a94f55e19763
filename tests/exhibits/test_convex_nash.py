"""X27 at a size of seconds: two programs agree, and the loop's network ends near the value."""

from stackelberg.exhibits import Stage, named


def test_programs_and_training_meet(stage: Stage) -> None:
    outcome = named("X27", n=60, epochs=150, digits_epochs=150).run(stage)
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    programs = [value for name, value in values.items() if "gap" in name or "regret" in name]
    assert len(programs) == 6
    assert max(programs) <= 1e-6
    above = [value for name, value in values.items() if "above" in name]
    assert len(above) == 6
    assert min(above) >= -1e-6  # nobody pays less than the value of the game
    assert sorted(above)[3] < 0.1
    assert outcome.holds == (max(above) <= 0.002)
