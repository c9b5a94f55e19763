"""`stackelberg check`: is this certificate true?"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.cli.progress import Ticker
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from stackelberg.certify.checking import Checked


def command(
    certificate: Annotated[Path, typer.Argument(help="A certificate.json.")],
    model: Annotated[str | None, typer.Option(help="The network, where it is not where the certificate says.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="The data, likewise.")] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds per claim.")] = 30.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for claims left unsettled, too.")] = False,
    json: options.Json = False,
) -> None:
    """Verify every claim of a certificate by another method than the one that made it.

    Exit status 1 if a claim is refuted, or the certificate was changed or belongs to another network or other data.
    What the other methods cannot settle in time is counted, and no failure unless --strict.

    \b
    Example:
      stackelberg check runs/a/certify/certificate.json --timeout 60
    """
    from stackelberg import data as sets
    from stackelberg.certify.checking import check, read_certificate
    from stackelberg.cli.audit import asked_network

    for room in ("memorize", "poison"):  # which have kinds of their own
        import_module(f"stackelberg.{room}")
    document = read_certificate(certificate)
    source = model or document.model.source
    if model is None and ":" in source and not Path(source).exists():
        raise StackelbergError(
            f"{certificate} names code, {source}, which is not run unasked; if you trust it pass --model {source}"
        )
    examples = sets.load(data or document.data.source, document.data.split)
    own = document.model.name if model is None or model.endswith(".safetensors") else None
    network = asked_network(source, own, document.model.width if own else None, examples)
    with Ticker("check") as ticker:
        found = check(document, network, examples, timeout, ticker)
    record = {
        "certificate": str(certificate),
        "kind": document.kind,
        "faults": list(found.faults),
        **{outcome: found.count(outcome) for outcome in ("confirmed", "refuted", "unsettled")},
        "claims": [vars(judgement) for judgement in found.judgements],
    }
    show(record, _words(found), json)
    if not found.passed or (strict and found.count("unsettled")):
        raise typer.Exit(1)


def _words(found: "Checked") -> str:
    lines = [f"fault: {fault}" for fault in found.faults]
    lines += [
        f"example {judgement.index}: {judgement.outcome} by {judgement.by or 'the certificate itself'}, {judgement.why}"
        for judgement in found.judgements
        if judgement.outcome == "refuted"
    ]
    methods = sorted({j.by for j in found.judgements if j.outcome == "confirmed" and j.by}) or ["nothing"]
    lines += [
        f"confirmed  {found.count('confirmed')} of {len(found.judgements)} claims, by {', '.join(methods)}",
        f"refuted    {found.count('refuted')}",
        f"unsettled  {found.count('unsettled')} that no other method could verify in time",
    ]
    return "\n".join(lines)
