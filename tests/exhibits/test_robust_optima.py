"""X18 at a size of seconds: what it measures of each game, and what its claim rests on."""

from stackelberg.exhibits import Stage, named


def test_the_front_of_few_digits(stage: Stage) -> None:
    few = {
        "dataset": "digits",
        "train_n": 200,
        "width": 4,
        "epochs": 1,
        "more": 1,
        "steps": 1,
        "betas": (1.0,),
        "slacks": (0.5,),
        "seeds": 1,
        "n": 8,
    }
    outcome = named("X18", **few).run(stage)
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    assert len(values) == 4 * 2 * 2
    means = {name: value for name, value in values.items() if "half" not in name}
    clean = {name.split(":")[0]: value for name, value in means.items() if ": clean" in name}
    attacked = {name.split(":")[0]: value for name, value in means.items() if ": attacked" in name}
    assert set(clean) == {"standard", "at", "trades, beta 1", "bi-level, slack 0.5"}
    assert all(attacked[name] <= clean[name] for name in clean)
    cleaner = clean["bi-level, slack 0.5"] > clean["at"]
    best = clean["bi-level, slack 0.5"], attacked["bi-level, slack 0.5"]
    beaten = any(clean[name] > best[0] and attacked[name] > best[1] for name in ("at", "trades, beta 1"))
    assert outcome.holds == (cleaner and not beaten)
    assert (stage.out / "X18.png").is_file()
