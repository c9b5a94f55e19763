import pytest
import torch

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError


def images(n: int = 12, channels: int = 1, classes: int = 3) -> Dataset:
    x = torch.randint(0, 256, (n, channels, 4, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Dataset(x, torch.arange(n) % classes, [f"c{k}" for k in range(classes)], "made")


@pytest.mark.parametrize("index", [slice(2, 5), torch.tensor([2, 3, 4]), [2, 3, 4], range(2, 5)])
def test_batch_gives_floats_in_the_unit_interval_whatever_the_index(index):
    data = images()
    x, y = data.batch(index)
    assert x.dtype == torch.float32
    assert torch.equal(x * 255, data.x[2:5].float())
    assert torch.equal(y, data.y[2:5])


def test_batch_of_points_leaves_their_units():
    points = torch.randn(4, 7, 3)
    data = Dataset(points, torch.zeros(4, dtype=torch.int64), ["only"], "points")
    assert torch.equal(data.batch([1])[0], points[1:2])


def test_batch_does_not_touch_the_stored_examples():
    points = Dataset(torch.randn(4, 7, 3), torch.zeros(4, dtype=torch.int64), ["only"], "points")
    before = points.x.clone()
    points.batch([0, 1])[0].mul_(2)
    assert torch.equal(points.x, before)


def test_take_by_number_by_place_and_more_than_there_are():
    data = images()
    assert torch.equal(data.take(3).x, data.x[:3])
    assert torch.equal(data.take([5, 1]).y, data.y[[5, 1]])
    assert torch.equal(data.take(data.y == 2).x, data.x[data.y == 2])
    assert len(data.take(1000)) == len(data)
    with pytest.raises(StackelbergError, match="must be >= 1, got 0"):
        data.take(0)


def test_split_parts_the_examples_the_same_way_for_the_same_seed():
    data = images(50)
    data = Dataset(torch.arange(50).to(torch.uint8).view(50, 1, 1, 1), data.y, data.classes, "made")
    rest, held = data.split(8, seed=3)
    again, held_again = data.split(8, seed=3)
    assert len(held) == 8
    assert sorted([*rest.x.flatten().tolist(), *held.x.flatten().tolist()]) == list(range(50))
    assert torch.equal(held.x, held_again.x)
    assert torch.equal(rest.x, again.x)
    assert not torch.equal(held.x, data.split(8, seed=4)[1].x)
    with pytest.raises(StackelbergError, match="between 1 and 49"):
        data.split(50)


def test_mean_std_are_those_of_the_pixels():
    data = images(40, channels=3)
    mean, std = data.mean_std()
    pixels = data.x.double() / 255
    assert torch.allclose(torch.tensor(mean).double(), pixels.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(torch.tensor(std).double(), pixels.std((0, 2, 3), correction=0), atol=1e-6)


def test_mean_std_of_a_constant_channel_can_be_divided_by():
    data = Dataset(torch.full((3, 1, 2, 2), 7, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), ["a"], "flat")
    assert data.mean_std() == ((7 / 255,), (1.0,))


@pytest.mark.parametrize(("label", "named"), [(3, "is 3"), (-1, "is -1")])
def test_a_label_outside_the_classes_is_named(label, named):
    y = torch.tensor([0, 1, label, 2])
    with pytest.raises(StackelbergError, match=rf"made: the label of example 2 {named}, allowed are 0 to 2"):
        Dataset(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), y, ["a", "b", "c"], "made")


def test_labels_and_examples_must_pair():
    with pytest.raises(StackelbergError, match="4 examples and 3 labels"):
        Dataset(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), ["a"], "made")


def test_a_point_that_is_not_finite_is_named():
    points = torch.zeros(4, 5, 3)
    points[2, 1, 0] = torch.nan
    with pytest.raises(StackelbergError, match="example 2 has a NaN"):
        Dataset(points, torch.zeros(4, dtype=torch.int64), ["a"], "cloud")
