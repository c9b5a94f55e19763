"""What the docstrings show is run as it stands, in the module that shows it."""

import ast
import doctest
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import stackelberg as sb

ROOT = Path(__file__).parents[1] / "src"
CARRIERS = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def shown(path: Path) -> Iterator[tuple[str, str, int]]:
    """(name, docstring, line) of what has an example; read from the text, so that no decorator can hide one."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)) if ">>>" in source else ():
        if isinstance(node, CARRIERS) and ">>>" in (text := ast.get_docstring(node) or ""):
            yield getattr(node, "name", path.stem), text, getattr(node, "lineno", 1)


@cache
def examples() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.py")) if list(shown(path))]


def failures(text: str, names: dict[str, object], name: str, path: Path, line: int) -> str:
    """What doctest says of the examples of a docstring; nothing where all are right."""
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(doctest.DocTestParser().get_doctest(text, names, name, str(path), line), out=said.append)
    return "".join(said)


@pytest.mark.parametrize("path", examples(), ids=lambda path: str(path.relative_to(ROOT)))
def test_its_examples_come_out(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for name, text, line in shown(path):
        assert failures(text, dict(vars(module)), name, path, line) == ""


def test_a_wrong_example_is_found() -> None:
    assert "Expected:\n    3" in failures("One.\n\n>>> 1 + 1\n3\n", {}, "one", Path("one.py"), 1)


@pytest.mark.parametrize(
    "asked",
    [
        sb.audit, sb.solve, sb.attacks.suite, sb.attacks.PGD, sb.bounds.expressive, sb.bounds.hold_out,
        sb.bounds.vc, sb.certify.crown, sb.certify.exact, sb.certify.interval, sb.certify.lipschitz,
        sb.certify.smooth, sb.data.load, sb.games.kl_worst_case, sb.games.StatisticallyRobust, sb.memorize.compact,
        sb.memorize.generalizable, sb.memorize.lipschitz, sb.memorize.optimal, sb.memorize.separation, sb.models.build,
        sb.poison.availability, sb.poison.backdoor, sb.poison.targeted, sb.Ball,
    ],
    ids=lambda asked: f"{asked.__module__}.{asked.__qualname__}",
)  # fmt: skip
def test_what_is_asked_first_has_an_example(asked: object) -> None:
    assert ">>>" in (asked.__doc__ or "")
