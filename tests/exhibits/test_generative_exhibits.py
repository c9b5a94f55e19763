"""X04, X10 and X11 at a size of seconds, on real digits, with small networks trained for some steps."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg import attacks, data, models
from stackelberg.exhibits import Stage, named, other_pictures, tiny_change, unavoidable
from stackelberg.threat import Ball


@pytest.fixture
def hall(data_folder: Path, real_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("STACKELBERG_DATA", str(data_folder))
    # read once a session; the test set is enough to train on
    monkeypatch.setattr(data, "load", lambda source, split: real_data(source, "test"))
    return Stage(tmp_path / "results", tmp_path / "runs", device="cpu", say=lambda text: None)


@pytest.fixture(scope="module")
def net(real_data) -> nn.Module:
    digits = real_data("mnist", "test")
    model = models.build("small-cnn", 10, (1, 28, 28), 4, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(150):
        x, y = digits.batch(torch.arange(step * 64, step * 64 + 64) % len(digits))
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def test_every_example_of_a_network_s_own_distribution_falls(hall: Stage, net, monkeypatch) -> None:
    monkeypatch.setattr(Stage, "network", lambda self, network: net)
    outcome = named("X11", n=40, close=12, networks=1).run(hall)
    assert outcome.holds
    rates = {one.name: one.rate for one in outcome.measured if one.rate is not None}
    assert all(rate.value == 1 for name, rate in rates.items() if "right on D" in name or "adversary" in name)
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    far, near = (value for name, value in values.items() if "mean linf distance" in name)
    assert near < far
    assert (hall.out / "X11.png").is_file()


def test_another_answer_on_d_is_not_as_claimed(hall: Stage, net, monkeypatch) -> None:
    """The claim can fail: of another network the same D has no adversaries."""
    monkeypatch.setattr(Stage, "network", lambda self, network: net)
    other = models.build("small-cnn", 10, (1, 28, 28), 4, seed=1).eval()
    monkeypatch.setattr(unavoidable, "inevitable", lambda model, *a, **k: attacks.inevitable(net, *a, **k))
    monkeypatch.setattr(Stage, "network", lambda self, network: other)
    monkeypatch.setattr(unavoidable, "_nearest_errors", lambda model, x, y: x.roll(1, 0))
    assert not named("X11", n=40, close=12, networks=1).run(hall).holds


def test_a_tiny_change_is_measured_beside_a_random_one_and_kept(hall: Stage, net, monkeypatch) -> None:
    monkeypatch.setattr(Stage, "network", lambda self, network: net)
    exhibit = named("X10", n=40, radius=0.1, first=2, second=6, inner=2, chosen=1, larger=(), awp=False)
    monkeypatch.setattr(tiny_change, "WIDTHS", (50, 2000))
    outcome = exhibit.run(hall)
    rates = {one.name: one.rate for one in outcome.measured if one.rate is not None}
    values = {one.name: one.value for one in outcome.measured if one.value is not None}
    start = "adversarial training: 1 % "
    assert f"{start}of the weights of every tensor changed, at random: under attack" in rates
    assert values[f"{start}of every weight: spent, largest of a tensor"] <= 0.01
    assert 0 < values[f"{start}of the weights of every tensor changed: spent, largest of a tensor"] <= 0.01
    assert all(value == 1 for name, value in values.items() if name.endswith("(1: exactly)"))
    assert len(list((hall.runs / "x10").iterdir())) == 4  # three norms and one chosen image
    assert exhibit.run(hall) == outcome  # from what was kept


def test_the_three_attacks_beat_noise_and_the_gallery_shows_them(hall: Stage, net, monkeypatch) -> None:
    monkeypatch.setattr(Stage, "network", lambda self, network: net)
    monkeypatch.setattr(other_pictures, "TRAININGS", {"mnist": ("VAE", "VAE-GAN", "robust VAE")})
    exhibit = named("X04", n=16, train=256, epochs=1, steps=3, sets=1)
    outcome = exhibit.run(hall)
    rates = {one.name: one.rate for one in outcome.measured if one.rate is not None}
    for kind in ("VAE", "VAE-GAN", "robust VAE"):
        for words in other_pictures.KINDS.values():
            assert f"mnist, {kind}, {words}: reconstruction read as target" in rates
    assert (hall.out / "X04.html").read_text().count("<figure>") == 9
    assert (hall.runs / "x04-mnist-vae-gan" / "vae.safetensors").is_file()
    assert exhibit.run(hall).measured == outcome.measured


def test_noise_of_the_rim_has_the_radius_s_length() -> None:
    x = torch.full((3, 1, 8, 8), 0.5)
    moved = other_pictures._rim(x, Ball("l2", 2.0), 0)
    torch.testing.assert_close((moved - x).flatten(1).norm(dim=1), torch.full((3,), 2.0))
