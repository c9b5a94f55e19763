import gzip
import struct

import numpy as np
import pytest
import torch

from stackelberg.data import load
from stackelberg.errors import StackelbergError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 5), dtype=np.uint8)
LABELS = np.array([0, 1, 1, 0], np.uint8)


def write(folder, stem="t10k", ending=".gz", cut=0):
    folder.mkdir(exist_ok=True)
    for name, array in (("images-idx3-ubyte", PIXELS), ("labels-idx1-ubyte", LABELS)):
        data = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
        data = data[: len(data) - cut]
        (folder / f"{stem}-{name}{ending}").write_bytes(gzip.compress(data) if ending else data)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_both_files_are_read(tmp_path, ending):
    write(tmp_path, ending=ending)
    data = load(tmp_path, "test")
    assert torch.equal(data.x[:, 0], torch.from_numpy(PIXELS))
    assert data.y.tolist() == [0, 1, 1, 0]


def test_the_operating_systems_copy_serves_a_name(tmp_path, monkeypatch):
    write(tmp_path / "fashion-mnist", "t10k")
    monkeypatch.delenv("STACKELBERG_DATA", raising=False)
    monkeypatch.setattr("stackelberg.data.sources.SYSTEM", tmp_path)
    data = load("fashion_mnist", "test")
    assert data.classes[9] == "Ankle boot"
    assert data.name == "fashion_mnist"
    assert torch.equal(data.x[:, 0], torch.from_numpy(PIXELS))


def test_a_file_that_is_too_short_is_named(tmp_path):
    write(tmp_path, cut=2)
    with pytest.raises(StackelbergError, match="truncated: 4x3x5 values are announced, 58 are there"):
        load(tmp_path, "test")


def test_a_broken_gzip_file_is_named(tmp_path):
    write(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(StackelbergError, match="truncated or no gzip file"):
        load(tmp_path, "test")


def test_another_format_is_named(tmp_path):
    write(tmp_path, ending="")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"\x00\x00\x0d\x03 floats")
    with pytest.raises(StackelbergError, match="is no idx file of unsigned bytes with 3 axes"):
        load(tmp_path, "test")
