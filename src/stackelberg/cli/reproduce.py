"""`stackelberg reproduce`: do the published figures come out?"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackelberg.cli import options
from stackelberg.cli.progress import Ticker
from stackelberg.errors import StackelbergError
from stackelberg.files import write_text

if TYPE_CHECKING:
    from stackelberg.exhibits import Exhibit, Failed, Result, Stage
    from stackelberg.report.spreading import Where


def command(
    exhibits: Annotated[list[str] | None, typer.Argument(metavar="[EXHIBIT]...", help="Ids; all if left out.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every exhibit there is, as without ids.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Print the exhibits and stop.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Print the results in --out as Markdown and stop.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another value for a setting; of several, commas between."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of the results.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Directory of the trained networks, used where they are there.")] = Path(
        "runs"
    ),
    page: Annotated[
        Path | None, typer.Option(help="Write the results in --out to this Markdown file, after each exhibit.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure again what has been measured.")] = False,
    processes: options.Processes = 1,
    cluster: options.Cluster = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure published figures anew, and write results/<id>.json with the published number beside ours.

    Trained networks are taken from --runs (for example runs/cifar10-resnet18-standard) or trained there. What has been
    measured with the same settings is not measured again, and what was killed goes on. Of several exhibits one that
    fails is named, and the others go on. Exits with 1 if a claim does not hold, with 2 if an exhibit failed.

    \b
    Example:
      stackelberg reproduce X01 X02
      stackelberg reproduce X17 --set n=500 --out results
      stackelberg reproduce --all --processes 2 --page docs/results.md
    """
    from stackelberg import exhibits as rooms

    if listed:
        for id, exhibit in rooms.EXHIBITS.items():
            print(f"{id}  {exhibit.title}\n     published: {exhibit.published} ({exhibit.source})")
        return
    if table:
        print(rooms.table(rooms.read_results(out)), end="")
        return
    if every and exhibits:
        raise StackelbergError(f"--all and {exhibits[0]!r} were both given; leave one out")
    chosen = [rooms.named(id, **_settings(changes or [])) for id in dict.fromkeys(exhibits or rooms.EXHIBITS)]
    stage = rooms.Stage(out, runs, seed, device, say=lambda text: print(text, file=sys.stderr, flush=True))
    rows: list[Result | Failed] = []
    for row in _rows(chosen, stage, force, options.where(processes, cluster), processes):
        rows.append(row)
        if page is not None:
            write_text(page, rooms.table(rooms.read_results(out)))
    results = [row for row in rows if isinstance(row, rooms.Result)]
    print(_json(results) if json else "\n\n".join(_words(result, out) for result in results))
    if len(results) < len(rows):
        raise typer.Exit(2)
    if not all(result.outcome.holds for result in results):
        raise typer.Exit(1)


def _rows(
    chosen: list["Exhibit"], stage: "Stage", force: bool, where: "Where", processes: int
) -> "Iterator[Result | Failed]":
    """What becomes of each; the error of one that was asked for alone is the command's own."""
    from stackelberg import exhibits as rooms

    if len(chosen) == 1:
        yield rooms.reproduce(chosen[0], stage, force)
        return
    with Ticker("reproduce") as ticker:
        for row in rooms.reproduce_all(chosen, stage, force, where=where, processes=processes, tell=ticker):
            if isinstance(row, rooms.Failed):
                print(f"stackelberg: {row.id} failed: {row.why}", file=sys.stderr, flush=True)
            yield row


def _settings(changes: list[str]) -> dict[str, str | float]:
    from stackelberg.threat import parse_radius

    pairs: dict[str, str | float] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise StackelbergError(f"--set takes name=value, got {change!r}; for example --set n=500")
        name = name.replace("-", "_")
        pairs[name] = parse_radius(value) if name == "radius" else value
    return pairs


def _json(results: list["Result"]) -> str:
    return "[" + ",\n".join(result.model_dump_json(by_alias=True, indent=1) for result in results) + "]"


def _words(result: "Result", out: Path) -> str:
    """The published number beside ours."""
    rows = [
        f"  {m.name:48} {m.here:22} {f'published {m.published}' if m.published else ''}"
        for m in result.outcome.measured
    ]
    verdict = "holds" if result.outcome.holds else "does NOT hold here"
    return "\n".join(
        [
            f"{result.id}: {result.title}",
            f"  published: {result.published} ({result.source})",
            *(row.rstrip() for row in rows),
            f"  claim: {result.claim}: {verdict}",
            *(f"  note: {note}" for note in result.outcome.notes),
            f"  {', '.join(str(out / name) for name in (result.id + '.json', *result.outcome.pictures))}",
        ]
    )
