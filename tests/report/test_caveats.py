"""Each warning appears when its sign is there, and not otherwise."""

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import nn

from stackelberg import attacks
from stackelberg.data import Dataset
from stackelberg.report import Report, audit
from stackelberg.report.caveats import Seen, caveats
from stackelberg.report.surroundings import jpeg_traces
from stackelberg.threat import Ball, clopper_pearson

CALM = Seen(
    ball=Ball("linf", 0.1), n=1000, right=950, upper=clopper_pearson(500, 1000), shape=(1, 8, 8), absent=(),
    commonest=100, even_standing=0, signs={"zero-gradient": (0, 950), "one-step-beats-many": (0, 64)}, fallen=450,
    mends=(), random=False, skipped=(), unsupported={}, trained=False, jpeg=False,
)  # fmt: skip

SIGNS: dict[str, dict[str, Any]] = {
    "large-radius": {"even_standing": 200},
    "zero-gradient": {"signs": {"zero-gradient": (100, 950)}},
    "black-box-beats-gradients": {"signs": {"black-box-beats-gradients": (30, 1000)}},
    "one-step-beats-many": {"signs": {"one-step-beats-many": (20, 64)}},
    "no-rise": {"signs": {"no-rise": (20, 64)}},
    "moves-between-seeds": {"signs": {"moves-between-seeds": (20, 64)}},
    "hidden-gradient": {"mends": ("rounding",)},
    "random-answers": {"random": True},
    "no-gradient": {"skipped": (("fgsm", "no gradient"),)},
    "vacuous-radius": {"ball": Ball("linf", 0.6)},
    "probabilities": {"mends": ("softmax",)},
    "train-mode": {"trained": True},
    "few-examples": {"upper": clopper_pearson(30, 60), "n": 60},
    "absent-classes": {"absent": ("cat",)},
    "nothing-proved": {"unsupported": {"ibp": "no rule for Softmax"}},
    "jpeg": {"jpeg": True},
}
DOUBTS = {
    "large-radius", "zero-gradient", "black-box-beats-gradients", "one-step-beats-many", "no-gradient", "no-rise",
    "moves-between-seeds",
}  # fmt: skip


def test_without_a_sign_there_is_no_warning() -> None:
    assert caveats(CALM) == ()


@pytest.mark.parametrize("code", SIGNS)
def test_each_sign_gives_its_warning_alone(code: str) -> None:
    found = caveats(dataclasses.replace(CALM, **SIGNS[code]))
    assert [caveat.code for caveat in found] == [code]
    assert (found[0].weight == "doubt") == (code in DOUBTS)
    assert all(text.endswith(".") for text in (found[0].found, found[0].means, found[0].done))


def test_doubts_come_first() -> None:
    found = caveats(dataclasses.replace(CALM, trained=True, signs={"zero-gradient": (900, 950)}))
    assert [caveat.weight for caveat in found] == ["doubt", "note"]


class _Rounded(torch.autograd.Function):
    """Written so that no torch operation betrays it."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(x * 8) / 8

    @staticmethod
    def backward(ctx, *gradients):
        return torch.zeros_like(gradients[0])


class _Masked(nn.Module):
    """Inputs rounded to steps: the gradient is zero almost everywhere; logits are still changed by a move."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(_Rounded.apply(x if float(x.amax()) < 9 else -x))


class _Probable(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).softmax(1)


def test_masked_gradients_are_seen_in_an_audit(
    net: nn.Module, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attacks, "suite", functools.partial(attacks.suite, patience=300))
    found = audit(_Masked(net).eval(), digits, Ball("linf", 0.1), n=12, effort="fast")
    codes = {caveat.code for caveat in found.warnings}
    assert not found.believable
    assert codes & {"zero-gradient", "black-box-beats-gradients", "no-gradient"}
    assert found.robust.upper.value < found.clean.value  # the search without gradients still breaks it


def test_probabilities_are_seen_and_change_nothing(net: nn.Module, digits: Dataset) -> None:
    plain = audit(net, digits, Ball("linf", 0.1), n=12, effort="fast")
    found = audit(_Probable(net).eval(), digits, Ball("linf", 0.1), n=12, effort="fast")
    codes = [caveat.code for caveat in found.warnings]
    assert "probabilities" in codes
    assert "nothing-proved" in codes
    assert "Softmax" in next(row.unsupported or "" for row in found.certificates) or "softmax" in str(
        found.certificates
    )
    assert found.robust.lower.hits == 0
    assert abs(found.robust.upper.hits - plain.robust.upper.hits) <= 1


def test_an_honest_network_raises_no_doubt(report: Report) -> None:
    assert report.believable


def test_jpeg_copy_of_cifar10_is_told_from_the_exact_images(real_data) -> None:
    assert jpeg_traces(real_data("cifar10", "test"))
    assert not jpeg_traces(real_data("cifar10_exact", "test"))
    assert not jpeg_traces(real_data("mnist", "test"))
