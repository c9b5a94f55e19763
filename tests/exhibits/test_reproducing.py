"""Results: written whole, taken again where nothing changed, and shown beside the published number."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from stackelberg.errors import StackelbergError
from stackelberg.exhibits import (
    EXHIBITS,
    Exhibit,
    Measured,
    Outcome,
    Result,
    Stage,
    named,
    read_results,
    reproduce,
    table,
)
from stackelberg.exhibits.reproducing import command
from stackelberg.threat import clopper_pearson

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Coin(Exhibit):
    """How often does a coin fall on heads?"""

    id = "X99"
    title = "A coin"
    published = "one half"
    source = "folklore"
    claim = "it is fair"

    n: int = 100
    radius: float = 0.5

    def run(self, stage: Stage) -> Outcome:
        stage.say("tossed")
        rate = clopper_pearson(self.n // 2, self.n)
        measured = (Measured(name="heads", published="50 %", rate=rate), Measured(name="thickness", value=0.00185))
        return Outcome(measured=measured, holds=self.n > 10, notes=("it is round",))


@pytest.fixture
def said(stage: Stage) -> list[str]:
    lines: list[str] = []
    stage.say = lines.append
    return lines


@pytest.fixture(autouse=True)
def catalogued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXHIBITS, "X99", Coin)


def test_the_result_holds_all_that_is_needed_to_judge_it(stage: Stage, said: list[str]) -> None:
    result = reproduce(Coin(), stage)
    assert Result.from_json(stage.out / "X99.json") == result
    raw = json.loads((stage.out / "X99.json").read_text())
    assert raw["schema"] == "stackelberg.exhibit/1"
    assert raw["settings"] == {"n": 100, "radius": 0.5}
    assert raw["outcome"]["measured"][0]["rate"]["low"] < 0.5 < raw["outcome"]["measured"][0]["rate"]["high"]
    assert raw["command"] == "stackelberg reproduce X99 --seed 0"
    assert {"torch", "processor", "created", "seconds"} <= set(raw["environment"])


def test_it_is_measured_again_only_if_something_changed(stage: Stage, said: list[str]) -> None:
    for exhibit, force, tosses in (
        (Coin(), False, 1), (Coin(), False, 1), (Coin(), True, 2), (Coin(n=50), False, 3), (Coin(n=50), False, 3),
    ):  # fmt: skip
        reproduce(exhibit, stage, force)
        assert said.count("tossed") == tosses
    stage.seed = 1
    result = reproduce(Coin(n=50), stage)
    assert said.count("tossed") == 4
    assert result.command == "stackelberg reproduce X99 --set n=50 --seed 1"


def test_the_command_of_several_values_is_read_back() -> None:
    changed = named("X19", sets="mnist", widths="1,40", noise=0.1)
    assert changed.settings["sets"] == ("mnist",)
    assert changed.settings["widths"] == (1, 40)
    words = shlex.split(command(changed, 0))
    assert "widths=1,40" in words
    given = dict(word.split("=") for word in words if "=" in word)
    assert named("X19", **given) == changed
    with pytest.raises(StackelbergError, match="X19: widths got 'wide'"):
        named("X19", widths="1,wide")


def test_other_weights_under_the_same_name_are_noticed(stage: Stage, said: list[str], monkeypatch) -> None:
    def use(self: Coin, stage: Stage) -> Outcome:
        stage.used.append("net")
        return tossed(self, stage)

    tossed = Coin.run
    monkeypatch.setattr(Coin, "run", use)
    (stage.runs / "net").mkdir(parents=True)
    weights = stage.runs / "net" / "best.safetensors"
    weights.write_bytes(b"one")
    reproduce(Coin(), stage)
    reproduce(Coin(), stage)
    assert said.count("tossed") == 1
    weights.write_bytes(b"two")
    reproduce(Coin(), stage)
    assert said.count("tossed") == 2


def test_a_torn_result_is_named(stage: Stage) -> None:
    reproduce(Coin(), stage)
    path = stage.out / "X99.json"
    path.write_text(path.read_text()[:-50])
    with pytest.raises(StackelbergError, match=r"X99\.json is no stackelberg\.exhibit/1 result; reproduce it with"):
        reproduce(Coin(), stage)


def test_settings_are_read_as_their_fields_types() -> None:
    assert named("X99", n="7", radius="0.25") == Coin(7, 0.25)


def test_the_table_puts_the_published_number_beside_ours(stage: Stage) -> None:
    page = table([reproduce(Coin(), stage)])
    assert "| heads | 50 % | 50.0 % [39.8, 60.2] | 100 |" in page
    assert "| thickness |  | 0.00185 |  |" in page
    assert "Claim: it is fair. **It holds.**" in page
    assert "It does not hold here." in table([reproduce(Coin(n=4), stage)])


def test_the_results_page_is_what_the_results_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/results.md is never typed in by hand."""
    monkeypatch.delitem(EXHIBITS, "X99")
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == table(read_results(ROOT / "results"))


def test_what_falls_short_says_why(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for result in read_results(ROOT / "results"):
        assert result.outcome.holds or EXHIBITS[result.id].short, f"{result.id} does not hold, and does not say why"
    monkeypatch.setattr(Coin, "short", "it fell on its edge")
    assert "- Falls short here: it fell on its edge." in table([reproduce(Coin(n=4), stage)])
    assert "edge" not in table([reproduce(Coin(), stage)])


def test_from_the_command_line(stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from stackelberg.cli import main

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["stackelberg", "reproduce", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    out = ("--out", str(stage.out))
    assert run("X99", *out) == 0
    words = capsys.readouterr().out
    assert "published: one half (folklore)" in words
    assert "claim: it is fair: holds" in words
    assert run("X99", *out, "--set", "n=4", "--json") == 1  # a claim that does not hold
    (told,) = json.loads(capsys.readouterr().out)
    assert told["settings"]["n"] == 4
    assert run("--list") == 0
    assert set(EXHIBITS) <= set(capsys.readouterr().out.split())
    assert run("--table", *out) == 0
    assert capsys.readouterr().out == table(read_results(stage.out))
