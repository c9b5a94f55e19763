"""A data set in parts: the same examples as at once, never more than asked for in memory."""

from pathlib import Path

import pytest
import torch

from stackelberg.data import Dataset, Stream, load, save_parquet
from stackelberg.data.parquet import writing_parquet
from stackelberg.errors import StackelbergError


def made(n: int, channels: int = 1, start: int = 0) -> Dataset:
    draw = torch.Generator().manual_seed(n + start)
    x = torch.randint(0, 256, (n, channels, 4, 4), generator=draw, dtype=torch.uint8)
    return Dataset(x, (torch.arange(n) + start) % 3, ["a", "b", "c"], "made")


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_the_parts_are_the_whole(tmp_path: Path, rows: int) -> None:
    save_parquet(made(20), tmp_path / "train-0.parquet")
    save_parquet(made(11, start=20), tmp_path / "train-1.parquet")
    stream, whole = Stream(tmp_path, rows=rows), load(tmp_path)
    parts = list(stream)
    assert len(stream) == 31
    assert max(map(len, parts)) <= rows
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
    assert torch.equal(torch.cat([part.y for part in parts]), whole.y)
    assert all(part.classes == whole.classes for part in parts)
    assert not stream.whole


def test_a_sample_is_random_in_order_and_repeatable(tmp_path: Path) -> None:
    save_parquet(made(40), tmp_path / "train.parquet")
    whole = load(tmp_path)
    few = Stream(tmp_path, rows=6).sample(15, seed=1)
    places = [int((whole.x == image).flatten(1).all(1).nonzero()[0]) for image in few.x]
    assert places == sorted(set(places))
    assert len(few) == 15
    assert torch.equal(few.y, whole.y[places])
    assert torch.equal(Stream(tmp_path, rows=40).sample(15, seed=1).x, few.x)
    assert not torch.equal(Stream(tmp_path).sample(15, seed=2).x, few.x)
    assert len(Stream(tmp_path).sample(1000)) == 40


def test_another_source_is_loaded_and_cut() -> None:
    stream, whole = Stream("digits", rows=500), load("digits", "train")
    assert stream.whole
    assert torch.equal(torch.cat([part.x for part in stream]), whole.x)
    assert len(stream.sample(9)) == 9


def test_parts_that_are_appended_are_one_file(tmp_path: Path) -> None:
    with writing_parquet(tmp_path / "train.parquet") as put:
        put(made(5))
        put(made(6, start=5))
        assert not (tmp_path / "train.parquet").exists()
    back = load(tmp_path)
    assert torch.equal(back.x, torch.cat([made(5).x, made(6, start=5).x]))


def test_colour_is_decided_by_the_first_images(tmp_path: Path) -> None:
    for name, channels in (("grey-last", (3, 1)), ("grey-first", (1, 3))):
        for part, count in enumerate(channels):
            save_parquet(made(4, count), tmp_path / name / f"train-{part}.parquet")
    parts = list(Stream(tmp_path / "grey-last", rows=4))
    assert torch.equal(parts[0].x, made(4, 3).x)
    assert torch.equal(parts[1].x, made(4).x.expand(-1, 3, -1, -1))
    with pytest.raises(StackelbergError, match="the first images are grey and later ones in colour"):
        list(Stream(tmp_path / "grey-first", rows=4))


def test_bad_asks_are_named(tmp_path: Path) -> None:
    with pytest.raises(StackelbergError, match="rows must be at least 1, got 0"):
        Stream("digits", rows=0)
    with pytest.raises(StackelbergError, match="must be >= 1, got 0"):
        Stream("digits").sample(0)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StackelbergError, match="truncated or no Parquet file"):
        list(Stream(tmp_path))
