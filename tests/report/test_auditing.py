"""The audit: the bracket, its independence of sharding, and what it refuses."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackelberg import attacks
from stackelberg.certify import Certificate
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.games import Adversarial, IntervalBound, Standard
from stackelberg.report import Contradiction, Plan, Report, Subject, audit, audit_batch, merge, proving
from stackelberg.report.auditing import choose
from stackelberg.report.records import DataRecord, Environment, ModelRecord
from stackelberg.threat import Ball, clopper_pearson
from stackelberg.threat.payoff import margin

pytestmark = pytest.mark.usefixtures("brief_searches")
BALL = Ball("linf", 0.1)
RADII = (0.0, 0.005, 0.05, 0.1, 0.2)
HERE = Environment(
    stackelberg="0", torch="0", python="0", platform="", processor="", device="cpu", threads=1, processes=1, created="",
    seconds=0,
)  # fmt: skip


def subject(data: Dataset, index: tuple[int, ...]) -> Subject:
    record = DataRecord(
        name=data.name, size=len(data), shape=data.shape, classes=tuple(data.classes), chosen="test", index=index
    )
    model = ModelRecord(name="mlp", parameters=1, outputs=10, weights="0")
    return Subject(model, record, trained=False, jpeg=False, batch_size=50)


def test_bracket_is_ordered_and_counts_what_was_found(report: Report, net: nn.Module, digits: Dataset) -> None:
    x, y = digits.batch(report.data.index)
    right = (net(x).argmax(1) == y).sum()
    assert report.n == 120
    assert report.clean == clopper_pearson(int(right), 120)
    assert report.robust.lower.hits <= report.robust.upper.hits <= report.clean.hits
    assert report.robust.upper.value < report.clean.value - 0.2
    assert sum(row.broken for row in report.attacks) == report.clean.hits - report.robust.upper.hits
    assert report.attacks[-1].robust_after == report.robust.upper.value
    falls = [row.robust_after for row in report.attacks]
    assert falls == sorted(falls, reverse=True)


def test_upper_end_is_what_the_suite_leaves(report: Report, net: nn.Module, digits: Dataset) -> None:
    """The same examples in one batch: nothing here makes the suite depend on its batch."""
    x, y = digits.batch(report.data.index)
    moved = attacks.suite(BALL, "fast")(net, x, y)
    with torch.no_grad():
        assert int((margin(net(moved), y) <= 0).sum()) == report.robust.upper.hits


def test_curve_never_rises_and_meets_the_bracket(report: Report) -> None:
    for end in ("upper", "lower"):
        hits = [getattr(point, end).hits for point in report.curve]
        assert hits == sorted(hits, reverse=True)
        assert hits[0] == report.clean.hits
    assert all(point.lower.hits <= point.upper.hits for point in report.curve)
    own = next(point for point in report.curve if point.radius == BALL.radius)
    assert own.upper == report.robust.upper
    assert own.lower == report.robust.lower
    assert report.curve[-1].radius == pytest.approx(0.2)
    assert report.curve[-1].upper.hits < report.robust.upper.hits


def test_something_is_proved_at_a_small_radius(net: nn.Module, digits: Dataset) -> None:
    found = audit(net, digits, Ball("linf", 0.01), n=100, effort="fast")
    assert 0 < found.robust.lower.hits <= found.robust.upper.hits
    intervals, linear = found.certificates
    assert 0 < intervals.certified < linear.certified == found.robust.lower.hits
    assert found.certificates[0].method == "ibp"


def test_batches_in_any_order_and_from_any_process_give_the_same_report(net: nn.Module, digits: Dataset) -> None:
    plan = Plan(BALL, RADII, effort="fast")
    index = torch.arange(0, 12).split(6)
    findings = [audit_batch(net, *digits.batch(part), tuple(part.tolist()), plan) for part in index]
    again = [audit_batch(net, *digits.batch(part), tuple(part.tolist()), plan) for part in reversed(index)]
    assert [f for f, _ in again[::-1]] == [f for f, _ in findings]
    who = subject(digits, tuple(range(12)))
    still = [
        (f, dataclasses.replace(t, attacks=(0.0,) * len(t.attacks), proofs=dict.fromkeys(t.proofs, 0.0)))
        for f, t in findings
    ]
    assert merge(still, plan, who, HERE) == merge(still[::-1], plan, who, HERE)


def test_findings_are_plain_values(net: nn.Module, digits: Dataset) -> None:
    found, timing = audit_batch(net, *digits.batch(range(20)), tuple(range(20)), Plan(BALL, RADII, effort="fast"))
    text = json.dumps([dataclasses.asdict(found), dataclasses.asdict(timing)], allow_nan=False)
    assert "tensor" not in text


def test_a_proof_that_an_attack_refutes_stops_the_report(
    net: nn.Module, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boast(model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Certificate:
        return Certificate("boast", ball, torch.ones(len(x)))

    monkeypatch.setitem(proving.PROOFS, "boast", boast)
    with pytest.raises(Contradiction, match=r"example \d+ is certified by boast up to radius 0.2 and was broken at"):
        audit(net, digits, BALL, n=30, effort="fast")


def test_wrong_examples_are_never_counted_as_proved(net: nn.Module, digits: Dataset) -> None:
    wrong = dataclasses.replace(digits, y=(digits.y + 1) % 10)
    found = audit(net, wrong, Ball("linf", 0.001), n=60, effort="fast")
    assert found.robust.lower.hits <= found.clean.hits < 10


def test_choice_depends_on_the_seed_alone_and_is_recorded(report: Report) -> None:
    index, words = choose(355, 120, 0)
    assert tuple(index.tolist()) == report.data.index
    assert report.data.chosen == words
    assert "permutation" in words
    assert "seed 0" in words
    assert index.unique().numel() == 120
    assert not torch.equal(index, choose(355, 120, 1)[0])
    assert choose(355, 355, 0)[1] == "all 355"


@pytest.mark.parametrize("ball", [Ball("l2", 0.5), Ball("l1", 2.0), Ball("l0", 3.0), Ball("linf", 0.0)], ids=str)
def test_every_norm_is_audited(ball: Ball, net: nn.Module, digits: Dataset) -> None:
    found = audit(net, digits, ball, n=16, effort="fast")
    assert found.robust.lower.hits <= found.robust.upper.hits <= found.clean.hits
    assert all(ball.radius == 0 or point.radius <= 2 * ball.radius for point in found.curve)


def test_the_model_comes_back_as_it_was(net: nn.Module, digits: Dataset) -> None:
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = audit(net, digits, BALL, n=20, effort="fast")
    assert net.training
    net.eval()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [caveat.code for caveat in found.warnings if caveat.code == "train-mode"]


def test_progress_is_told(net: nn.Module, digits: Dataset) -> None:
    told: list[tuple[int, int, str]] = []
    audit(net, digits, BALL, n=12, effort="fast", batch_size=8, progress=lambda *words: told.append(words))
    assert sorted({(done, total) for done, total, _ in told}) == [(0, 12), (8, 12), (12, 12)]
    assert any(words.startswith("fgsm: ") and words.endswith(" of 8 stand") for _, _, words in told)
    assert told[-1][2] == "12 examples audited"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"n": 0}, "at least one example, got n=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"effort": "standrad"}, "did you mean 'standard'"),
        ({"radii": [0.1, -0.5]}, "radius must be a number >= 0"),
    ],
)
def test_what_is_refused(net: nn.Module, digits: Dataset, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        audit(net, digits, BALL, **change)


def test_a_model_of_other_data_is_refused_with_the_shape(digits: Dataset) -> None:
    for wrong in (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), nn.Sequential(nn.Flatten(), nn.Linear(64, 7))):
        with pytest.raises(StackelbergError, match=r"shape \[1, 8, 8\]|shape \[4, 7\]"):
            audit(wrong, digits, BALL, n=8)


def test_the_exploitability_of_its_game_is_reported_where_somebody_moves(net: nn.Module, digits: Dataset) -> None:
    found = audit(net, digits, BALL, n=20, effort="fast", game=Adversarial(BALL, steps=1, step=0.01))
    assert found.exploitability is not None
    assert found.exploitability.game == "Adversarial"
    assert 0 < found.exploitability.low <= found.exploitability.value <= found.exploitability.high
    assert found.exploitability.n == 20
    assert Report.model_validate_json(found.model_dump_json(by_alias=True)) == found
    for game in (Standard(), IntervalBound(BALL)):
        assert audit(net, digits, BALL, n=4, effort="fast", game=game).exploitability is None
