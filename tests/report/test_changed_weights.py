"""An audit with changed weights: every row is there, nothing it says is of another network, and the files hold it."""

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from torch import nn

from stackelberg.attacks import BitFlips
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.report import Report, audit, schema
from stackelberg.report.page import page
from stackelberg.report.weights import weight_robustness
from stackelberg.threat import Ball, WeightBall

pytestmark = pytest.mark.usefixtures("brief_searches")
BALL = Ball("linf", 0.1)


@pytest.fixture(scope="module")
def audited(net: nn.Module, digits: Dataset) -> Report:
    return audit(net, digits, BALL, n=80, effort="fast", weights=WeightBall("linf", 0.05))


def test_every_change_has_its_row_and_none_is_better_than_none_by_much(audited: Report) -> None:
    found = audited.weights
    assert found is not None
    assert (found.norm, found.size, found.n, found.known) == ("linf", 0.05, 40, 40)
    names = [(row.change, row.format, row.flips) for row in found.rows]
    assert names[:4] == [
        ("none", None, None), ("random", None, None), ("adversarial, accuracy", None, None),
        ("adversarial, robustness", None, None),
    ]  # fmt: skip
    for format in ("float32", "bf16", "int8"):
        assert [(c, n) for c, f, n in names if f == format] == [
            ("stored", 0), ("random bits", 1), ("random bits", 100), ("chosen bits", 5),
        ]  # fmt: skip
    rows = dict(zip(names, found.rows, strict=True))
    plain = rows["none", None, None]
    assert rows["stored", "float32", 0].clean == plain.clean
    assert rows["adversarial, accuracy", None, None].clean.value < plain.clean.value
    assert rows["adversarial, robustness", None, None].robust.value <= plain.robust.value
    for row in found.rows:
        assert row.robust.value <= row.clean.value <= row.clean_mean + 1e-9
        assert row.trials == (5 if row.change in ("random", "random bits") else 1)


def test_the_rest_of_the_report_is_as_without(audited: Report, net: nn.Module, digits: Dataset) -> None:
    plain = audit(net, digits, BALL, n=80, effort="fast")
    assert plain.weights is None
    assert (plain.clean, plain.robust, plain.examples) == (audited.clean, audited.robust, audited.examples)
    assert all(p.requires_grad for p in net.parameters())


def test_files_and_page_hold_it(audited: Report, tmp_path: Path) -> None:
    audited.to_json(tmp_path / "report.json")
    fields = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(fields, schema())
    assert Report.from_json(tmp_path / "report.json") == audited
    text = page(audited)
    assert "If the weights are changed" in text
    assert "at most 5 per cent of itself (linf)" in text
    assert "chosen bits, 5" in text
    assert "If the weights are changed" not in page(audited.model_copy(update={"weights": None}))


def test_a_network_whose_bits_flip_to_no_number_is_wrong(net: nn.Module, digits: Dataset) -> None:
    broken = BitFlips("float32", 0)(net)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    found = weight_robustness(broken, digits.take(8), BALL, WeightBall("l2", 0.01), steps=1)
    assert all(row.clean.hits == 0 and row.robust.hits == 0 for row in found.rows)


def test_what_has_no_weights_or_too_few_examples_is_refused(net: nn.Module, digits: Dataset) -> None:
    with pytest.raises(StackelbergError, match="leave --weights-eps out"):
        weight_robustness(nn.Flatten(), digits, BALL, WeightBall("l2", 0.01))
    with pytest.raises(StackelbergError, match="at least 4 examples, got 3"):
        weight_robustness(net, digits.take(3), BALL, WeightBall("l2", 0.01))
