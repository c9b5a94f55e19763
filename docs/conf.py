"""How is the documentation site built?  `make docs`; every picture of a theorem is drawn by the code beside it."""

import re
from importlib.metadata import version as installed
from typing import Any

project = "stackelberg"
author = "The stackelberg developers"
copyright = "The stackelberg developers, Apache-2.0"
release = version = installed("stackelberg")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md"]

html_theme = "furo"
html_title = "stackelberg"
html_static_path: list[str] = []

plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("svg", 96)]
plot_include_source = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "imported-members": True, "exclude-members": "__init__, __new__"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # shapes of arrays are no markup
nitpicky = False


def plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring is prose and formulas: its asterisks and bars are products and absolute values, not markup."""
    example = False  # which is shown as it stands, up to the next empty line
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if example:
            continue
        parts = re.split(r"(`[^`]*`)", line)
        lines[i] = "".join(part if part.startswith("`") else re.sub(r"([*|])", r"\\\1", part) for part in parts)


def drawn(app: Any, page: str, source: list[str]) -> None:
    """A {plot} block becomes matplotlib's directive in reStructuredText, the one markup that can hold it."""

    def directive(found: re.Match[str]) -> str:
        body = "".join(f"   {line}".rstrip() + "\n" for line in found.group(1).splitlines())
        return f"```{{eval-rst}}\n.. plot::\n{body}```"

    source[0] = re.sub(r"^```\{plot\}\n(.*?)^```", directive, source[0], flags=re.DOTALL | re.MULTILINE)


def setup(app: Any) -> None:
    """Let `plain` read every docstring before the sections of arguments are made of it, and `drawn` every page."""
    app.connect("autodoc-process-docstring", plain, priority=100)
    app.connect("source-read", drawn)
