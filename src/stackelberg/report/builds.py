"""How does a build learn the verdict?  As JUnit XML and as SARIF 2.1.0, which the viewers of build servers read."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as xml

from stackelberg.errors import StackelbergError
from stackelberg.files import write_text
from stackelberg.report.records import Report
from stackelberg.report.words import percent

FLOOR = "attacked-accuracy-below-floor"
_LEVELS = {"doubt": "warning", "note": "note"}


def met(report: Report, floor: float) -> bool:
    """Whether the attacked accuracy, the bracket's upper end, reaches the floor."""
    return report.robust.upper.value >= floor


def verdict(report: Report, floor: float) -> str:
    """One sentence: the attacked accuracy beside the floor."""
    word = "reaches" if met(report, floor) else "is below"
    return f"the attacked accuracy, {report.robust.upper}, {word} {100 * floor:g} %"


def junit(report: Report, floor: float, path: str | os.PathLike[str]) -> None:
    """Write a JUnit file: one test case, whether the floor is met; all warnings in its output. Whole or not at all.

    Args:
        report: of the audit.
        floor: the share below which the build fails, in [0, 1].
        path: of the XML file.
    """
    failed = not met(report, floor)
    seconds, environment = f"{report.environment.seconds:.3f}", report.environment
    counts = {"tests": "1", "failures": str(int(failed)), "errors": "0", "skipped": "0", "time": seconds}
    root = xml.Element("testsuites", {"name": "stackelberg", **counts})
    suite = xml.SubElement(
        root, "testsuite", {"name": "stackelberg.audit", **counts, "timestamp": environment.created[:19]}
    )
    listed = xml.SubElement(suite, "properties")
    for name, value in _facts(report).items():
        xml.SubElement(listed, "property", {"name": name, "value": _printable(str(value))})
    threat = f"{report.threat.norm} {report.threat.radius:g}"
    case = xml.SubElement(
        suite,
        "testcase",
        {
            "classname": _printable(f"stackelberg.audit.{report.model.name}"),
            "name": _printable(f"attacked accuracy at least {100 * floor:g} % on {report.data.name} in {threat}"),
            "time": seconds,
        },
    )
    if failed:
        failure = xml.SubElement(case, "failure", {"type": FLOOR, "message": verdict(report, floor)})
        failure.text = _printable(_all_words(report))
    xml.SubElement(case, "system-out").text = _printable(_all_words(report))
    xml.indent(root)
    text = xml.tostring(root, encoding="unicode")
    write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def sarif(report: Report, floor: float | None, source: str, path: str | os.PathLike[str]) -> None:
    """Write a SARIF 2.1.0 log: the floor's verdict and every warning as results. Whole or not at all.

    Args:
        report: of the audit.
        floor: the share below which the build fails, or None.
        source: the audited network as it was named: a file, a folder or pkg.mod:function.
        path: of the log.
    """
    found: list[tuple[str, str, str, str]] = [
        (caveat.code, _LEVELS[caveat.weight], f"{caveat.found} {caveat.means} {caveat.done}", caveat.means)
        for caveat in report.warnings
    ]
    if floor is not None:
        level = "none" if met(report, floor) else "error"
        meaning = "The share of examples that stood every attack must reach the floor that the build sets."
        found.insert(0, (FLOOR, level, f"{verdict(report, floor)[:1].upper()}{verdict(report, floor)[1:]}.", meaning))
    rules: dict[str, dict[str, Any]] = {}
    for code, level, _, meaning in found:
        rules.setdefault(
            code,
            {
                "id": code,
                "name": "".join(part.capitalize() for part in code.split("-")),
                "shortDescription": {"text": code.replace("-", " ")},
                "fullDescription": {"text": meaning},
                "defaultConfiguration": {"level": "error" if code == FLOOR else level},
            },
        )
    run = {
        "tool": {
            "driver": {
                "name": "stackelberg",
                "semanticVersion": report.environment.stackelberg,
                "rules": list(rules.values()),
            }
        },
        "invocations": [{"executionSuccessful": True}],
        "results": [_result(report, code, level, said, list(rules), source) for code, level, said, _ in found],
        "properties": _facts(report),
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    write_text(path, json.dumps(log, indent=1, ensure_ascii=False) + "\n")


def _result(report: Report, code: str, level: str, said: str, rules: list[str], source: str) -> dict[str, Any]:
    here = Path(source)
    place: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": source, "kind": "function"}]}
    if here.exists():
        within = os.path.relpath(here) if here.resolve().is_relative_to(Path.cwd()) else here.resolve()
        uri = quote(Path(within).as_posix()) if not Path(within).is_absolute() else Path(within).as_uri()
        place = {"physicalLocation": {"artifactLocation": {"uri": uri}}}
    return {
        "ruleId": code,
        "ruleIndex": rules.index(code),
        "kind": "pass" if level == "none" else "fail",
        "level": level,
        "message": {"text": said},
        "locations": [place],
        "partialFingerprints": {"weightsAndRule/v1": f"{report.model.weights}:{code}"},
    }


def _facts(report: Report) -> dict[str, Any]:
    """The bracket and what it speaks of."""
    return {
        "model": report.model.name,
        "weights": report.model.weights,
        "data": report.data.name,
        "n": report.n,
        "norm": report.threat.norm,
        "radius": report.threat.radius,
        "cleanAccuracy": report.clean.value,
        "robustAccuracyUpper": report.robust.upper.value,
        "robustAccuracyLower": report.robust.lower.value,
    }


def _all_words(report: Report) -> str:
    lines = [
        f"right unmoved {percent(report.clean.value)}, attacked {percent(report.robust.upper.value)},"
        f" certified {percent(report.robust.lower.value)} of {report.n} examples",
        *(f"{caveat.weight}: {caveat.found} {caveat.means} {caveat.done}" for caveat in report.warnings),
    ]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def refuse_floor(floor: float | None, wants_junit: bool) -> None:
    """Refuse a floor that is no share, and a JUnit file without one.

    Raises:
        StackelbergError: see above.
    """
    if floor is not None and not 0 <= floor <= 1:
        raise StackelbergError(f"--fail-under must lie in [0, 1], got {floor:g}; for 80 % pass 0.8")
    if floor is None and wants_junit:
        raise StackelbergError("--junit tells whether a floor is met, and there is none; pass --fail-under 0.8, too")
