"""The action for build servers, and the container file: what can be checked without either."""

import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPT = ROOT / "action" / "audit.sh"
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
SETTINGS = {
    "STACKELBERG_MODEL": "a model.onnx",
    "STACKELBERG_DATA_SOURCE": "mnist; touch hacked",
    "STACKELBERG_EPS": "8/255",
    "STACKELBERG_OUT": "the report",
}
RATE = {"value": 0.5, "low": 0.4, "high": 0.6}
ANSWER = {
    "page": "the report/report.html", "threat": {"norm": "linf", "radius": 0.1}, "n": 8, "warnings": ["masking"],
    "clean_accuracy": RATE, "robust_accuracy": {"upper": RATE, "lower": RATE | {"value": 0.25}},
}  # fmt: skip


def run_script(folder: Path, status: int, **settings: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script with a `stackelberg` that writes its words down, says ANSWER and ends with `status`."""
    (folder / "bin").mkdir()
    fake = folder / "bin" / "stackelberg"
    fake.write_text(
        f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open('words.json', 'w'))\n"
        f"print({json.dumps(json.dumps(ANSWER))} if {status} < 2 else '')\nsys.exit({status})\n"
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    (folder / "bin" / "python").symlink_to(sys.executable)
    env = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "GITHUB_OUTPUT": "outputs",
        "GITHUB_STEP_SUMMARY": "summary",
    }
    done = subprocess.run(
        ["bash", str(SCRIPT)], cwd=folder, env=env | SETTINGS | settings, capture_output=True, text=True
    )
    return done, json.loads((folder / "words.json").read_text())


def test_settings_become_words_one_by_one(tmp_path: Path) -> None:
    done, words = run_script(tmp_path, 0, STACKELBERG_FAIL_UNDER="0.8", STACKELBERG_NETWORK="mlp")
    assert done.returncode == 0, done.stderr
    assert words[:4] == ["audit", "a model.onnx", "--data", "mnist; touch hacked"]
    assert not (tmp_path / "hacked").exists()
    pairs = dict(itertools.pairwise(words))
    assert (pairs["--eps"], pairs["--norm"], pairs["--n"], pairs["--model"]) == ("8/255", "linf", "1000", "mlp")
    assert (pairs["--fail-under"], pairs["--junit"]) == ("0.8", "the report/audit.xml")
    outputs = (tmp_path / "outputs").read_text().splitlines()
    assert outputs == [
        "upper=0.5", "lower=0.25", "report=the report/report.html", "sarif=the report/audit.sarif",
    ]  # fmt: skip
    summary = (tmp_path / "summary").read_text()
    assert "| 50.0 % [40.0, 60.0] | 50.0 % [40.0, 60.0] | 25.0 % [40.0, 60.0] | linf 0.1 | 8 |" in summary
    assert "- masking" in summary


def test_without_a_floor_there_is_no_junit_file(tmp_path: Path) -> None:
    done, words = run_script(tmp_path, 0)
    assert done.returncode == 0
    assert not {"--fail-under", "--junit", "--model"} & set(words)


@pytest.mark.parametrize("status", [1, 2])
def test_the_status_is_handed_on(tmp_path: Path, status: int) -> None:
    done, _ = run_script(tmp_path, status)
    assert done.returncode == status
    assert (tmp_path / "outputs").exists() == (status == 1)


def test_every_input_is_used_and_none_reaches_a_shell_as_code() -> None:
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    text = json.dumps(steps)
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    for step in steps:
        assert "${{" not in step.get("run", "")
        assert "run" not in step or step["shell"] == "bash"
    (audit,) = [step for step in steps if step.get("id") == "audit"]
    assert set(audit["env"]) == set(re.findall(r"STACKELBERG_[A-Z_]+", SCRIPT.read_text(encoding="utf-8")))
    outputs = {
        name: set(re.findall(r"steps\.audit\.outputs\.(\w+)", said["value"]))
        for name, said in ACTION["outputs"].items()
    }
    assert outputs == {name: {name} for name in ("upper", "lower", "report", "sarif")}
    (upload,) = [step for step in steps if step.get("uses", "").startswith("actions/upload-artifact")]
    assert upload["if"].startswith("always()")


def test_the_words_of_the_script_are_those_of_the_command() -> None:
    from typer.main import get_command

    from stackelberg.cli import app

    audit = get_command(app).commands["audit"]  # pyright: ignore[reportAttributeAccessIssue]  # it is a group
    known = {option for parameter in audit.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]*", SCRIPT.read_text(encoding="utf-8"))) <= known


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest of it) of the container file, continued lines joined."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(first, rest.strip()) for first, _, rest in (line.partition(" ") for line in lines)]


def copied() -> list[str]:
    """What the container file takes from this folder."""
    words = [rest.split() for first, rest in instructions() if first == "COPY"]
    return [name for names in words if not names[0].startswith("--from") for name in names[:-1]]


def test_the_container_runs_as_nobody_special() -> None:
    assert [rest for first, rest in instructions() if first == "USER"] == ["stackelberg"]
    bases = [rest.split() for first, rest in instructions() if first == "FROM"]
    for base, *_ in bases:
        version = re.fullmatch(r"python:3\.(\d+)-slim", base)
        assert version is not None, "a fixed version, of the image that has pip and useradd"
        assert int(version[1]) >= int(PROJECT["project"]["requires-python"].removeprefix(">=3."))
    stages = {words[-1] for words in bases if "AS" in words}
    sources = {
        rest.split()[0].removeprefix("--from=")
        for first, rest in instructions()
        if "--from=" in rest and first == "COPY"
    }
    assert sources == stages
    assert ("ENTRYPOINT", '["stackelberg"]') in instructions()
    assert "stackelberg" in PROJECT["project"]["scripts"]
    assert "http" not in (ROOT / "Containerfile").read_text(encoding="utf-8")


def test_what_the_container_runs_is_there() -> None:
    for first, rest in instructions():
        if first == "RUN":
            assert subprocess.run(["sh", "-n", "-c", rest], capture_output=True, text=True).stderr == ""
            for command in rest.split("&&"):
                assert command.split()[0] in {"python", "rm", "useradd", "mkdir", "chown"}, "of python:slim, Debian"
    (backend,) = PROJECT["build-system"]["requires"]
    runs = " ".join(rest for first, rest in instructions() if first == "RUN")
    assert f"pip install --no-cache-dir {backend}" in runs
    extras = re.findall(r'whl\)\[(\w+)\]"', runs)
    assert extras
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])


def test_what_the_container_copies_is_enough_for_the_wheel(tmp_path: Path) -> None:
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    (build,) = [rest for first, rest in instructions() if first == "RUN" and "pip wheel" in rest]
    words = build.replace("/wheels", str(tmp_path / "wheels")).split()
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name.split("-")[0] for path in (tmp_path / "wheels").iterdir()] == ["stackelberg"]
