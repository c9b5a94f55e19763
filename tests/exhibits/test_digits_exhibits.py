"""The exhibits on MNIST, at a size of seconds, with small networks trained for some steps on real digits."""

import functools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg import attacks, models
from stackelberg.exhibits import Stage, disguises, named
from stackelberg.exhibits.bracket import width
from stackelberg.exhibits.disguises import usual_loop
from stackelberg.report import Report
from stackelberg.threat import Ball


@pytest.fixture
def hall(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("STACKELBERG_DATA", str(data_folder))
    return Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)


def trained(digits, name: str, size: int, steps: int = 150) -> nn.Module:
    net = models.build(name, 10, (1, 28, 28), size, seed=0)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(steps):
        x, y = digits.batch(torch.arange(step * 64, step * 64 + 64) % len(digits))
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval()


def test_disguises_fool_the_usual_loop_and_not_the_suite(real_data, hall: Stage, monkeypatch) -> None:
    net = trained(real_data("mnist", "test"), "small-cnn", 6)
    monkeypatch.setattr(Stage, "network", lambda self, network: net)
    monkeypatch.setattr(disguises, "suite", functools.partial(attacks.suite, patience=500))
    outcome = named("M01", n=30, effort="fast", radius=0.08).run(hall)
    found = {one.name: one.rate.hits for one in outcome.measured if one.rate is not None}
    plain = found["as it is: suite"]
    assert plain < 22
    assert all(abs(hits - plain) <= 1 for name, hits in found.items() if name.endswith("suite"))
    assert found["logits x 1000: the usual loop"] > plain + 5


def test_the_usual_loop_stays_in_the_ball_and_climbs() -> None:
    layer = nn.Linear(16, 2)
    net = nn.Sequential(nn.Flatten(), layer).eval()
    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.long)
    moved = usual_loop(net, x, y, Ball("linf", 0.1), 30)
    best = x - 0.1 * (layer.weight[0] - layer.weight[1]).sign().view(1, 1, 4, 4)
    torch.testing.assert_close(moved, best.expand_as(x))


def test_few_pixels_are_enough_for_any_digit(real_data, hall: Stage, monkeypatch) -> None:
    net = trained(real_data("mnist", "test"), "lenet5", 6)
    monkeypatch.setattr(Stage, "network", lambda self, network: net)
    outcome = named("X03", each=1).run(hall)
    rates = {one.name: one.rate for one in outcome.measured if one.rate is not None}
    gap = rates["search by the gap: attacks that reach their target"]
    assert gap.n >= 72  # nine targets for each digit of which one of the first images is read rightly
    assert gap.value > 0.9
    shares = {one.name: one.value for one in outcome.measured if one.value is not None}
    assert 0 < shares["search by the gap: percent of the pixels changed, over successes"] < 14.5


def test_the_bracket_of_every_game_is_audited(real_data, hall: Stage, monkeypatch) -> None:
    net = trained(real_data("mnist", "test"), "small-cnn", 4)
    asked = []
    monkeypatch.setattr(Stage, "network", lambda self, network: asked.append(network) or net)
    outcome = named("B01", n=12, effort="fast", radius=0.02).run(hall)
    assert [one.game for one in asked] == ["standard", "at", "trades", "sr-at", "ibp"]
    assert asked[-1].epochs == 3 * asked[1].epochs
    widths = {one.name: one.value for one in outcome.measured if one.value is not None}
    report = Report.from_json(hall.out / "B01" / "at" / "report.json")
    assert widths["at: width"] == pytest.approx(width(report))
    assert 0 <= width(report) <= 1
    assert not outcome.holds  # one network cannot be narrower than itself
    assert (hall.out / "B01.html").is_file()
