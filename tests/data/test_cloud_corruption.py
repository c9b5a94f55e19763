"""Corruptions of clouds do what their names say, the same for every batch; augmentation keeps clouds in their ball."""

import math

import pytest
import torch
from torch import Tensor

from stackelberg.data import AugmentPoints, Dataset
from stackelberg.data.augment_points import turned
from stackelberg.data.cloud_corruption import CORRUPTIONS, corrupted, mean_corruption_error, rotation
from stackelberg.errors import StackelbergError


def balls(count: int = 4, points: int = 128) -> Tensor:
    x = torch.randn(count, points, 3, generator=torch.Generator().manual_seed(0))
    return x / x.norm(dim=2).amax(1)[:, None, None]


def apart(a: Tensor, b: Tensor) -> Tensor:
    """All distances, from the coordinates themselves: a point is at distance 0 of itself."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


EVERY = pytest.mark.parametrize("name", list(CORRUPTIONS))


@EVERY
def test_noise_belongs_to_the_cloud(name: str) -> None:
    x = balls()
    whole = corrupted(x, name, 3)
    torch.testing.assert_close(corrupted(x[2:], name, 3), whole[2:], rtol=0, atol=1e-6)  # but for rounding
    assert not torch.equal(corrupted(x, name, 3, seed=1), whole)
    assert whole.isfinite().all()
    assert whole.shape[0] == 4


@EVERY
def test_a_higher_level_is_a_larger_change(name: str) -> None:
    x = balls(8)
    low, high = corrupted(x, name, 1), corrupted(x, name, 5)
    if name.startswith(("drop", "add")):
        assert abs(high.shape[1] - 128) > abs(low.shape[1] - 128) > 0
    else:
        assert (high - x).norm() > (low - x).norm() > 0


def test_dropping_leaves_points_of_the_cloud_and_adding_leaves_all_of_them() -> None:
    x = balls()
    for name, left in (("drop-global", 128 - 48), ("drop-local", 128 - round(200 / 8))):
        out = corrupted(x, name, 2)
        assert out.shape[1] == left
        assert (apart(out, x).amin(2) < 1e-6).all()
    for name, more in (("add-global", round(20 / 8)), ("add-local", 25)):
        out = corrupted(x, name, 2)
        assert out.shape[1] == 128 + more
        assert torch.equal(out[:, :128], x)
        assert (out.norm(dim=2) <= 1 + 1e-5).all()


def test_a_local_drop_is_more_local_than_a_global_one() -> None:
    """Points that vanish together have had near neighbours among those that vanish."""
    x = balls(16, 256)

    def nearest_lost(name: str, level: int) -> float:
        out = corrupted(x, name, level)
        lost = torch.stack([cloud[apart(cloud, own).amin(1) > 1e-6] for cloud, own in zip(x, out, strict=True)])
        between = apart(lost, lost) + 9 * torch.eye(lost.shape[1])
        return float(between.amin(2).mean())

    assert nearest_lost("drop-local", 3) < 0.8 * nearest_lost("drop-global", 1)  # about as many points


def test_jitter_has_its_deviation_and_turns_keep_lengths() -> None:
    x = balls(4, 512)
    assert float((corrupted(x, "jitter", 4) - x).std()) == pytest.approx(0.04, rel=0.05)
    out = corrupted(x, "rotate", 5)
    torch.testing.assert_close(out.norm(dim=2), x.norm(dim=2), rtol=1e-4, atol=1e-5)
    whole = rotation(torch.tensor([[0.1, -0.4, 0.7]]))
    torch.testing.assert_close(whole @ whole.transpose(1, 2), torch.eye(3)[None], atol=1e-6, rtol=0)
    assert float(torch.linalg.det(whole)) == pytest.approx(1, abs=1e-5)


def test_scaling_ends_in_the_unit_ball() -> None:
    out = corrupted(balls(), "scale", 5)
    torch.testing.assert_close(out.norm(dim=2).amax(1), torch.ones(4), rtol=1e-5, atol=0)


def test_the_baseline_against_itself_is_exactly_one() -> None:
    """A21."""
    base = {"jitter": [0.1, 0.3, 0.7], "scale": [0.01, 0.02, 0.05]}
    assert mean_corruption_error(base, base) == 1.0
    half = {name: [rate / 2 for rate in rates] for name, rates in base.items()}
    assert mean_corruption_error(half, base) == pytest.approx(0.5)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(StackelbergError, match="corruption of clouds 'jiter'"):
        corrupted(balls(), "jiter", 1)
    with pytest.raises(StackelbergError, match="level must be 1 to 5, got 6"):
        corrupted(balls(), "jitter", 6)
    with pytest.raises(StackelbergError, match="no error under jitter"):
        mean_corruption_error({"jitter": [0.1]}, {"jitter": [0.0]})
    with pytest.raises(StackelbergError, match="the same corruptions"):
        mean_corruption_error({"jitter": [0.1]}, {"scale": [0.1]})


KEYS = torch.arange(4)


def test_turning_is_about_the_vertical() -> None:
    x = balls()
    out = AugmentPoints(turn=180, scale=1, jitter=0)(x, KEYS)
    assert torch.equal(out[:, :, 2], x[:, :, 2])
    torch.testing.assert_close(out[:, :, :2].norm(dim=2), x[:, :, :2].norm(dim=2))
    assert not torch.allclose(out, x)
    quarter = turned(torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([math.pi / 2]), 2)
    torch.testing.assert_close(quarter, torch.tensor([[[0.0, 1.0, 0.0]]]), atol=1e-6, rtol=0)


def test_stretched_and_jittered_clouds_stay_in_their_ball() -> None:
    x = balls()
    out = AugmentPoints(scale=2, jitter=0.05)(x, KEYS)
    assert (out.norm(dim=2).amax(1) <= 1 + 1e-5).all()
    assert not torch.allclose(out, x)


def test_dropped_points_become_copies_of_one_that_stays() -> None:
    x = balls()
    out = AugmentPoints(scale=1, jitter=0, drop=0.9)(x, KEYS)
    assert out.shape == x.shape
    assert (apart(out, x).amin(2) < 1e-6).all()
    assert any(len(cloud.unique(dim=0)) < 128 for cloud in out)


def test_keys_decide_whatever_the_batch() -> None:
    x, augment = balls(), AugmentPoints(turn=30, drop=0.5)
    torch.testing.assert_close(augment(x, KEYS)[1:], augment(x[1:], KEYS[1:]))
    drawn = augment(x, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, augment(x, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"turn": 200}, "turn must lie in 0"), ({"scale": 0.5}, "scale must be a factor"), ({"jitter": -1}, "jitter"),
     ({"drop": 1.0}, "drop must be a share"), ({"vertical": 3}, "vertical must be")],
)  # fmt: skip
def test_augmentation_says_what_is_wrong(change: dict, words: str) -> None:
    with pytest.raises(StackelbergError, match=words):
        AugmentPoints(**change)


def cloud_set(scale: float = 1.0) -> Dataset:
    return Dataset(scale * balls(), torch.arange(4) % 2, ["a", "b"], "random")


def test_the_box_of_clouds_holds_them_and_that_of_images_is_the_unit_interval() -> None:
    assert cloud_set().box == (-1.0, 1.0)
    assert cloud_set(3.0).box == (-4.0, 4.0)
    images = Dataset(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.arange(2), ["a", "b"], "black")
    assert images.box == (0.0, 1.0)
    assert not images.cloud
    with pytest.raises(StackelbergError, match="holds images, which have no points"):
        images.points(3)


def test_fewer_points_are_the_first_ones() -> None:
    data = cloud_set()
    assert torch.equal(data.points(10).x, data.x[:, :10])
    assert data.points(9999).shape == (128, 3)


def test_modelnet_lies_in_its_box(real_data) -> None:
    for split in ("train", "test"):
        data = real_data("modelnet10", split)
        assert data.box == (-1.0, 1.0)
        assert float(data.x.norm(dim=2).amax()) < 1.001
