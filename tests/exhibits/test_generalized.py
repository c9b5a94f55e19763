"""X24 at a size of seconds, with a fresh network."""

import pytest
import torch

from stackelberg import models
from stackelberg.exhibits import Stage, generalized, named
from stackelberg.memorize import medoids


def test_memorization_that_generalizes(data_folder, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKELBERG_DATA", str(data_folder))
    monkeypatch.setattr(Stage, "network", lambda self, network: models.build("distance-net", 10, (1, 28, 28), 8).eval())
    monkeypatch.setattr(generalized, "_history", lambda path: [{"seconds": 60.0, "certified": 0.1}])
    stage = Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)
    tiny = {
        "widths": (8,),
        "begun": (8, 16),
        "others": ("fashion_mnist",),
        "each": 60,
        "asked": 40,
        "thinned": 300,
        "draws": 2,
        "sizes": (32,),
        "test": 200,
    }
    outcome = named("X24", **tiny).run(stage)
    rates = {one.name: one.rate.value for one in outcome.measured if one.rate is not None}
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    assert not outcome.holds  # a fresh network certifies nothing
    names = ("distances, width 8", "distances from the memorizer, width 16")
    assert all(rates[f"{name}: certified at 0.3"] < 0.5 for name in names)
    assert "distances, fashion_mnist, width 256: certified at 0.1" in rates
    assert rates["1 and 7, 60 a label: accuracy"] > 0.9
    assert rates["all 60000 by heart, l2: accuracy"] > rates["all 60000 by heart, linf: accuracy"]
    assert rates["all 60000 by heart, l2: certified at 0.1"] >= rates["all 60000 by heart, l2: certified at 1"]
    kept = [values[f"300 images thinned, promise {radius}: kept"] for radius in (0, 0.25)]
    assert 10 < kept[0] <= kept[1] < 300
    assert (tmp_path / "results" / outcome.pictures[0]).is_file()


def test_a_network_begins_as_the_memorizer_of_few_images(real_data) -> None:
    """And is right on those: the images nearest to so many centres, of every class."""
    train = real_data("mnist", "train").take(600)
    model = generalized._memorizer(20, train, seed=0).eval()
    x, y = train.batch(torch.from_numpy(medoids(train.x, train.y, 20)))
    assert torch.equal(y.unique(), torch.arange(10))
    assert torch.equal(model(x).argmax(1), y)
