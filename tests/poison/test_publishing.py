"""To disk and back: in parts, as Parquet or folders, nothing half-written."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import stackelberg as sb
from stackelberg import data
from stackelberg.data import Dataset, Stream, save_parquet
from stackelberg.errors import StackelbergError
from stackelberg.poison import Generator, publish
from stackelberg.threat import Ball

BALL = Ball("linf", 0.1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train").take(120)


def test_in_parts_is_the_same_as_at_once(digits: Dataset, tmp_path: Path) -> None:
    save_parquet(digits, tmp_path / "big.parquet")
    rule = sb.poison.poisoner(digits, BALL, "lsp", device="cpu")
    most = 0

    def parts() -> Iterator[Dataset]:
        nonlocal most
        for part in Stream(tmp_path / "big.parquet", rows=25):
            most = max(most, len(part))
            yield part

    seen: list[int] = []
    moves = publish(rule, parts(), tmp_path / "out", progress=seen.append, about={"method": "lsp"})
    back = data.load(tmp_path / "out")
    assert torch.equal(back.x, rule.poisoned(digits).x)
    assert torch.equal(back.y, digits.y)
    assert back.classes == digits.classes
    assert most == 25
    assert seen == [25, 50, 75, 100, 120]
    record = json.loads((tmp_path / "out" / "poison.json").read_text())
    assert record["moves"] == moves.describe()
    assert (record["method"], record["moves"]["outside"], record["moves"]["n"]) == ("lsp", 0, 120)


def test_folders_hold_the_same_images(digits: Dataset, tmp_path: Path) -> None:
    rule = sb.poison.poisoner(digits, BALL, "noise", device="cpu")
    publish(rule, [digits.take(50), digits.take(range(50, 120))], tmp_path / "out", form="folder")
    back, wanted = data.load(tmp_path / "out"), rule.poisoned(digits)
    assert back.classes == digits.classes
    for label in range(10):
        assert torch.equal(back.x[back.y == label], wanted.x[wanted.y == label])


def test_a_generator_lies_beside_what_it_moved(digits: Dataset, tmp_path: Path) -> None:
    rule = sb.poison.poisoner(digits, BALL, "gue", device="cpu", width=4, network_width=4, warm=1, epochs=1, inner=1)
    publish(rule, [digits], tmp_path)
    again = Generator.load(tmp_path / "generator.safetensors")
    assert torch.equal(again.poisoned(digits).x, data.load(tmp_path).x)


def test_what_was_there_is_left_alone(digits: Dataset, tmp_path: Path) -> None:
    rule = sb.poison.poisoner(digits, BALL, "noise", device="cpu")
    with pytest.raises(StackelbergError, match=r"unknown form of a data set 'parket': did you mean 'parquet'\?"):
        publish(rule, [digits], tmp_path, form="parket")
    with pytest.raises(StackelbergError, match="holds no image"):
        publish(rule, [], tmp_path / "empty")

    def broken() -> Iterator[Dataset]:
        yield digits
        raise StackelbergError("the disk of the source is gone")

    with pytest.raises(StackelbergError, match="the disk of the source is gone"):
        publish(rule, broken(), tmp_path / "half")
    assert not list(tmp_path.rglob("*.parquet"))
    publish(rule, [digits], tmp_path)
    with pytest.raises(StackelbergError, match="already holds a data set"):
        publish(rule, [digits], tmp_path)


def test_a_class_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    odd = Dataset(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.arange(4) % 2, ["a/b", "c"], "odd")
    rule = sb.poison.poisoner(odd, BALL, "noise", device="cpu")
    with pytest.raises(StackelbergError, match="the class 'a/b' can be no folder's name"):
        publish(rule, [odd], tmp_path, form="folder")
