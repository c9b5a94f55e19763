import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from stackelberg.data import load, splits
from stackelberg.errors import StackelbergError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "x",
    [X, X.transpose(0, 2, 3, 1), X / np.float32(255), (X / 255).transpose(0, 2, 3, 1)],
    ids=["bytes", "bytes last", "float", "double last"],
)
def test_layouts_and_types_give_the_same_images(tmp_path, x):
    data = load(saved(tmp_path / "a.npz", x=x, y=Y))
    assert torch.equal(data.x, torch.from_numpy(X))
    assert data.y.tolist() == Y.tolist()


def test_grey_images_need_no_channel_axis_and_labels_may_be_a_column(tmp_path):
    data = load(saved(tmp_path / "a.npz", x=X[:, 0], y=Y[:, None].astype(np.uint8)))
    assert torch.equal(data.x, torch.from_numpy(X[:, :1]))


def test_a_float_between_two_grey_levels_becomes_the_nearer(tmp_path):
    data = load(saved(tmp_path / "a.npz", x=np.full((1, 2, 2), 10.4 / 255), y=[0]))
    assert (data.x == 10).all()


def test_both_splits_share_the_classes(tmp_path):
    path = saved(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2])
    assert splits(path) == ("train", "test")
    assert len(load(path, "test")) == 2
    assert load(path, "test").classes == ["0", "1", "2"]


def test_a_single_set_has_no_test_split(tmp_path):
    path = saved(tmp_path / "a.npz", x=X, y=Y)
    assert splits(path) == ("train",)
    with pytest.raises(StackelbergError, match="has no test split, only train"):
        load(path, "test")


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-0.1, "-0.1"), (1.5, "1.5")])
def test_a_value_out_of_range_is_named_with_its_image(tmp_path, value, shown):
    x = X / 255
    x[4, 1, 2, 2] = value
    with pytest.raises(StackelbergError, match=f"image 4 holds the value {shown}, allowed are floats in"):
        load(saved(tmp_path / "a.npz", x=x, y=Y))


def test_shapes_and_types_that_are_no_images_are_named(tmp_path):
    with pytest.raises(StackelbergError, match=r"x must be images .* got \[6, 60\]"):
        load(saved(tmp_path / "a.npz", x=X.reshape(6, 60), y=Y))
    with pytest.raises(StackelbergError, match=r"x must be uint8 in 0\.\.255 or floats in .* got int64"):
        load(saved(tmp_path / "b.npz", x=X.astype(np.int64), y=Y))
    with pytest.raises(StackelbergError, match="y must be integers"):
        load(saved(tmp_path / "c.npz", x=X, y=Y.astype(float)))


def test_labels_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(StackelbergError, match="6 examples and 5 labels"):
        load(saved(tmp_path / "a.npz", x=X, y=[0, 1, 0, 1, 0]))
    with pytest.raises(StackelbergError, match="label of example 0 is -1"):
        load(saved(tmp_path / "b.npz", x=X, y=[-1, 1, 0, 1, 0, 1]))
    with pytest.raises(StackelbergError, match=r"class '1' \(label 1\) has no example"):
        load(saved(tmp_path / "c.npz", x=X, y=[0, 2, 0, 2, 0, 2]))


def test_other_arrays_are_no_image_set(tmp_path):
    with pytest.raises(StackelbergError, match="is no image set: it holds weights, needed are the arrays x and y"):
        load(saved(tmp_path / "a.npz", weights=X))


def test_pickled_objects_and_broken_files_are_refused(tmp_path):
    objects = np.empty(6, dtype=object)
    with pytest.raises(StackelbergError, match=r"truncated or no \.npz file of plain arrays"):
        load(saved(tmp_path / "a.npz", x=objects, y=Y))
    path = saved(tmp_path / "b.npz", x=X, y=Y)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StackelbergError, match=r"truncated or no \.npz file of plain arrays"):
        load(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(StackelbergError, match=r"truncated or no \.npz file of plain arrays"):
        load(path)


def test_a_member_that_announces_more_than_it_holds_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, x=np.zeros((4, 2, 2), np.uint8), y=np.arange(4) % 2)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = members["x.npy"].replace(b"(4, 2, 2)", b"(4, 9999)")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"x.npy": head}).items():
            archive.writestr(name, content)
    with pytest.raises(StackelbergError, match=r"x announces uint8 \[4, 9999\] and holds 16 bytes"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_member_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, content)
    with pytest.raises(StackelbergError, match=f"{path} is truncated or no .npz file"):
        load(path)


def test_a_header_that_does_not_end_is_said(tmp_path: Path) -> None:
    """numpy reads a header as Python; what its tokenizer says of a spoiled one is not for the user."""
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 1, 2, 2), np.uint8), y=np.arange(2))
    spoiled = (tmp_path / "a.npz").read_bytes().replace(b"(2, 1, 2, 2), }", b"(2, 1, 2, 2, [ ")
    (tmp_path / "a.npz").write_bytes(spoiled)
    with pytest.raises(StackelbergError, match=r"no \.npz file of plain arrays"):
        load(tmp_path / "a.npz")
