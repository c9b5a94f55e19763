import pytest
import torch
from sklearn.datasets import load_digits

from stackelberg.data import NAMES, load, save_parquet, splits
from stackelberg.errors import StackelbergError

TEST_SETS = {
    "mnist": (10000, (1, 28, 28)),
    "fashion_mnist": (10000, (1, 28, 28)),
    "cifar10": (10000, (3, 32, 32)),
    "cifar10_exact": (1017, (3, 32, 32)),
    "modelnet10": (908, (1024, 3)),
}


def test_digits_are_bundled_stratified_and_apart():
    train, test = load("digits", "train"), load("digits", "test")
    assert train.shape == (1, 8, 8)
    assert len(train) + len(test) == 1797
    share = torch.bincount(test.y) / (torch.bincount(test.y) + torch.bincount(train.y))
    assert ((share > 0.19) & (share <= 0.2)).all()
    assert int(train.x.max()) == 255
    assert set(train.x.unique().tolist()) == {round(level * 255 / 16) for level in range(17)}
    assert load("digits").x.shape == train.x.shape


def test_digits_are_those_of_scikit_learn():
    pixels, target = load_digits(return_X_y=True)
    train, test = load("digits", "train"), load("digits", "test")
    ours = torch.cat([train.x, test.x]).flatten(1).double().mul(16 / 255).round()
    labels = torch.cat([train.y, test.y])
    mine = sorted([*row, label] for row, label in zip(ours.tolist(), labels.tolist(), strict=True))
    theirs = sorted([*row, label] for row, label in zip(pixels.tolist(), target.tolist(), strict=True))
    assert mine == theirs


@pytest.mark.parametrize("name", sorted(TEST_SETS))
def test_the_known_sets_have_their_size_and_every_class(real_data, name):
    count, shape = TEST_SETS[name]
    data = real_data(name, "test")
    assert len(data) == count
    assert data.shape == shape
    assert len(data.classes) == 10
    assert torch.bincount(data.y, minlength=10).min() > 0
    assert data.name == name


def test_a_whole_training_set_is_read(real_data):
    data = real_data("mnist", "train")
    assert len(data) == 60000
    assert torch.bincount(data.y).tolist()[:3] == [5923, 6742, 5958]
    assert data.mean_std()[0][0] == pytest.approx(0.1307, abs=1e-4)
    assert data.mean_std()[1][0] == pytest.approx(0.3081, abs=1e-4)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(StackelbergError, match="unknown data set 'mnits': did you mean 'mnist'"):
        load("mnits")
    assert "digits" in NAMES


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StackelbergError, match=r"there is no file or folder \S*none\.parquet"):
        load(tmp_path / "none.parquet")


def test_a_file_that_is_no_image_set_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("about")
    with pytest.raises(StackelbergError, match=r"notes\.txt is no image set: a file must be \.parquet or \.npz"):
        load(tmp_path / "notes.txt")


def test_an_unknown_split_gets_the_nearest():
    with pytest.raises(StackelbergError, match="unknown split 'tset': did you mean 'test'"):
        load("digits", "tset")


def test_a_split_that_is_missing_is_named(tmp_path, monkeypatch):
    save_parquet(load("digits"), tmp_path / "mnist" / "train.parquet")
    assert splits(tmp_path / "mnist") == ("train",)
    with pytest.raises(StackelbergError, match="has no test split, only train"):
        load(tmp_path / "mnist", "test")
    monkeypatch.setenv("STACKELBERG_DATA", str(tmp_path))
    assert len(load("mnist", "train")) == 1442


def test_only_a_test_file_is_read_without_a_split(tmp_path):
    save_parquet(load("digits", "test"), tmp_path / "test.parquet")
    assert len(load(tmp_path)) == len(load(tmp_path / "test.parquet")) == 355


def test_a_set_that_is_nowhere_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("STACKELBERG_DATA", str(tmp_path))
    with pytest.raises(
        StackelbergError, match=r"modelnet10 not found: there is no folder \S*modelnet10. Set STACKELBERG_DATA"
    ):
        load("modelnet10")
