"""X24 at a size of seconds, with a fresh network."""

import pytest

from stackelberg import models
from stackelberg.exhibits import Stage, generalized, named


def test_memorization_that_generalizes(data_folder, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKELBERG_DATA", str(data_folder))
    monkeypatch.setattr(Stage, "network", lambda self, network: models.build("distance-net", 10, (1, 28, 28), 8).eval())
    monkeypatch.setattr(generalized, "_history", lambda path: [{"seconds": 60.0, "certified": 0.1}])
    stage = Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)
    tiny = {"widths": (8,), "each": 60, "asked": 40, "thinned": 300, "draws": 2, "sizes": (32,), "test": 200}
    outcome = named("X24", **tiny).run(stage)
    rates = {one.name: one.rate.value for one in outcome.measured if one.rate is not None}
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    assert not outcome.holds  # a fresh network certifies nothing
    assert rates["distances, width 8: certified at 0.3"] < 0.5
    assert rates["1 and 7, 60 a label: accuracy"] > 0.9
    assert rates["all 60000 by heart, l2: accuracy"] > rates["all 60000 by heart, linf: accuracy"]
    assert rates["all 60000 by heart, l2: certified at 0.1"] >= rates["all 60000 by heart, l2: certified at 1"]
    kept = [values[f"300 images thinned, promise {radius}: kept"] for radius in (0, 0.25)]
    assert 10 < kept[0] <= kept[1] < 300
    assert (tmp_path / "results" / outcome.pictures[0]).is_file()
