"""Corruptions and domain shifts: what every kind promises, and what some of them are exactly."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from stackelberg.data import Dataset
from stackelberg.data.corruption import CORRUPTIONS, SEVERITIES, Corruption, every
from stackelberg.data.domain import resized, reweighted_classes, rotated
from stackelberg.errors import StackelbergError


def pictures(n: int, channels: int, side: int, seed: int = 0) -> torch.Tensor:
    """Smooth colourful blobs with an edge, bytes."""
    chance = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 5, 5, generator=chance)
    fine = torch.nn.functional.interpolate(coarse, size=[side, side], mode="bicubic", align_corners=True).clamp(0, 1)
    fine[:, :, side // 3 : side // 2, side // 3 :] = 0.9
    return (fine * 200 + 10).round().to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_kind_harms_more_with_its_severity(kind: str, side: int, channels: int) -> None:
    x = pictures(8, channels, side)
    before, harm = x.clone(), []
    for severity in SEVERITIES:
        moved = Corruption(kind, severity).images(x)
        assert moved.shape == x.shape
        assert moved.dtype == torch.uint8
        harm.append(float((moved.double() - x.double()).abs().mean()))
    assert torch.equal(x, before)
    assert harm[0] > 0.2
    assert all(later > earlier for earlier, later in pairwise(harm)), harm
    assert harm[-1] < 128


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_example_gets_its_own_noise(kind: str) -> None:
    """Whatever its batch; and another seed draws other noise, for kinds that draw any."""
    x = pictures(6, 1, 28)
    whole = Corruption(kind, 3).images(x)
    single = torch.cat([Corruption(kind, 3).images(x[i : i + 1]) for i in (4, 2)])
    assert (single.int() - whole[[4, 2]].int()).abs().max() <= 1  # rounding of sums
    same = torch.equal(whole, Corruption(kind, 3, seed=1).images(x))
    assert same == (kind in ("defocus-blur", "zoom-blur", "brightness", "contrast", "pixelate", "jpeg-compression"))


def test_what_some_kinds_are() -> None:
    grey = (
        torch.full((50, 3, 32, 32), 102, dtype=torch.uint8)
        + torch.arange(50, dtype=torch.uint8)[:, None, None, None] // 50
    )
    noise = Corruption("gaussian-noise", 2).images(grey).double() / 255
    assert float(noise.std()) == pytest.approx(0.06, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.4, abs=2e-3)
    shot = Corruption("shot-noise", 5).images(grey).double() / 255
    assert float(shot.std()) == pytest.approx((0.4 / 50) ** 0.5, rel=0.02)
    impulse = Corruption("impulse-noise", 5).images(grey)
    assert float(((impulse == 0) | (impulse == 255)).double().mean()) == pytest.approx(0.07, rel=0.1)
    assert float(Corruption("brightness", 3).images(grey).double().mean()) == pytest.approx(102 + 38, abs=0.5)
    for kind in ("defocus-blur", "motion-blur", "zoom-blur", "glass-blur", "elastic-transform", "pixelate", "contrast"):
        assert (Corruption(kind, 4).images(grey).int() - grey.int()).abs().max() <= 1, kind
    x = pictures(4, 3, 32)
    assert torch.equal(
        Corruption("contrast", 5).images(x), (x / 255).sub((x / 255).mean((2, 3), keepdim=True)).mul(0.15)
        .add((x / 255).mean((2, 3), keepdim=True)).mul(255).round().to(torch.uint8),
    )  # fmt: skip


def test_a_data_set_keeps_its_labels() -> None:
    dataset = Dataset(pictures(5, 1, 28), torch.arange(5), list("abcde"), "blobs")
    foggy = Corruption("fog", 2)(dataset)
    assert foggy.name == "blobs fog-2"
    assert torch.equal(foggy.y, dataset.y)
    assert len(every()) == 75
    assert {c.severity for c in every(severities=(1, 5))} == {1, 5}
    with pytest.raises(StackelbergError, match="did you mean 'fog'"):
        Corruption("fogs", 2)
    with pytest.raises(StackelbergError, match="severity must be 1, 2, 3, 4 or 5, got 6"):
        Corruption("fog", 6)
    points = Dataset(torch.rand(2, 7, 3), torch.zeros(2, dtype=torch.int64), ["a"], "cloud")
    for shift in (Corruption("fog", 1), lambda d: rotated(d, 10.0)):
        with pytest.raises(StackelbergError, match="cloud holds points"):
            shift(points)


def test_domain_shifts() -> None:
    y = torch.arange(40) % 2
    dataset = Dataset(pictures(40, 1, 28), y, ["a", "b"], "blobs")
    quarter = rotated(dataset, 90.0)
    assert (quarter.x.int() - dataset.x.rot90(1, (2, 3)).int()).abs().max() <= 1
    assert torch.equal(rotated(dataset, 0.0).x, dataset.x)
    small = resized(dataset, 8)
    assert small.shape == (1, 8, 8)
    assert resized(small, 28, margin=2).shape == (1, 28, 28)
    assert int(resized(small, 28, margin=2).x[:, :, :2].max()) == 0
    fewer = reweighted_classes(dataset, [1.0, 0.25], seed=3)
    assert np.bincount(fewer.y.numpy()).tolist() == [20, 5]
    assert torch.equal(fewer.x, reweighted_classes(dataset, [1.0, 0.25], seed=3).x)
    for wrong, words in (([1.0], "2 numbers in"), ([0.0, 0.0], "no example of blobs is left")):
        with pytest.raises(StackelbergError, match=words):
            reweighted_classes(dataset, wrong)
