"""An audit that was killed ends with the report it would have had; another audit is never mixed with it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import resume_script

from stackelberg.report import Report

KILLS = 3


def timeless(folder: Path) -> dict[str, Any]:
    """report.json without what may differ: the environment, and seconds."""
    record = json.loads((folder / "report.json").read_text())
    del record["environment"]
    for row in (*record["attacks"], *record["certificates"]):
        del row["seconds"]
    return record


def started(processes: int, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, resume_script.__file__, str(processes), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)


def finished(out: Path) -> int:
    return len(list((out / "batches").glob("*.json")))


def kill(process: subprocess.Popen[bytes], out: Path, batches: int, pause: float) -> None:
    """SIGKILL to the process and its children, `pause` seconds after so many batches were finished."""
    end = time.monotonic() + 240
    while finished(out) < batches and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(pause)
    alive = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    _, said = process.communicate()
    assert alive, f"it was to be killed and had ended: {said.decode()}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit that nobody killed."""
    out = tmp_path_factory.mktemp("whole")
    resume_script.audited(None, out)
    return out


def test_killed_at_random_moments_it_ends_with_the_same_report(tmp_path: Path, whole: Path) -> None:
    chance = random.Random(int(os.environ.get("STACKELBERG_TEST_SEED", "0")))
    before = 0
    for _ in range(KILLS):
        kill(started(1, tmp_path), tmp_path, before + chance.randint(1, 2), chance.uniform(0, 0.1))
        assert not (tmp_path / "report.json").exists()
        assert before < finished(tmp_path) < resume_script.BATCHES
        before = finished(tmp_path)
    resume_script.audited(None, tmp_path)
    assert timeless(tmp_path) == timeless(whole)
    assert not (tmp_path / "batches").exists()


def test_two_killed_processes_are_taken_up_by_one_and_by_two(tmp_path: Path, whole: Path) -> None:
    kill(started(2, tmp_path), tmp_path, 3, 0.05)
    left = {path.name: path.read_bytes() for path in (tmp_path / "batches").glob("*.json")}
    assert {int(name[:4]) % 2 for name in left} == {0, 1}, "both were to have finished a batch"
    again = tmp_path / "again" / "batches"
    again.mkdir(parents=True)
    for name, data in left.items():
        (again / name).write_bytes(data)
    resume_script.audited(None, tmp_path)
    two = started(2, again.parent)
    _, said = two.communicate(timeout=240)
    assert two.returncode == 0, said.decode()
    assert timeless(tmp_path) == timeless(again.parent) == timeless(whole)
    assert Report.from_json(again.parent / "report.json").environment.processes == 2


class Enough(Exception):
    """Raised in the middle of an audit."""


def interrupted(out: Path) -> list[Path]:
    """The batches that an audit leaves which breaks off after its fifth."""
    from stackelberg.report import auditing

    audit_batch, left = auditing.audit_batch, 5

    def counted(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Enough("five")
        return audit_batch(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auditing, "audit_batch", counted)
        with pytest.raises(Enough, match="five"):
            resume_script.audited(None, out)
    return sorted((out / "batches").glob("*.json"))


def test_what_was_finished_is_not_done_again(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stackelberg.report import auditing

    assert len(interrupted(tmp_path)) == 5
    audit_batch, done = auditing.audit_batch, []
    monkeypatch.setattr(auditing, "audit_batch", lambda *given: done.append(given[3]) or audit_batch(*given))
    resume_script.audited(None, tmp_path)
    assert len(done) == resume_script.BATCHES - 5
    assert timeless(tmp_path) == timeless(whole)


@pytest.mark.parametrize(("change", "part"), [({"seed": 1}, "another model"), ({"radius": 0.03}, "another plan")])
def test_another_model_or_plan_begins_afresh_and_says_so(
    change: dict[str, Any], part: str, tmp_path: Path, whole: Path
) -> None:
    interrupted(tmp_path)
    with pytest.warns(UserWarning, match=f"holds batches of an audit with {part}, they are dropped and"):
        changed = resume_script.audited(None, tmp_path, **change)
    assert len(changed.examples.label) == 48
    resume_script.audited(None, tmp_path / "alone", **change)
    assert timeless(tmp_path) == timeless(tmp_path / "alone") != timeless(whole)


def test_a_damaged_batch_is_done_again(tmp_path: Path, whole: Path) -> None:
    first, second, third, *_ = interrupted(tmp_path)
    first.write_text(first.read_text()[:100])
    record = json.loads(second.read_text())
    del record["finding"]["fell_to"]
    second.write_text(json.dumps(record))
    record = json.loads(third.read_text())
    record["finding"]["index"][0] += 1
    third.write_text(json.dumps(record))
    resume_script.audited(None, tmp_path)
    assert timeless(tmp_path) == timeless(whole)
