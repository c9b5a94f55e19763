import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stackelberg.data import Dataset, load, save_parquet
from stackelberg.data.decode import encode_png
from stackelberg.errors import StackelbergError

PIXELS = torch.arange(6 * 3 * 4 * 4).remainder(251).to(torch.uint8).view(6, 3, 4, 4)


def write(path, labels=(0, 1, 2, 0, 1, 2), column="image", label="label", kind="struct", names=None, label_type=None):
    """A Parquet file of six images."""
    encoded = [encode_png(pixels) for pixels in PIXELS]
    cells = [{"bytes": data, "path": None} for data in encoded] if kind == "struct" else encoded
    columns = {column: pa.array(cells), label: pa.array(list(labels), label_type)}
    table = pa.table(columns)
    if names:
        info = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_exactly_with_their_class_names(tmp_path, channels):
    data = Dataset(PIXELS[:, :channels], torch.arange(6) % 2, ["cat", "dog"], "made")
    save_parquet(data, tmp_path / "set" / "train.parquet")
    again = load(tmp_path / "set")
    assert torch.equal(again.x, data.x)
    assert torch.equal(again.y, data.y)
    assert again.classes == ["cat", "dog"]


@pytest.mark.parametrize("names", [3, "abc", {"a": 1}])
def test_names_that_are_no_list_are_no_names(tmp_path, names):
    data = load(write(tmp_path / "train.parquet", names=names))
    assert data.classes == ["0", "1", "2"]


def test_points_come_back_exactly(tmp_path):
    data = Dataset(torch.randn(5, 7, 3), torch.arange(5) % 2, ["bed", "bath"], "clouds")
    save_parquet(data, tmp_path / "train.parquet")
    again = load(tmp_path / "train.parquet")
    assert torch.equal(again.x, data.x)
    assert again.classes == data.classes


def test_other_readers_find_the_hubs_schema(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra hub is not installed")
    save_parquet(Dataset(PIXELS, torch.arange(6) % 2, ["cat", "dog"], "made"), tmp_path / "train.parquet")
    found = datasets.Dataset.from_parquet(str(tmp_path / "train.parquet"), cache_dir=str(tmp_path / "cache"))
    assert found.features["label"].names == ["cat", "dog"]
    assert np.array_equal(np.asarray(found[2]["image"]), PIXELS[2].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("column", ["image", "img", "picture"])
@pytest.mark.parametrize("label", ["label", "fine_label", "kind"])
@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_columns_are_found_by_name_or_by_type(tmp_path, column, label, kind):
    data = load(write(tmp_path / "some.parquet", column=column, label=label, kind=kind))
    assert torch.equal(data.x, PIXELS)
    assert data.y.tolist() == [0, 1, 2, 0, 1, 2]


def test_string_labels_become_sorted_classes(tmp_path):
    data = load(write(tmp_path / "some.parquet", labels=["b", "a", "c", "b", "a", "c"]))
    assert data.classes == ["a", "b", "c"]
    assert data.y.tolist() == [1, 0, 2, 1, 0, 2]


@pytest.mark.parametrize("label_type", [pa.int8(), pa.uint8(), pa.int32(), pa.uint64()])
def test_any_integer_type_is_a_label(tmp_path, label_type):
    assert load(write(tmp_path / "some.parquet", label_type=label_type)).y.dtype == torch.int64


def test_the_classes_are_those_of_both_splits(tmp_path):
    write(tmp_path / "train.parquet", labels=[0, 1, 2, 3, 1, 2])
    write(tmp_path / "test.parquet", labels=[0, 1, 2, 0, 1, 2])
    assert load(tmp_path, "test").classes == ["0", "1", "2", "3"]


def test_numbered_parts_are_read_in_order(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00002.parquet")
    write(tmp_path / "data" / "train-00001-of-00002.parquet", labels=[2, 2, 2, 2, 2, 2])
    assert load(tmp_path).y.tolist() == [0, 1, 2, 0, 1, 2] + [2] * 6


def test_a_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "train.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StackelbergError, match=r"train\.parquet is truncated or no Parquet file"):
        load(tmp_path)
    with pytest.raises(StackelbergError, match=r"train\.parquet is truncated or no Parquet file"):
        load(path)


def test_labels_outside_the_recorded_classes_are_named(tmp_path):
    path = write(tmp_path / "some.parquet", labels=[0, 1, 2, 0, 1, 2], names=["a", "b"])
    with pytest.raises(StackelbergError, match="the label of example 2 is 2, allowed are 0 to 1"):
        load(path)


def test_a_negative_label_is_named(tmp_path):
    with pytest.raises(StackelbergError, match="the label of example 1 is -1"):
        load(write(tmp_path / "some.parquet", labels=[0, -1, 1, 0, 1, 2]))


def test_a_missing_label_is_named(tmp_path):
    with pytest.raises(StackelbergError, match="example 3 has no label"):
        load(write(tmp_path / "some.parquet", labels=[0, 1, 2, None, 1, 2]))


def test_an_empty_class_is_named(tmp_path):
    with pytest.raises(StackelbergError, match=r"class '1' \(label 1\) has no example"):
        load(write(tmp_path / "some.parquet", labels=[0, 2, 2, 0, 2, 2]))
    with pytest.raises(StackelbergError, match=r"class 'dog' \(label 1\) has no example"):
        load(write(tmp_path / "named.parquet", labels=[0] * 6, names=["cat", "dog"]))


def test_a_huge_label_is_an_empty_class_not_a_full_memory(tmp_path):
    with pytest.raises(StackelbergError, match="label 3"):
        load(write(tmp_path / "some.parquet", labels=[0, 1, 2, 10**12, 1, 2]))


def test_a_table_without_images_says_what_it_has(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "some.parquet")
    with pytest.raises(StackelbergError, match="is no image set: it has the columns text: string, label: int64"):
        load(tmp_path / "some.parquet")


def test_a_table_without_labels_says_what_it_has(tmp_path):
    pq.write_table(pa.table({"image": [b"x"], "a": [0], "b": [1]}), tmp_path / "some.parquet")
    with pytest.raises(StackelbergError, match="no clear label column"):
        load(tmp_path / "some.parquet")


def test_a_table_without_rows_is_named(tmp_path):
    pq.write_table(
        pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}), tmp_path / "a.parquet"
    )
    with pytest.raises(StackelbergError, match="holds no rows"):
        load(tmp_path / "a.parquet")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(tmp_path / "train.parquet")
    before = path.read_bytes()

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(StackelbergError, match="No space left on device"):
        save_parquet(Dataset(PIXELS, torch.zeros(6, dtype=torch.int64), ["a"], "made"), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.parquet"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [[0], [1]]}, r"the label column 'label' is list<.*>, needed are class numbers or names"),
        ({"label": [0.5, 1.0]}, r"the label column 'label' is double, needed are class numbers or names"),
        ({"label": [{"a": 1}, {"a": 2}]}, r"the label column 'label' is struct"),
    ],
)
def test_a_label_column_of_another_type_is_refused(tmp_path: Path, columns: dict[str, list], said: str) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": [b"x", b"y"], **columns}), path)
    with pytest.raises(StackelbergError, match=said):
        load(path)


@pytest.mark.parametrize("name", ["label", "image"])
def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    path, kinds = tmp_path / "train.parquet", {"image": pa.array([b"x"]), "label": pa.array([0])}
    pq.write_table(pa.table([*kinds.values(), kinds[name]], names=[*kinds, name]), path)
    with pytest.raises(StackelbergError, match=r"there twice|no clear label column|is no image set"):
        load(path)


def test_labels_in_a_dictionary_are_names(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    labels = pa.array(["cat", "dog", "cat"]).dictionary_encode()
    pixels = encode_png(torch.zeros(1, 2, 2, dtype=torch.uint8))
    pq.write_table(pa.table({"image": [pixels] * 3, "label": labels}), path)
    found = load(path)
    assert (found.classes, found.y.tolist()) == (["cat", "dog"], [0, 1, 0])
