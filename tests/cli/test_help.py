"""What every command has in common."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stackelberg as sb

COMMAND = str(Path(sys.executable).with_name("stackelberg"))
COMMANDS = {
    "demo": {"--out", "--seed", "--device", "--json"},
    "train": {"--out", "--seed", "--device", "--devices", "--nodes", "--json", "--resume"},
    "audit": {"--out", "--seed", "--device", "--devices", "--json", "--fail-under", "--junit", "--sarif"},
    "bound": {"--out", "--seed", "--device", "--json", "--data", "--eps", "--delta", "--quick"},
    "certify": {"--out", "--seed", "--json", "--method", "--timeout", "--onnx", "--vnnlib"},
    "compare": {"--out", "--json", "--fail-worse"},
    "check": {"--json", "--model", "--data", "--timeout", "--strict"},
    "memorize": {"--out", "--seed", "--json", "--kind", "--norm", "--radius", "--onnx"},
    "sweep": {"--out", "--seed", "--json", "--data", "--games", "--eps", "--processes", "--cluster"},
    "reproduce": {"--out", "--seed", "--device", "--json", "--list", "--table", "--force"},
}
GROUPS = {"poison": {"availability", "backdoor", "targeted", "detect", "evaluate"}, "ownership": {"mark", "test"}}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_the_options_and_an_example(stackelberg: Callable[..., Any], command: str) -> None:
    answer = stackelberg(command, "--help")
    assert answer.status == 0
    assert re.search(rf"Example:\n +stackelberg {command}\b", answer.out)
    assert COMMANDS[command] <= set(answer.out.split())


def test_the_commands_are_all_there(stackelberg: Callable[..., Any]) -> None:
    answer = stackelberg("--help")
    assert answer.status == 0
    listed = answer.out.partition("Commands:")[2]
    names = {line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "}
    assert names == {*COMMANDS, *GROUPS}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_its_commands_each_with_an_example(stackelberg: Callable[..., Any], group: str) -> None:
    listed = stackelberg(group, "--help").out.partition("Commands:")[2]
    names = {line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "}
    assert names >= GROUPS[group]
    for command in GROUPS[group]:
        assert re.search(rf"Example:\n +stackelberg {group} {command}\b", stackelberg(group, command, "--help").out)


def test_the_version(stackelberg: Callable[..., Any]) -> None:
    assert stackelberg("--version").out == f"stackelberg {sb.__version__}\n"


def test_a_bug_shows_its_traceback(stackelberg: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("stackelberg.data.load", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        stackelberg("train", "--data", "digits", "--eps", "0.1")


def test_help_does_not_wait_for_torch() -> None:
    script = "import sys, stackelberg.cli; print([m for m in ('torch', 'scipy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "stackelberg", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"stackelberg {sb.__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    """The script that `--install-completion` installs, as the shell asks for it, and an answer to a half-typed word."""
    script = {"_STACKELBERG_COMPLETE": f"source_{shell}"}
    done = subprocess.run([COMMAND], env=os.environ | script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "_STACKELBERG_COMPLETE" in done.stdout
    typed = {"_STACKELBERG_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    typed |= {"COMP_WORDS": "stackelberg mem", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "stackelberg mem"}
    done = subprocess.run([COMMAND], env=os.environ | typed, capture_output=True, text=True)
    assert "memorize" in done.stdout
    assert "reproduce" not in done.stdout


@pytest.mark.parametrize(
    "words",
    [("audti",), ("audit", "--nothing"), ("audit",), ("memorize", "--n", "x", "--data", "digits"), ("train", "a b\nc")],
)
def test_words_that_are_not_understood_get_one_line(stackelberg: Callable[..., Any], words: tuple[str, ...]) -> None:
    answer = stackelberg(*words)
    assert answer.status == 2
    assert answer.out == ""
    assert answer.line.startswith("stackelberg: ")
    assert "--help lists what it takes" in answer.line


def test_no_words_at_all_get_the_help(stackelberg: Callable[..., Any]) -> None:
    answer = stackelberg()
    assert answer.status == 2
    assert "Commands:" in answer.out + answer.err
