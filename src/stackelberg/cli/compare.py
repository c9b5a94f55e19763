"""`stackelberg compare`: is the second network more secure than the first?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from stackelberg.report import Report

_SURE = 0.05


def command(
    reports: Annotated[
        list[Path], typer.Argument(help="Two or more: report.json, a folder that holds one, or an audited run.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("compare"),
    fail_worse: Annotated[
        bool, typer.Option("--fail-worse", help="Exit with 1 if a later one is less robust than the first, p < 0.05.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show audits side by side: brackets, curves, attacks, and whether chance explains the difference.

    Writes compare.html to --out. The audits must be of the same threat. On the same examples the upper ends are
    compared by McNemar's exact test.

    \b
    Example:
      stackelberg compare runs/a runs/b --out compare
      stackelberg compare before/report.json after/report.json --fail-worse
    """
    from stackelberg import report as room

    found = {name: room.Report.from_json(path) for name, path in _named(reports).items()}
    page = out / "compare.html"
    room.compare(found, page)
    rows = _rows(found)
    show({"page": str(page), "reports": rows}, _words(found, rows, page), json)
    if fail_worse and any(row["worse"] for row in rows):
        raise typer.Exit(1)


def _named(places: list[Path]) -> dict[str, Path]:
    """The report of each place, by the shortest names that tell them apart."""
    paths = [_report(place) for place in places]
    if len({path.resolve() for path in paths}) < len(paths):
        raise StackelbergError(f"{paths[0]} is named twice or another is; name different reports")
    parts = [[part for part in path.parent.parts if part not in ("audit", "/")] or [path.stem] for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    return {str(path): path for path in paths}


def _report(place: Path) -> Path:
    for path in (place, place / "report.json", place / "audit" / "report.json"):
        if path.is_file():
            return path
    raise StackelbergError(f"there is no report at {place}; pass report.json, or the folder given to audit --out")


def _rows(found: "dict[str, Report]") -> list[dict[str, Any]]:
    from stackelberg.report.page import paired

    first = next(iter(found.values()))
    rows = []
    for name, report in found.items():
        test = None if report is first else paired(first, report)
        rows.append(
            {
                "name": name,
                "clean_accuracy": report.clean,
                "robust_accuracy": {"upper": report.robust.upper, "lower": report.robust.lower},
                "p": None if test is None else test[2],
                "worse": test is not None and test[0] > test[1] and test[2] < _SURE,
            }
        )
    return rows


def _words(found: "dict[str, Report]", rows: list[dict[str, Any]], page: Path) -> str:
    wide = max(map(len, found))
    lines = [
        f"{name:{wide}}  right unmoved {report.clean}, attacked {report.robust.upper}, certified {report.robust.lower}"
        for name, report in found.items()
    ]
    for row in rows[1:]:
        if row["p"] is None:
            lines.append(f"{row['name']} was audited on other examples than {rows[0]['name']}: no paired test")
        else:
            sure = "more than chance explains" if row["p"] < _SURE else "chance alone may explain the difference"
            lines.append(
                f"{rows[0]['name']} and {row['name']} under attack: {sure} (McNemar's exact test, p {row['p']:.2g})"
            )
    return "\n".join([*lines, str(page)])
