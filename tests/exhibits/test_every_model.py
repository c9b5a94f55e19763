"""X31 at a size of seconds: every kind of network in every game, and the claim as the numbers say."""

from pathlib import Path

import pytest

from stackelberg.data import words
from stackelberg.exhibits import Stage, named
from stackelberg.exhibits.every_model import GAMES


@pytest.fixture
def languages(coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven made-up languages, each with its own letters."""
    monkeypatch.setenv("STACKELBERG_DATA", str(tmp_path))
    (tmp_path / "words").mkdir()
    for place, (name, _) in enumerate(words.LISTS.values()):
        own = "abcdefghijklmnopqrstu"[3 * place : 3 * place + 3]
        rows = [a + b + c + d for a in own for b in own for c in own for d in own]
        (tmp_path / "words" / name).write_text("\n".join(rows), encoding="utf-8")


@pytest.mark.usefixtures("languages")
def test_each_kind_of_network_plays_each_game(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKELBERG_DATA", str(tmp_path))
    small = {"images": "digits", "n": 60, "epochs": 1, "words": 120, "word_epochs": 1, "test_n": 10, "steps": 1}
    outcome = named("X31", **small, seeds=2).run(stage)
    rates = {one.name: one.rate for one in outcome.measured if one.rate is not None}
    for kind, asked in (("mlp", 2), ("small-cnn", 2), ("vit", 2), ("text-transformer", 4)):
        for game in GAMES:
            own = {name: rate for name, rate in rates.items() if name.startswith(f"{kind}, {game}:")}
            assert len(own) == asked
            assert all(rate.n == 20 for rate in own.values())
            clean = own[f"{kind}, {game}: clean"].hits
            assert all(rate.hits <= clean for rate in own.values())
    better = [
        rates[f"{kind}, sr-wdro: {asked}"].hits > rates[f"{kind}, {other}: {asked}"].hits
        for kind, asked in (("mlp", "ball"), ("small-cnn", "ball"), ("vit", "ball"), ("text-transformer", "ball"))
        for other in ("standard", "at")
    ]
    assert not outcome.holds or all(better)
