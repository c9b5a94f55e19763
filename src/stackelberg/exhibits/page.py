"""How does an exhibit show pictures?  One HTML file that needs nothing else, in the style of the reports."""

from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from stackelberg.files import write_text


def write_page(path: Path, template: str, **shown: Any) -> None:
    """Write a template of the exhibits, filled with `shown`, whole or not at all."""
    pages = Environment(
        loader=ChoiceLoader([PackageLoader("stackelberg.exhibits"), PackageLoader("stackelberg.report")]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, pages.get_template(template).render(**shown))
