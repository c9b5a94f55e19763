"""What the pages show is run as it stands: Python as code, commands as far as their words go, links as paths."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import matplotlib.pyplot as plt
import pytest
import typer

from pages import PAGES, ROOT, blocks, called
from searches import brief
from stackelberg.cli import app

WITH_CODE = [page for page in PAGES if blocks(page, "python", "{plot}")]
WITH_COMMANDS = [page for page in PAGES if blocks(page, "shell", "console", "sh", "")]


@pytest.mark.parametrize("page", WITH_CODE, ids=called)
def test_its_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page in their order, as one program in an empty folder; the README has a test of its own.

    Searches by scores are brief: what they find is not on the pages.
    """
    if page.name == "README.md":
        pytest.skip("run by test_readme")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__page__"}
    try:
        with brief():
            for block in blocks(page, "python", "{plot}"):
                exec(compile(block, called(page), "exec"), names)
    finally:
        plt.close("all")


def commands(page: Path) -> Iterator[list[str]]:
    for block in re.findall(r"^```(?:shell|sh|console)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            bare = line.removeprefix("$ ").split(" | ")[0].split(" > ")[0].split("#")[0].strip()
            if bare.startswith("stackelberg "):
                yield shlex.split(bare)[1:]


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_its_commands_are_understood(page: Path) -> None:
    root = typer.main.get_command(app)
    for words in commands(page):
        command, rest = root, words
        while isinstance(command, click.Group):
            inner = command.commands.get(rest[0])
            assert inner is not None, f"no command {rest[0]!r} in: stackelberg {shlex.join(words)}"
            command, rest = inner, rest[1:]
        if "--help" not in rest:
            command.make_context(command.name, rest)


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_its_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), f"{called(page)} links {link}, which is not there"


def test_every_page_is_reached_from_the_first() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
            names = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")]
            waiting += [page.parent / f"{name}.md" for name in names]
    assert {page for page in PAGES if page.name != "README.md"} == reached
