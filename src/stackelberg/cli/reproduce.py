"""`stackelberg reproduce`: do the published figures come out?"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackelberg.cli import options
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from stackelberg.exhibits import Result


def command(
    exhibits: Annotated[list[str] | None, typer.Argument(metavar="[EXHIBIT]...", help="Ids; all if left out.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the exhibits and stop.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Print the results in --out as Markdown and stop.")] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another value for a setting.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of the results.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Directory of the trained networks, used where they are there.")] = Path(
        "runs"
    ),
    force: Annotated[bool, typer.Option("--force", help="Measure again what has been measured.")] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure published figures anew, and write results/<id>.json with the published number beside ours.

    Trained networks are taken from --runs (for example runs/cifar10-resnet18-standard) or trained there. Exits with 1
    if a claim does not hold.

    \b
    Example:
      stackelberg reproduce X01 X02
      stackelberg reproduce X17 --set n=500 --out results
      stackelberg reproduce --table > docs/results.md
    """
    from stackelberg import exhibits as rooms

    if listed:
        for id, exhibit in rooms.EXHIBITS.items():
            print(f"{id}  {exhibit.title}\n     published: {exhibit.published} ({exhibit.source})")
        return
    if table:
        print(rooms.table(rooms.read_results(out)), end="")
        return
    chosen = [rooms.named(id, **_settings(changes or [])) for id in exhibits or rooms.EXHIBITS]
    stage = rooms.Stage(out, runs, seed, device, say=lambda text: print(text, file=sys.stderr, flush=True))
    results = [rooms.reproduce(exhibit, stage, force) for exhibit in chosen]
    print(_json(results) if json else "\n\n".join(_words(result, out) for result in results))
    if not all(result.outcome.holds for result in results):
        raise typer.Exit(1)


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
