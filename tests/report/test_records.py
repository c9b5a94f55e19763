"""report.json: its published schema is current, reports satisfy it, and come back equal."""

import json
from pathlib import Path

import jsonschema
import pytest

import stackelberg.report as room
from stackelberg.errors import StackelbergError
from stackelberg.report import Report, schema

_PUBLISHED = Path(room.__file__).parent / "report.schema.json"


def test_published_schema_is_current() -> None:
    text = json.dumps(schema(), indent=1) + "\n"
    assert _PUBLISHED.read_text(encoding="utf-8") == text, f"write json.dumps(schema(), indent=1) to {_PUBLISHED.name}"
    jsonschema.Draft202012Validator.check_schema(schema())


def test_report_satisfies_its_schema_and_comes_back_equal(report: Report, tmp_path: Path) -> None:
    report.to_json(tmp_path / "report.json")
    fields = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(fields, json.loads(_PUBLISHED.read_text(encoding="utf-8")))
    assert Report.from_json(tmp_path / "report.json") == report
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_schema_holds_the_promised_names(report: Report) -> None:
    fields = json.loads(report.model_dump_json(by_alias=True))
    assert fields["schema"] == "stackelberg.report/1"
    assert set(fields["threat"]) == {"norm", "radius", "low", "high"}
    for rate in (fields["clean_accuracy"], fields["robust_accuracy"]["upper"], fields["robust_accuracy"]["lower"]):
        assert {"value", "low", "high", "confidence"} <= set(rate)
    assert {"name", "robust_after", "seconds"} <= set(fields["attacks"][0])
    assert {"method", "certified"} <= set(fields["certificates"][0])
    assert {"radius", "upper", "lower"} <= set(fields["curve"][0])
    assert {"model", "data", "environment", "warnings", "n"} <= set(fields)


def test_schema_refuses_a_missing_and_a_strange_field(report: Report) -> None:
    fields = json.loads(report.model_dump_json(by_alias=True))
    del fields["clean_accuracy"]
    with pytest.raises(jsonschema.ValidationError, match="clean_accuracy"):
        jsonschema.validate(fields, schema())
    with pytest.raises(jsonschema.ValidationError, match="strange"):
        jsonschema.validate(json.loads(report.model_dump_json(by_alias=True)) | {"strange": 1}, schema())


def test_files_that_are_no_report_are_named(report: Report, tmp_path: Path) -> None:
    with pytest.raises(StackelbergError, match=r"cannot read .*missing\.json"):
        Report.from_json(tmp_path / "missing.json")
    (tmp_path / "half.json").write_text(report.model_dump_json(by_alias=True)[:500])
    with pytest.raises(StackelbergError, match=r"half.json is no stackelberg.report/1 report"):
        Report.from_json(tmp_path / "half.json")


def test_a_report_cannot_be_changed(report: Report) -> None:
    with pytest.raises(ValueError, match="frozen"):
        report.n = 5  # pyright: ignore[reportAttributeAccessIssue]
