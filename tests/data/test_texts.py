"""Texts as bytes: there and back, and what is refused."""

import pytest
import torch

from stackelberg.data import Corruption, Dataset, decode, encode, rotated, save_parquet
from stackelberg.errors import StackelbergError


def texts() -> Dataset:
    return Dataset(encode(["ja", "nein", "oui", "non"], 5), torch.tensor([0, 0, 1, 1]), ["german", "french"], "answers")


def test_texts_come_back_as_they_went():
    words = ["a", "straße", "two words", "日本"]
    rows = encode(words, 9)
    assert rows.shape == (4, 9)
    assert rows.dtype == torch.uint8
    assert decode(rows) == words
    assert rows[0].tolist() == [97] + [0] * 8


@pytest.mark.parametrize(
    ("words", "length", "sentence"),
    [
        (["ja", ""], 4, "text 1 is empty; leave it out"),
        (["ja", "vielleicht"], 4, "text 1 has 10 bytes, allowed are 4: 'vielleicht'"),
        (["éé"], 3, "text 0 has 4 bytes, allowed are 3"),
        (["a\0b"], 4, "text 0 holds a zero byte"),
        (["a"], 0, "length must be at least 1 byte, got 0"),
    ],
)
def test_what_is_no_text_is_named(words, length, sentence):
    with pytest.raises(StackelbergError, match=sentence):
        encode(words, length)


def test_a_set_of_texts_knows_what_it_is():
    data = texts()
    assert (data.text, data.cloud, data.kind, data.shape, data.box) == (True, False, "texts", (5,), (-1.0, 1.0))
    x, y = data.batch([3, 0])
    assert decode(x) == ["non", "ja"]
    assert y.tolist() == [1, 0]


def test_what_needs_images_refuses_texts(tmp_path):
    data = texts()
    with pytest.raises(StackelbergError, match="answers holds texts, not images: it has no channels"):
        data.mean_std()
    with pytest.raises(StackelbergError, match="answers holds texts, which have no points to choose"):
        data.points(2)
    with pytest.raises(StackelbergError, match="answers holds texts, not images"):
        rotated(data, 10.0)
    with pytest.raises(StackelbergError, match="answers holds texts, a corruption needs images"):
        Corruption("gaussian-noise", 1)(data)
    with pytest.raises(StackelbergError, match="answers holds texts, a Parquet file here keeps images or points"):
        save_parquet(data, tmp_path / "train.parquet")
    assert not list(tmp_path.iterdir())
