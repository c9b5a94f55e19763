"""X05 and X06 at tiny settings: everything runs, is kept, and says what it must."""

from pathlib import Path

import pytest
import torch

from stackelberg import poison
from stackelberg.data import Dataset, load, save_parquet
from stackelberg.exhibits import Stage
from stackelberg.exhibits.catalogue import named
from stackelberg.exhibits.ledger import Ledger


@pytest.fixture
def grey(coloured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits in the place of MNIST, beside the coloured stand-in for CIFAR-10."""
    for split, n in (("train", 200), ("test", 60)):
        path = coloured / "mnist" / f"{split}.parquet"
        if not path.is_file():
            digits = load("digits", split).take(n)
            save_parquet(Dataset(digits.x, digits.y, digits.classes, "mnist"), path)


def test_deepconfuse_is_judged_on_networks_it_did_not_imagine(stage: Stage, grey: None) -> None:
    tiny = {"mnist_n": 120, "cifar_n": 120, "mnist_width": 4, "cifar_width": 4, "cifar_warm": 1, "mnist_trials": 1}
    tiny |= {"mnist_imagined_width": 4, "cifar_imagined_width": 4, "mnist_steps": 3}
    victims = {"mnist_victims": ("mlp",), "cifar_victims": ("mlp",), "victim_width": 8}
    exhibit = named("X05", **tiny, **victims, mnist_epochs=1, cifar_epochs=1, mnist_fewer=100)
    outcome = exhibit.run(stage)
    assert [m.published for m in outcome.measured if m.rate] == ["99 %", "0 %", None, None, "77 %", "28 %"]
    assert sum("the first 100 " in m.name for m in outcome.measured) == 2
    assert (stage.out / "X05.png").stat().st_size > 10_000
    assert not outcome.holds
    generator = poison.Generator.load(Ledger(stage, exhibit).folder / "mnist.safetensors")
    assert (generator.method, generator.ball.radius) == ("deepconfuse", 0.3)
    assert exhibit.run(stage).measured == outcome.measured  # nothing is trained again
    other = named("X05", **tiny, **victims, mnist_epochs=1, cifar_epochs=1, mnist_fewer=100, mnist_average=0.0)
    other.run(stage)  # not the generator of other settings
    again = poison.Generator.load(Ledger(stage, other).folder / "mnist.safetensors")
    assert not torch.equal(again.network.state_dict()["up.0.0.weight"], generator.network.state_dict()["up.0.0.weight"])


def test_unlearnable_has_its_controls_costs_and_counter_measures(stage: Stage) -> None:
    exhibit = named(
        "X06", n=100, new=100, width=4, warm=1, game=1, follower_width=4, victims=("small-cnn", "mlp"), widths=(4, 4),
        epochs=(1, 1), others=("lsp", "em"), other_epochs=1, counters=("mixup", "grayscale"), seeds=2,
    )  # fmt: skip
    outcome = exhibit.run(stage)
    names = [m.name for m in outcome.measured]
    for part in (
        "small-cnn trained on clean images", "small-cnn trained on random noise", "mlp trained on GUE's poison",
        "new images that GUE's generator protected", "GUE's generator: ms an image", "em: ms an image",
        "trained on lsp: right", "em: right on clean test images, half the 95 % t interval",
        "10 % poisoned, counter-measure none", "counter-measure grayscale",
    ):  # fmt: skip
        assert any(part in name for name in names), part
    assert (stage.out / "X06.png").stat().st_size > 10_000
    assert any("a counter-measure wins back" in note for note in outcome.notes)
    moved = poison.Generator.load(Ledger(stage, exhibit).folder / "generator-1.safetensors")
    train = load("cifar10", "train").take(5)
    assert not torch.equal(moved(train.x, train.y), train.x)
