"""Each exhibit, at a size of seconds, on a stand-in for its data: it measures what it says; its page stands alone."""

import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from stackelberg import models
from stackelberg.exhibits import EXHIBITS, Outcome, Stage, named, reproduce
from stackelberg.exhibits.four_cells import _more, pgd20
from stackelberg.exhibits.networks import Network
from stackelberg.report import Report
from stackelberg.threat import Ball, Rate


class Slope(nn.Module):
    """Logits [0, slope * (mean grey - 1/2)]: the label turns where the grey crosses one half, at a known distance."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(40.0))
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.scale * (x.mean((1, 2, 3)) - 0.5)
        far = torch.full((len(x), self.classes - 2), -30.0)
        return torch.cat([torch.zeros(len(x), 1), z[:, None], far], 1)


def rates(outcome: Outcome) -> dict[str, Rate]:
    return {one.name: one.rate for one in outcome.measured if one.rate is not None}


def lend(stage: Stage, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every exhibit ask for a network get this one."""
    monkeypatch.setattr(Stage, "network", lambda self, network: model.eval())


def test_one_step_counts_what_turned_and_what_got_surer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # greys one half + offset, label 1: a step of .007 turns those below .507, and surer are those below .5035
    offsets = torch.tensor([0.002, 0.003, 0.004, 0.006, 0.009, -0.2])
    grey = ((0.5 + offsets) * 255).round() / 255
    x = grey.view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()
    y = torch.ones(len(x), dtype=torch.long)

    class Fixed:
        classes: ClassVar = [str(k) for k in range(10)]

        def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, y

    lend(stage, Slope(), monkeypatch)
    monkeypatch.setattr(Stage, "examples", lambda self, source, n: (Fixed(), torch.arange(len(x))))
    monkeypatch.setattr(Stage, "notes", lambda self, test: ())
    outcome = named("X01", n=len(x)).run(stage)
    right = grey > 0.5
    moved = grey - 0.007
    turned = right & (moved < 0.5)
    surer = turned & ((0.5 - moved) > (grey - 0.5))
    found = rates(outcome)
    assert found["right unmoved"].hits == int(right.sum())
    assert found["label turned, of those right"].hits == int(turned.sum()) > int(surer.sum()) > 0
    assert found["turned and surer than before, of those right"].hits == int(surer.sum())
    assert outcome.holds
    page = (stage.out / "X01.html").read_text()
    assert page.count("<figure>") == int(surer.sum())
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_one_step_that_turns_nothing_does_not_hold(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    constant = nn.Linear(768, 10)
    nn.init.zeros_(constant.weight)
    nn.init.zeros_(constant.bias)
    lend(stage, nn.Sequential(nn.Flatten(), constant), monkeypatch)
    outcome = named("X01", n=20).run(stage)
    assert not outcome.holds
    assert outcome.pictures == ()
    assert not (stage.out / "X01.html").exists()


def test_any_label_tries_every_other_class_and_believes_the_network(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
    lend(stage, open_to_all, monkeypatch)
    outcome = named("X02", n=12, steps=10, radius=0.5, restarts=1).run(stage)
    pairs = rates(outcome)["(image, target) pairs that succeed"]
    assert (pairs.hits, pairs.n) == (108, 108)
    assert outcome.holds
    outcome = named("X02", n=12, steps=3, radius=0.0001, restarts=1).run(stage)
    pairs = rates(outcome)["(image, target) pairs that succeed"]
    x, y = stage.examples("cifar10", 12)[0].batch(stage.examples("cifar10", 12)[1])
    already = int((open_to_all(x).argmax(1) != y).sum())
    assert abs(pairs.hits - already) <= 3  # without room to move, only a wrong answer reaches a target: its own
    assert not outcome.holds


def test_four_cells_end_to_end(stage: Stage) -> None:
    exhibit = named("X17", n=30, width=2, epochs=1, steps=1, effort="fast")
    result = reproduce(exhibit, stage)
    found = rates(result.outcome)
    cells = ["resnet18, standard", "resnet18, at", "vgg16, standard", "vgg16, at"]
    values = {one.name: one.value for one in result.outcome.measured if one.value is not None}
    assert all(0 <= p <= 1 for p in values.values())
    significant = [all(p < 0.05 for name, p in values.items() if name.startswith(net)) for net in ("resnet18", "vgg16")]
    near_zero = [found[f"{net}, standard: suite"].value < 0.05 for net in ("resnet18", "vgg16")]
    assert result.outcome.holds == (all(significant) and all(near_zero))
    assert list(found) == [f"{c}: {what}" for c in cells for what in ("clean", "PGD-20", "suite", "certified")]
    for cell in cells:
        clean, pgd, suite, certified = (found[f"{cell}: {what}"] for what in ("clean", "PGD-20", "suite", "certified"))
        assert clean.hits >= pgd.hits
        assert clean.hits >= suite.hits >= certified.hits
    assert [used["name"] for used in result.networks] == [f"cifar10-{cell.replace(', ', '-')}" for cell in cells]
    assert all(used["weights"] and used["recipe"] for used in result.networks)
    assert (stage.out / "X17.html").is_file()
    report = stage.out / "X17" / "resnet18-at" / "report.json"
    before = report.read_bytes()
    again = reproduce(exhibit, stage, force=True)  # networks and audits are taken as they are
    assert report.read_bytes() == before
    assert rates(again.outcome) == found
    assert again.environment.seconds > Report.from_json(report).environment.seconds  # the kept audits count
    assert Report.from_json(report).n == 30


def test_networks_are_compared_image_by_image() -> None:
    same = [True] * 90 + [False] * 10
    better = [True] * 98 + [False] * 2
    assert _more(better, same) == 2 * 0.5**8
    assert _more(same, better) == 1
    assert _more(same, same) == 1


def test_pgd20_is_the_share_that_stands(coloured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = torch.tensor([0.52, 0.54, 0.56, 0.45])
    x = grey.view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    rate = pgd20(Slope().eval(), x, torch.ones(4, dtype=torch.long), Ball("linf", 0.05), 0)
    assert (rate.hits, rate.n) == (1, 4)


def test_a_given_run_must_be_of_the_right_kind(stage: Stage, coloured: Path) -> None:
    ball = Ball("linf", 0.1)
    good = Network("net", "cifar10", "mlp", 4, "standard", ball, epochs=1)
    first = stage.network(good)
    assert stage.network(good).state_dict().keys() == first.state_dict().keys()  # from the run, not trained again
    for changed, sentence in (
        ({"model": "vgg16"}, r"holds a run with model 'mlp', needed is 'vgg16'"),
        ({"game": "at"}, r"holds a run with game 'standard', needed is 'with an adversary'"),
        ({"data": "mnist"}, r"holds a run with data 'cifar10', needed is 'mnist'"),
    ):
        with pytest.raises(Exception, match=sentence):
            stage.network(Network(**{**vars(good), **changed}))


@pytest.mark.parametrize("id", EXHIBITS)
def test_every_exhibit_says_what_it_is(id: str) -> None:
    exhibit = named(id)
    assert exhibit.id == id
    for text in (exhibit.title, exhibit.published, exhibit.source, exhibit.claim):
        assert len(text) > 10
    assert exhibit.settings


def test_the_claims_hold_on_the_real_images(real_data, data_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """X01 and X02 on CIFAR-10 with a network trained for some steps: one step turns labels, any label is reached."""
    monkeypatch.setenv("STACKELBERG_DATA", str(data_folder))
    stage = Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)
    train = real_data("cifar10", "test").take(6000)
    model = models.build("small-cnn", 10, train.shape, 16, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for step in range(240):
        x, y = train.batch(torch.arange(step * 128, step * 128 + 128) % len(train))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    lend(stage, model, monkeypatch)
    assert named("X01", n=250).run(stage).holds
    pairs = rates(named("X02", n=20, radius=24 / 255, restarts=1).run(stage))["(image, target) pairs that succeed"]
    assert pairs.value > 0.9
