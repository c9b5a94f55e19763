"""How do all results look together?  One Markdown page, the published number beside ours."""

from collections.abc import Iterable
from typing import Any

from stackelberg.exhibits.exhibit import Measured, Result

_HEAD = """# Results

Written by `stackelberg reproduce --table` from the files in `results/`; nothing here is typed in by hand. Rates carry
exact 95 % intervals (Clopper and Pearson).
"""


def table(results: Iterable[Result]) -> str:
    """The page for some results."""
    return "\n".join([_HEAD, *(_section(result) for result in results)])


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
        *(f"- {note[:1].upper()}{note[1:]}." for note in result.outcome.notes),
        *(f"- Network {used['name']}: {_network(used)}." for used in result.networks),
        f"- `{result.command}` ({settings}); {where.created[:10]}, {where.seconds:.0f} s on {where.processor}"
        f" ({where.device}), torch {where.torch}, stackelberg {where.stackelberg}.",
        "",
    ]
    return "\n".join(lines)


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
