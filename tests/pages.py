"""Which code do the pages show?  Every block of Python and every command, as the tests run them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^```(\{?\w+\}?)\s*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, *kinds: str) -> list[str]:
    """The texts of the fenced blocks of these kinds, without a directive's options."""
    found = [(kind, text) for kind, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if kind in kinds]
    return [re.sub(r"\A(:[\w-]+:.*\n)+\n?", "", text) for _, text in found]


def called(page: Path) -> str:
    """A page's name in a list of tests."""
    return str(page.relative_to(ROOT))
