"""stackelberg check: true certificates pass by other methods, and every tampering fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackelberg import data, models
from stackelberg.certify.checking import CHECKERS, KINDS, Judgement, Kind, check, read_certificate
from stackelberg.certify.claiming import METHODS, claims
from stackelberg.certify.document import DataSource, Document, ModelSource, Robustness, Smoothing, Threat
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball

Command = Callable[..., Any]
OPTIONS = ("--data", "digits", "--n", 6, "--timeout", 10)


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a true certificate with proved and broken claims, made once."""
    path = tmp_path_factory.mktemp("whole") / "certificate.json"
    document = _examples_of(run)
    document.to_json(path)
    return path.read_text()


def _examples_of(run: Path) -> Robustness:
    network, test, ball = models.load(run), data.load("digits", "test"), Ball("linf", 0.06)
    index = (3, 8, 20, 41, 60, 77)
    x, y = test.batch(index)
    made = claims(network, x, y, index, ball, "crown")
    return Robustness(
        stackelberg="0", created="2026-01-01T00:00:00+00:00",
        model=ModelSource(source=str(run), parameters=1, weights=models.fingerprint(network)),
        data=DataSource(source="digits", split="test", size=len(test)),
        method="crown", threat=Threat.model_validate(vars(ball)), claims=made,
    )  # fmt: skip


def certified(stackelberg: Command, run: Path, folder: Path, method: str, radius: float, *more: object) -> Path:
    answer = stackelberg("certify", run, *OPTIONS, "--eps", radius, "--method", method, "--out", folder, *more)
    assert answer.status == 0, answer.err
    return folder / "certificate.json"


@pytest.mark.parametrize(
    ("method", "radius"),
    [
        ("ibp", 0.01),
        ("crown", 0.03),
        ("alpha-crown", 0.04),
        ("complete", 0.06),
        ("dual", 0.06),
        ("milp", 0.06),
        ("lipschitz", 0.003),
    ],
)
def test_a_true_certificate_is_confirmed_by_another_method(
    stackelberg: Command, run: Path, tmp_path: Path, method: str, radius: float
) -> None:
    path = certified(stackelberg, run, tmp_path, method, radius)
    answer = stackelberg("check", path, "--timeout", 20, "--json")
    told = json.loads(answer.out)
    assert answer.status == 0, answer.out
    assert (told["confirmed"], told["refuted"], told["unsettled"], told["faults"]) == (6, 0, 0, [])
    used = {claim["by"] for claim in told["claims"]} - {"", "evaluation"}
    assert used
    assert used <= set(CHECKERS[method]) - {method}


def test_no_method_checks_itself_and_all_are_known() -> None:
    assert set(CHECKERS) == set(METHODS)
    for method, others in CHECKERS.items():
        assert others
        assert set(others) <= set(METHODS) - {method}


def test_smoothing_is_checked_by_fresh_samples(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    path = certified(stackelberg, run, tmp_path, "smoothing", 0.1, "--norm", "l2", "--sigma", "0.2", "--samples", 1000)
    told = json.loads(stackelberg("check", path, "--json").out)
    assert told["refuted"] == 0
    assert told["confirmed"] >= 5
    document = read_certificate(path)
    assert isinstance(document, Smoothing)
    far = document.claims[0].model_copy(update={"radius": document.claims[0].radius + 0.3})
    changed = document.model_copy(update={"claims": (far, *document.claims[1:])})
    assert isinstance(changed, Document)
    changed.to_json(path)  # with a digest that fits
    answer = stackelberg("check", path, "--json")
    assert answer.status == 1
    told = json.loads(answer.out)
    assert told["faults"] == []
    assert told["claims"][0]["outcome"] == "refuted"


def tampered(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the file and leave its digest."""
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def _first(fields: dict[str, Any], verdict: str) -> dict[str, Any]:
    return next(claim for claim in fields["claims"] if claim["verdict"] == verdict)


TAMPERINGS: dict[str, Callable[[dict[str, Any]], None]] = {
    "verdict": lambda f: _first(f, "broken").update(verdict="proved", margin=1.0),
    "margin": lambda f: _first(f, "proved").update(margin=1e3),
    "radius": lambda f: f["threat"].update(radius=0.5),
    "weights": lambda f: f["model"].update(weights="0" * 64),
    "index": lambda f: f["claims"][0].update(index=f["claims"][0]["index"] + 1),
    "label": lambda f: f["claims"][0].update(label=(f["claims"][0]["label"] + 1) % 10),
    "point": lambda f: _first(f, "broken").update(point="AAAA"),
    "twice": lambda f: f["claims"].append(f["claims"][0]),
    "size": lambda f: f["data"].update(size=7),
}


@pytest.mark.parametrize("resealed", [False, True], ids=["digest left", "digest made anew"])
@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_tampered_certificate_fails(
    stackelberg: Command, whole: str, tmp_path: Path, what: str, resealed: bool
) -> None:
    path = tmp_path / "certificate.json"
    path.write_text(whole)
    assert {"proved", "broken"} <= {claim["verdict"] for claim in json.loads(path.read_text())["claims"]}
    tampered(path, TAMPERINGS[what])
    if resealed:
        read_certificate(path).to_json(path)
    answer = stackelberg("check", path, "--timeout", 1, "--json")
    assert answer.status == 1
    told = json.loads(answer.out)
    assert bool(told["faults"]) or told["refuted"] > 0
    assert any("digest" in fault for fault in told["faults"]) is not resealed


def test_another_network_or_other_data_fail(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    path = certified(stackelberg, run, tmp_path / "c", "ibp", 0.005)
    other = models.build("mlp", 10, (1, 8, 8), 12, seed=1)
    models.save_weights(other, tmp_path / "other.safetensors")
    answer = stackelberg("check", path, "--model", tmp_path / "other.safetensors", "--timeout", 2)
    assert answer.status == 1
    assert "this network is not the certified one" in answer.out


def test_what_nobody_can_verify_is_unsettled_and_strict_about_it(
    stackelberg: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certified(stackelberg, run, tmp_path, "alpha-crown", 0.03)
    monkeypatch.setitem(CHECKERS, "alpha-crown", ("lipschitz",))
    answer = stackelberg("check", path)
    assert answer.status == 0
    assert "unsettled  0" not in answer.out
    assert stackelberg("check", path, "--strict").status == 1


def test_code_in_a_certificate_is_not_run_unasked(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    path = certified(stackelberg, run, tmp_path, "ibp", 0.005)
    tampered(path, lambda f: f["model"].update(source="os:getcwd"))
    answer = stackelberg("check", path)
    assert answer.status == 2
    assert "names code, os:getcwd, which is not run unasked" in answer.line


def test_what_is_no_certificate_is_said(stackelberg: Command, tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    assert "cannot read" in stackelberg("check", path).line
    path.write_text("{}")
    assert "is no stackelberg.certificate/1 certificate" in stackelberg("check", path).line


def test_another_room_adds_its_kind(
    stackelberg: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certified(stackelberg, run, tmp_path, "ibp", 0.005)
    document = read_certificate(path)
    assert isinstance(document, Robustness)
    document.model_copy(update={"kind": "elsewhere"}).to_json(path)
    with pytest.raises(StackelbergError, match="unknown kind of certificate 'elsewhere'"):
        read_certificate(path)
    monkeypatch.setitem(
        KINDS,
        "elsewhere",
        Kind(Robustness, lambda d, claim, *rest: Judgement(claim.index, "confirmed", "elsewhere", "")),
    )
    found = check(read_certificate(path), models.load(run), data.load("digits", "test"))
    assert found.passed
    assert {judgement.by for judgement in found.judgements} == {"elsewhere"}
