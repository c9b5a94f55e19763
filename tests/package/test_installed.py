"""The package as a stranger gets it: built, installed into an environment of its own, and asked."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD = "import sys, os; os.chdir(sys.argv[1]); import hatchling.build as b; b.build_{0}(sys.argv[2])"


def ran(*words: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def library(venv: Path) -> Path:
    return next((venv / "lib").glob("python*")) / "site-packages"


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that sees the dependencies of this one, but not this project."""
    folder = tmp_path_factory.mktemp("venv")
    ran(sys.executable, "-m", "venv", folder)
    # a path in a .pth file is searched, but the .pth files in it, such as that of an editable install, are not read
    (library(folder) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture(scope="module")
def built(venv: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist of the working tree."""
    python, folder = venv / "bin" / "python", tmp_path_factory.mktemp("dist")
    if importlib.util.find_spec("hatchling") is None:
        backend = PROJECT["build-system"]["requires"][0]
        got = subprocess.run([python, "-m", "pip", "install", "--quiet", backend], capture_output=True, text=True)
        if got.returncode:
            pytest.skip(
                f"needs the build backend, which is not installed and could not be fetched: {got.stderr[-200:]}"
            )
    for kind in ("wheel", "sdist"):
        ran(python, "-c", BUILD.format(kind), ROOT, folder)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


def held(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    names = held(built["wheel"])
    sources = {path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    wanted = {str(path.relative_to(ROOT / "src")) for path in sources}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    needed = (
        "py.typed",
        "report/report.schema.json",
        "report/templates/report.html.jinja",
        "report/templates/style.css",
    )
    assert {f"stackelberg/{name}" for name in needed} <= names
    assert not [name for name in names if name.startswith(("tests", "results", "benchmarks", "docs"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_says_what_it_needs(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        told = message_from_string(archive.read(name).decode())
    assert told["Name"] == "stackelberg"
    assert told["Version"] == PROJECT["project"]["version"]
    assert set(told.get_all("Provides-Extra") or ()) == set(PROJECT["project"]["optional-dependencies"])
    needs = [need for need in told.get_all("Requires-Dist") or () if "extra ==" not in need]
    assert len(needs) == len(PROJECT["project"]["dependencies"])
    assert told["License-Expression"] == "Apache-2.0"


def test_the_sdist_builds_the_same_wheel(built: dict[str, Path], venv: Path, tmp_path: Path) -> None:
    with tarfile.open(built["sdist"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert not (source / ".venv").exists()
    ran(venv / "bin" / "python", "-c", BUILD.format("wheel"), source, tmp_path)
    assert held(next(tmp_path.glob("*.whl"))) == held(built["wheel"])


def test_the_installed_package_answers(
    built: dict[str, Path], venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version, help, completion, data, a model, an audit with its page: from the wheel, not from here."""
    python = venv / "bin" / "python"
    ran(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", built["wheel"])
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    bare |= {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    monkeypatch.chdir(tmp_path)
    where = ran(python, "-c", "import stackelberg; print(stackelberg.__file__)", env=bare).strip()
    assert where.startswith(str(library(venv)))
    said = f"stackelberg {PROJECT['project']['version']}\n"
    assert ran(python, "-m", "stackelberg", "--version", env=bare) == said
    assert ran(venv / "bin" / "stackelberg", "--version", env=bare) == said
    (tmp_path / "mine.py").write_text(
        "import stackelberg as sb\ndef net():\n    return sb.models.build('mlp', 10, (1, 8, 8), 8, seed=0)\n"
    )
    audit = ("audit", "mine:net", "--data", "digits", "--eps", "0.1", "--n", "8", "--effort", "fast", "--json")
    answer = json.loads(ran(python, "-m", "stackelberg", *audit, "--sarif", "a.sarif", env=bare))
    assert answer["n"] == 8
    assert "<!doctype html>" in Path(answer["page"]).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.sarif").read_text())["version"] == "2.1.0"
