"""Many exhibits: what was measured is not measured again, one that fails stops no other, and the time left is said."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stackelberg.exhibits import (
    EXHIBITS,
    Exhibit,
    Failed,
    Measured,
    Outcome,
    Result,
    Stage,
    read_results,
    reproduce,
    reproduce_all,
    table,
)
from stackelberg.exhibits.ledger import Ledger


@dataclass(frozen=True)
class Die(Exhibit):
    """The mean of six faces, each looked at once and kept; `breaks` is the face at which it fails."""

    id = "X97"
    title = "A die"
    published = "3.5"
    source = "folklore"
    claim = "the mean is 3.5"

    faces: int = 6
    breaks: int = 0

    def run(self, stage: Stage) -> Outcome:
        ledger, total = Ledger(stage, self), 0
        for face in range(1, self.faces + 1):
            total += ledger.number(f"face {face}", lambda face=face: self._look(stage, face))
        value = total / self.faces
        return Outcome(measured=(Measured(name="mean", published="3.5", value=value),), holds=value == 3.5)

    def _look(self, stage: Stage, face: int) -> int:
        if face == self.breaks:
            raise ZeroDivisionError("no such\nface")
        stage.say(f"X97: {face}")
        return face


@dataclass(frozen=True)
class Coin(Die):
    """Two faces."""

    id = "X98"
    title = "A coin"
    faces: int = 2


def broke(id: str, face: int) -> str:
    again = f"stackelberg reproduce {id} --set breaks={face} --seed 0"
    return f"ZeroDivisionError: no such face; alone it shows where: {again}"


@pytest.fixture
def said(stage: Stage) -> list[str]:
    lines: list[str] = []
    stage.say = lines.append
    return lines


def test_one_that_fails_is_named_and_the_others_go_on(stage: Stage, said: list[str]) -> None:
    told: list[tuple[int, int, str]] = []
    rows = list(reproduce_all([Die(breaks=3), Coin()], stage, tell=lambda *words: told.append(words)))
    failed, coin = rows
    assert failed == Failed(
        "X97",
        "ZeroDivisionError: no such face; alone it shows where: stackelberg reproduce X97 --set breaks=3 --seed 0",
    )
    assert isinstance(coin, Result)
    assert coin.outcome.measured[0].value == 1.5
    assert [(done, total) for done, total, _ in told] == [(0, 2), (1, 2), (2, 2)]
    assert told[0][2] == "measured before; time left unknown: X97, X98 never timed"
    assert told[1][2].startswith("X97 failed; ")
    assert told[2][2].startswith("X98 does not hold, ")


def test_what_was_measured_is_not_measured_again_and_the_rest_is_timed_by_it(stage: Stage, said: list[str]) -> None:
    coin = reproduce(Coin(), stage)
    slow = coin.model_copy(update={"environment": coin.environment.model_copy(update={"seconds": 600.0})})
    slow.to_json(stage.out / "X98.json")
    told: list[str] = []
    rows = list(reproduce_all([Die(), Coin()], stage, tell=lambda done, total, words: told.append(f"{done}: {words}")))
    assert [row.id for row in rows] == ["X98", "X97"], "those measured before come first"
    assert rows[0] == slow
    assert told[0] == "1: measured before; time left unknown: X97 never timed"
    told.clear()
    list(reproduce_all([Die(), Coin()], stage, True, tell=lambda done, total, words: told.append(words)))
    assert told[0] == "measured before; about 10 min left"


def test_a_killed_one_goes_on(stage: Stage, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    look = Die._look

    def killed(self: Die, stage: Stage, face: int) -> int:
        if face == 4:
            raise KeyboardInterrupt
        return look(self, stage, face)

    monkeypatch.setattr(Die, "_look", killed)
    with pytest.raises(KeyboardInterrupt):
        list(reproduce_all([Die()], stage))
    assert not (stage.out / "X97.json").exists()
    monkeypatch.setattr(Die, "_look", look)
    (row,) = reproduce_all([Die()], stage)
    assert isinstance(row, Result)
    assert row.outcome.holds
    assert [line for line in said if line[5:].isdigit()] == [f"X97: {face}" for face in range(1, 7)], "each once"


def test_a_torn_result_fails_its_own_row_alone(stage: Stage) -> None:
    stage.out.mkdir()
    (stage.out / "X97.json").write_text("{")
    failed, coin = reproduce_all([Die(), Coin()], stage)
    assert isinstance(failed, Failed)
    assert failed.why.endswith("reproduce it with --force")
    assert coin.id == "X98"


def test_in_processes_it_is_the_same(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    rows = {row.id: row for row in reproduce_all([Die(), Coin(breaks=2)], stage, where="processes", processes=2)}
    die = rows["X97"]
    assert isinstance(die, Result)
    assert die == Result.from_json(stage.out / "X97.json")
    assert die.outcome.holds
    assert rows["X98"] == Failed(
        "X98",
        "ZeroDivisionError: no such face; alone it shows where: stackelberg reproduce X98 --set breaks=2 --seed 0",
    )
    assert "X97: 6\n" in capfd.readouterr().err


@pytest.fixture
def shell(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`stackelberg reproduce` with the words given, where X97 and X98 are all the exhibits; the exit status."""
    from stackelberg.cli import main

    for id in list(EXHIBITS):
        monkeypatch.delitem(EXHIBITS, id)
    monkeypatch.setitem(EXHIBITS, "X97", Die)
    monkeypatch.setitem(EXHIBITS, "X98", Coin)

    def run(*words: str) -> int:
        places = ("--out", str(stage.out), "--runs", str(stage.runs))
        monkeypatch.setattr("sys.argv", ["stackelberg", "reproduce", *words, *places])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def test_all_of_them_from_the_command_line(shell: Callable[..., int], stage: Stage, tmp_path: Path, capsys) -> None:
    page = tmp_path / "docs" / "results.md"
    assert shell("--all", "--page", str(page), "--json") == 1, "the coin's claim does not hold"
    said = capsys.readouterr()
    assert {row["id"] for row in json.loads(said.out)} == {"X97", "X98"}
    assert "2 of 2 done: X98 does not hold" in said.err
    assert page.read_text() == table(read_results(stage.out))
    assert shell("--all", "X97") == 2
    assert capsys.readouterr().err == "stackelberg: --all and 'X97' were both given; leave one out\n"
    assert shell("--all", "--set", "breaks=1") == 2
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if line.startswith("stackelberg: ")] == [
        f"stackelberg: {id} failed: {broke(id, 1)}" for id in ("X97", "X98")
    ]
    assert "Traceback" not in said.err


def test_the_page_names_what_is_not_measured(shell: Callable[..., int], stage: Stage, capsys) -> None:
    assert shell("X97") == 0
    capsys.readouterr()
    assert shell("--table") == 0
    page = capsys.readouterr().out
    assert "| X97 | A die | holds | 2" in page
    assert "| X98 | A coin | not measured | |" in page
    assert "so there is no `results/X98.json`; `stackelberg reproduce X98` writes it." in page
