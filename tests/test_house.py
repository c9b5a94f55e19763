"""The rules of the house, held by the tests: what can be counted is not left to reviews."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES, MOST_IN_A_FUNCTION = 400, 60


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def called(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def bare_comparisons(tree: ast.AST) -> list[int]:
    """Lines on which a comparison's answer is thrown away: np.allclose(a, b) as a statement, and its like."""
    names = {"allclose", "isclose", "equal", "array_equal", "is_close"}
    calls = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    return [c.lineno for c in calls if getattr(c.func, "attr", getattr(c.func, "id", "")) in names]


def statements(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature and docstring: what there is to follow."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body and function.end_lineno else 0


def test_a_thrown_away_comparison_is_found() -> None:
    assert bare_comparisons(ast.parse("import numpy as np\nnp.allclose(1, 2)\nassert np.allclose(1, 1)")) == [2]
    assert bare_comparisons(ast.parse("torch.equal(a, b)")) == [1]


@pytest.mark.parametrize("path", TESTS, ids=called)
def test_no_test_throws_a_comparison_away(path: Path) -> None:
    assert bare_comparisons(parsed(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=called)
def test_a_file_says_what_it_is_for_and_stays_short(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree), "no docstring"
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES
    assert [f"{f.name}: {statements(f)}" for f in functions(tree) if statements(f) >= MOST_IN_A_FUNCTION] == []


ROOMS = sorted(path for path in (ROOT / "src" / "stackelberg").iterdir() if (path / "__init__.py").is_file())


@pytest.mark.parametrize("room", ROOMS, ids=called)
def test_a_room_opens_with_its_question(room: Path) -> None:
    docstring = ast.get_docstring(parsed(room / "__init__.py")) or ""
    assert "?" in docstring.splitlines()[0]


def test_no_room_bears_the_name_of_a_public_function_nor_of_a_drawer() -> None:
    names = {path.stem for path in SOURCES} | {room.name for room in ROOMS}
    assert not names & {"utils", "util", "helpers", "common", "core", "misc", "audit_", "solve"}
    assert not {room.name for room in ROOMS} & {"audit", "solve"}


def test_every_pinned_version_is_exact() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 50
    assert [line for line in pins if line.count("==") != 1 or "+" in line or "://" in line] == []


def test_every_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for extra in ("dev", "hub", "convex", "onnx") for name in project["optional-dependencies"][extra]]
    wanted = {_name(line) for line in project["dependencies"] + extras} - {"stackelberg"}
    pinned = {_name(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]}
    assert wanted - pinned == set()


def _name(requirement: str) -> str:
    bare = requirement.split("[")[0].split("=")[0].split(">")[0].split("<")[0].strip()
    return bare.lower().replace("_", "-")


def test_no_two_test_files_share_a_name() -> None:
    names = [path.name for path in TESTS if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names)), "pytest imports test files by their bare names"
