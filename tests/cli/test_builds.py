"""What a build server is told: JUnit, SARIF, and a comparison that fails a build."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import jsonschema
import pytest

from stackelberg import models
from stackelberg.report import Report
from stackelberg.report.builds import FLOOR, junit, met, sarif

pytestmark = pytest.mark.usefixtures("brief_searches")
Command = Callable[..., Any]
TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
SARIF = {
    "type": "object",
    "required": ["version", "runs", "$schema"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "rules"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id", "shortDescription", "fullDescription"],
                                            "properties": {"shortDescription": TEXT, "fullDescription": TEXT},
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "invocations": {"type": "array", "items": {"required": ["executionSuccessful"]}},
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "level", "kind", "locations", "partialFingerprints"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "kind": {"enum": ["pass", "fail"]},
                                "message": TEXT,
                                "locations": {"type": "array", "minItems": 1},
                            },
                        },
                    },
                },
            },
        },
    },
}
"""The fields that SARIF 2.1.0 (OASIS 2020, sections 3.13 to 3.27) requires, and its enumerations."""
AUDIT = ("--data", "digits", "--eps", "0.1", "--n", 20, "--effort", "fast")


def read_sarif(path: Path) -> dict[str, Any]:
    log = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert (result["kind"] == "pass") == (result["level"] == "none")
    return run


@pytest.fixture(scope="module")
def kept(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """An audit of the run, kept for the tests that need none of their own."""
    from stackelberg import data
    from stackelberg.report import audit
    from stackelberg.threat import Ball

    return audit(models.load(run), data.load("digits", "test"), Ball("linf", 0.01), 20, effort="fast")


@pytest.mark.parametrize(("floor", "status"), [(0.0, 0), (1.0, 1)])
def test_the_files_are_written_whether_the_floor_is_met_or_not(
    stackelberg: Command, run: Path, tmp_path: Path, floor: float, status: int
) -> None:
    told = {"--junit": tmp_path / "deep" / "audit.xml", "--sarif": tmp_path / "audit.sarif"}
    words = [word for pair in told.items() for word in pair]
    answer = stackelberg("audit", run, *AUDIT, "--out", tmp_path / "out", "--fail-under", floor, *words)
    assert answer.status == status
    root = xml.parse(told["--junit"]).getroot()
    assert root.tag == "testsuites"
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", str(status), "0")
    (case,) = suite.findall("testcase")
    assert (case.get("name") or "").startswith(f"attacked accuracy at least {100 * floor:g} % on digits")
    assert len(case.findall("failure")) == status
    found = read_sarif(told["--sarif"])
    first = found["results"][0]
    assert (first["ruleId"], first["level"]) == (FLOOR, "error" if status else "none")
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("digits")
    report = Report.from_json(tmp_path / "out" / "report.json")
    assert [result["ruleId"] for result in found["results"][1:]] == [caveat.code for caveat in report.warnings]
    assert f"{report.robust.upper.value}" in {
        p.get("value") for p in suite.iter("property") if p.get("name") == "robustAccuracyUpper"
    }


def test_a_floor_that_is_met_exactly_is_met(kept: Report) -> None:
    assert met(kept, kept.robust.upper.value)
    assert not met(kept, kept.robust.upper.value + 1e-9)


def test_code_is_named_and_no_file(kept: Report, tmp_path: Path) -> None:
    sarif(kept, 0.5, "package.module:function", tmp_path / "log.sarif")
    (place,) = read_sarif(tmp_path / "log.sarif")["results"][0]["locations"]
    assert place == {"logicalLocations": [{"fullyQualifiedName": "package.module:function", "kind": "function"}]}
    sarif(kept, None, "package.module:function", tmp_path / "no-floor.sarif")
    assert FLOOR not in {result["ruleId"] for result in read_sarif(tmp_path / "no-floor.sarif")["results"]}


def test_words_that_xml_cannot_hold_do_not_spoil_the_file(kept: Report, tmp_path: Path) -> None:
    odd = kept.model_copy(update={"model": kept.model.model_copy(update={"name": "a\x00<b>&\ufffe'\""})})
    junit(odd, 0.5, tmp_path / "audit.xml")
    (case,) = xml.parse(tmp_path / "audit.xml").getroot().iter("testcase")
    assert case.get("classname") == "stackelberg.audit.a<b>&'\""


def test_junit_without_a_floor_is_refused(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    answer = stackelberg("audit", run, *AUDIT, "--out", tmp_path / "out", "--junit", tmp_path / "audit.xml")
    assert answer.status == 2
    assert answer.line.endswith("pass --fail-under 0.8, too")
    assert list(tmp_path.iterdir()) == []


def weaker(report: Report, count: int) -> Report:
    """The same in which `count` more examples fell."""
    fell = list(report.examples.fell_to)
    for place in [place for place, attack in enumerate(fell) if attack is None][:count]:
        fell[place] = "fgsm"
    return report.model_copy(update={"examples": report.examples.model_copy(update={"fell_to": tuple(fell)})})


def test_two_audits_are_compared_and_a_worse_one_fails_the_build(
    stackelberg: Command, kept: Report, tmp_path: Path
) -> None:
    kept.to_json(tmp_path / "runs" / "a" / "audit" / "report.json")
    weaker(kept, 8).to_json(tmp_path / "runs" / "b" / "report.json")
    places = (tmp_path / "runs" / "a", tmp_path / "runs" / "b" / "report.json")
    answer = stackelberg("compare", *places, "--out", tmp_path / "out", "--json", "--fail-worse")
    assert answer.status == 1
    told = json.loads(answer.out)
    assert [row["name"] for row in told["reports"]] == ["a", "b"]
    assert told["reports"][1]["p"] == pytest.approx(2 * 0.5**8)
    html = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "8 stood in a alone and 0 in b alone" in html
    assert "more than chance explains" in html
    answer = stackelberg("compare", *reversed(places), "--out", tmp_path / "out", "--fail-worse")
    assert answer.status == 0
    assert "more than chance explains" in answer.out


@pytest.mark.parametrize(
    ("names", "said"),
    [(("a", "none"), "there is no report at"), (("a", "a"), "name different reports"), (("a",), "two reports or more")],
)
def test_what_cannot_be_compared_is_refused(
    stackelberg: Command, kept: Report, tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    kept.to_json(tmp_path / "a" / "report.json")
    answer = stackelberg("compare", *(tmp_path / name for name in names), "--out", tmp_path / "out")
    assert answer.status == 2
    assert said in answer.line
    assert not (tmp_path / "out").exists()
