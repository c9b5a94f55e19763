"""How is a report shown?  One HTML file: no script, no network, light and dark, phone and paper."""

import math
import os
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from stackelberg.errors import StackelbergError
from stackelberg.files import write_text
from stackelberg.report import pictures
from stackelberg.report.clouds import is_drawing
from stackelberg.report.records import Report
from stackelberg.report.words import percent, radius_words, threat_words
from stackelberg.threat import Ball, mcnemar

_NARROW = "\u202f"  # the space before a per cent sign

_ATTACKS = {
    "fgsm": "one step along the gradient",
    "pgd": "many gradient steps",
    "apgd-ce": "adaptive steps on the cross entropy",
    "apgd-dlr-targeted": "adaptive steps towards each likely class",
    "apgd": "adaptive gradient steps",
    "fab": "steps to the nearest boundary",
    "square": "random search, scores only",
}
_PROOFS = {
    "ibp": "interval bounds, rounding included",
    "steepness": "half the margin, of a network that cannot move faster than its input, rounding included",
    "crown": "or by linear bounds carried back to the input, where intervals do not suffice",
    "alpha-crown": "or with their slopes optimised",
}


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("stackelberg.report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": lambda share: percent(share).replace(" ", _NARROW),
        "bracket": lambda report, name="": Markup(pictures.bracket(report, name)),
        "curves": lambda reports: Markup(pictures.curves(reports)),
        "radius": lambda report: radius_words(report.threat.norm, report.threat.radius, report.threat.high),
        "threat": lambda report: threat_words(_ball(report)),
        "attack": lambda name: _explained(name, _ATTACKS),
        "proof": lambda name: _explained(name, _PROOFS),
        "thousands": lambda number: f"{number:,}".replace(",", _NARROW),
        "headline": headline,
        "verdict": plain_verdict,
        "taxonomy": taxonomy,
        "thing": thing,
        "things": lambda report: thing(report) + "s",
        "drawn": is_drawing,
        "moved_by": lambda item, report: radius_words(report.threat.norm, item.distance, report.threat.high),
    }
    return found


def _ball(report: Report) -> Ball:
    threat = report.threat
    return Ball(threat.norm, threat.radius, threat.low, threat.high)


def thing(report: Report) -> str:
    """What one example is: "image", "cloud" or "text"."""
    return {1: "text", 2: "cloud"}.get(len(report.data.shape), "image")


def _explained(name: str, known: Mapping[str, str]) -> str:
    return next((words for start, words in known.items() if name.startswith(start)), "")


def headline(report: Report) -> str:
    """The verdict in one sentence for a reader who knows no robustness."""
    lower, upper = (percent(rate.value).replace(" ", _NARROW) for rate in (report.robust.lower, report.robust.upper))
    if report.robust.lower.hits == report.robust.upper.hits:
        verdict = f"{upper} of its answers survive the attack, and that is proved"
    elif report.robust.lower.hits == 0:
        verdict = f"At most {upper} of its answers survive the attack, and none is proved to"
    else:
        verdict = f"Between {lower} and {upper} of its answers survive the attack"
    return verdict + (". Even the upper figure is in doubt." if not report.believable else ".")


def plain_verdict(report: Report) -> str:
    """What it means for a hundred examples like these, in words for who decides; rounded against the model."""
    lower, upper = math.floor(100 * report.robust.lower.value + 1e-9), math.ceil(100 * report.robust.upper.value - 1e-9)
    errs = f"Of every 100 {thing(report)}s like these, this adversary makes the model err on at least {100 - upper}"
    holds = f"On {lower} it cannot, and that is proved" if lower else "For none is it proved that it cannot"
    open_ = upper - lower
    rest = f"; about the other {open_} nobody knows: they stood all attacks that were tried" if open_ else ""
    return f"{errs}. {holds}{rest}."


_ASKING = ("square", "hopskipjump", "boundary")
"""Names of attacks that only ask the model, and look at no gradient."""


def taxonomy(report: Report) -> str:
    """The method in one paragraph, in the terms of NIST AI 100-2, Adversarial Machine Learning: A Taxonomy."""
    ran = [row.name for row in report.attacks if row.skipped is None]
    asking = [name for name in ran if name.startswith(_ASKING)]
    looking = [name for name in ran if not name.startswith(_ASKING)]
    knowledge = []
    if looking:
        knowledge.append(f"white-box, by {', '.join(looking)}")
    if asking:
        knowledge.append(f"black-box, by queries, by {', '.join(asking)}")
    others = (
        "The section on weights adds model control, a part of it."
        if report.weights
        else "Model control (changed weights) was not tried."
    )
    return (
        "In the terms of NIST AI 100-2 (predictive AI) this is a measurement of evasion attacks at deployment time."
        " Goal of the attacker: integrity violation, any wrong class. Capability: testing data control within the"
        f" stated set, and query access. Knowledge: {'; and '.join(knowledge) or 'none could be used'}. Outside it, and"
        " neither tried nor excluded: poisoning attacks (availability, targeted, backdoor), privacy attacks, and"
        f" evasion by other changes than the stated ones. {others} Sample: {report.data.chosen} of {report.data.name};"
        f" seed {report.settings.seed}, effort {report.settings.effort}; the network is named by the SHA-256 of its"
        " weights, every example by its place, so the audit can be repeated."
    )


def page(report: Report) -> str:
    """report.html for one report."""
    return _templates().get_template("report.html.jinja").render(report=report)


def compare(reports: Mapping[str, Report], path: str | os.PathLike[str]) -> None:
    """Write one page that shows several reports side by side, whole or not at all.

    Args:
        reports: at least two, by the names under which they are shown; the same threat.
        path: of the HTML file.

    Raises:
        StackelbergError: fewer than two reports, or different threats.
    """
    if len(reports) < 2:
        raise StackelbergError(f"a comparison needs two reports or more, got {len(reports)}; use to_html for one")
    threats = [report.threat for report in reports.values()]
    if any(threat != threats[0] for threat in threats):
        listed = ", ".join(f"{threat.norm} {threat.radius:g}" for threat in threats)
        raise StackelbergError(f"reports under different threats cannot be compared, got {listed}; audit with one ball")
    write_text(path, comparison(reports))


def comparison(reports: Mapping[str, Report]) -> str:
    """The page of `compare`."""
    names = list(reports)
    against = [(names[0], other, paired(reports[names[0]], reports[other])) for other in names[1:]]
    return _templates().get_template("compare.html.jinja").render(reports=dict(reports), against=against)


def paired(a: Report, b: Report) -> tuple[int, int, float] | None:
    """(standing in a alone, in b alone, p-value that neither is more robust) on the same examples, else None.

    It compares what stood the attacks, the upper ends.
    """
    if (a.data.name, a.data.index) != (b.data.name, b.data.index):
        return None
    pairs = list(zip(a.examples.fell_to, b.examples.fell_to, strict=True))
    only_a = sum(x is None and y is not None for x, y in pairs)
    only_b = sum(x is not None and y is None for x, y in pairs)
    return only_a, only_b, mcnemar(only_a, only_b)
