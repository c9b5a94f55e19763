import numpy as np
import pytest
from PIL import Image

from stackelberg.data import load, splits
from stackelberg.errors import StackelbergError


def write(folder, level=0, count=2, size=(6, 4), ending="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full(size, level + number, np.uint8)).save(folder / f"{number}.{ending}")


def test_classes_are_the_sorted_subfolders_and_come_in_turn(tmp_path):
    write(tmp_path / "dog", 100)
    write(tmp_path / "cat", 50, count=3)
    data = load(tmp_path)
    assert data.classes == ["cat", "dog"]
    assert data.y.tolist() == [0, 1, 0, 1, 0]
    assert data.x[:, 0, 0, 0].tolist() == [50, 100, 51, 101, 52]
    assert data.shape == (1, 6, 4)


def test_splits_share_the_classes(tmp_path):
    for split, level in (("train", 10), ("test", 20)):
        write(tmp_path / split / "b", level)
        write(tmp_path / split / "a", level + 5)
    assert splits(tmp_path) == ("train", "test")
    assert load(tmp_path, "test").x[:, 0, 0, 0].tolist() == [25, 20, 26, 21]


def test_hidden_files_and_files_beside_the_classes_do_not_matter(tmp_path):
    write(tmp_path / "cat", ending="JPEG")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".cache").mkdir()
    assert load(tmp_path).classes == ["cat"]


def test_an_empty_class_is_named(tmp_path):
    write(tmp_path / "train" / "cat")
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(StackelbergError, match=r"class 'dog' \(label 1\) has no example"):
        load(tmp_path)


def test_a_class_missing_from_one_split_is_named(tmp_path):
    for folder in ("train/cat", "train/dog", "test/cat"):
        write(tmp_path / folder)
    with pytest.raises(StackelbergError, match=r"test: class 'dog' \(label 1\) has no example"):
        load(tmp_path, "test")


def test_a_file_that_is_no_image_is_named(tmp_path):
    write(tmp_path / "cat")
    (tmp_path / "cat" / "note.txt").write_text("about")
    with pytest.raises(StackelbergError, match=r"note\.txt is no PNG or JPEG image"):
        load(tmp_path)
    (tmp_path / "cat" / "note.txt").rename(tmp_path / "cat" / "note.png")
    with pytest.raises(StackelbergError, match=r"note\.png cannot be read \(it is no PNG or JPEG\)"):
        load(tmp_path)


def test_images_of_different_sizes_are_named(tmp_path):
    write(tmp_path / "cat")
    write(tmp_path / "dog", size=(5, 4))
    with pytest.raises(StackelbergError, match=r"dog/0\.png has 4x5 pixels and \S*cat/0\.png 4x6"):
        load(tmp_path)


def test_an_empty_folder_is_no_image_set(tmp_path):
    with pytest.raises(StackelbergError, match="is no image set: the folder holds no"):
        load(tmp_path)
