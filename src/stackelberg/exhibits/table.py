"""How do all results look together?  One Markdown page, the published number beside ours, and what is still missing."""

from collections.abc import Iterable
from typing import Any

from stackelberg.exhibits.catalogue import EXHIBITS
from stackelberg.exhibits.exhibit import Exhibit, Measured, Result

_HEAD = """# Results

Written by `stackelberg reproduce --all --page` from the files in `results/`; nothing here is typed in by hand. Rates
carry exact 95 % intervals (Clopper and Pearson). A claim is what has to come out at the size at which it is measured
here; where it does not hold, the notes of its row say why.
"""


def table(results: Iterable[Result]) -> str:
    """The page for some results: every exhibit of the catalogue, those without a result with what would give it.

    The rows X of published figures come first, then what is measured beside them.
    """
    found = {result.id: result for result in results}
    ids = sorted(found.keys() | EXHIBITS.keys(), key=lambda id: (not id.startswith("X"), id))
    sections = [_section(found[id]) if id in found else _missing(EXHIBITS[id]) for id in ids]
    return "\n".join([_HEAD, *_overview(found, ids), *sections])


def _overview(found: dict[str, Result], ids: list[str]) -> list[str]:
    lines = ["| row | | its claim | measured on |", "|---|---|---|---|"]
    for id in ids:
        if id in found:
            holds = "holds" if found[id].outcome.holds else "does not hold here"
            lines.append(f"| {id} | {found[id].title} | {holds} | {found[id].environment.created[:10]} |")
        else:
            lines.append(f"| {id} | {EXHIBITS[id].title} | not measured | |")
    return [*lines, ""]


def _missing(kind: type[Exhibit]) -> str:
    lines = [
        f"## {kind.id}: {kind.title}",
        "",
        f"Published: {kind.published}. Source: {kind.source}.",
        "",
        f"Claim: {kind.claim}. **Not measured:** no run of it at its full settings has come to an end, so there is no"
        f" `results/{kind.id}.json`; `stackelberg reproduce {kind.id}` writes it.",
        "",
    ]
    return "\n".join(lines)


def _section(result: Result) -> str:
    where = result.environment
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in result.settings.items())
    lines = [
        f"## {result.id}: {result.title}",
        "",
        f"Published: {result.published}. Source: {result.source}.",
        "",
        f"Claim: {result.claim}. **{'It holds.' if result.outcome.holds else 'It does not hold here.'}**",
        "",
        "| measured | published | here | n |",
        "|---|---|---|---|",
        *(_row(measured) for measured in result.outcome.measured),
        "",
        *(f"- {note[:1].upper()}{note[1:]}." for note in (*_shortfall(result), *result.outcome.notes)),
        *(f"- Network {used['name']}: {_network(used)}." for used in result.networks),
        f"- `{result.command}` ({settings}); {where.created[:10]}, {where.seconds:.0f} s on {where.processor}"
        f" ({where.device}), torch {where.torch}, stackelberg {where.stackelberg}.",
        "",
    ]
    return "\n".join(lines)


def _shortfall(result: Result) -> tuple[str, ...]:
    """Why the claim does not hold, where it does not and its exhibit knows."""
    why = EXHIBITS[result.id].short if result.id in EXHIBITS else ""
    return (f"falls short here: {why}",) if why and not result.outcome.holds else ()


def _row(measured: Measured) -> str:
    n = "" if measured.rate is None else measured.rate.n
    return f"| {measured.name} | {measured.published or ''} | {measured.here} | {n} |"


def _network(used: dict[str, Any]) -> str:
    game = (used["game"] or {}).get("name")
    spec = used["model"] or {}
    return (
        f"{spec.get('name')} of width {spec.get('width')}, game {game}, {used['epochs']} epochs, seed {used['seed']},"
        f" weights sha256 {(used['weights'] or '')[:12]}"
    )


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
