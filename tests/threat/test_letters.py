"""Exchanged letters: what is in the set, and how many texts it has."""

from itertools import product

import pytest
import torch

from stackelberg.data import encode
from stackelberg.errors import StackelbergError
from stackelberg.threat import Letters

X = encode(["ab c", "ca"], 5)


def every(letters: Letters, length: int) -> torch.Tensor:
    """All texts over the alphabet, a blank, a space and a letter that is not in it."""
    return torch.tensor(list(product([0, 32, ord("z"), *letters.codes().tolist()], repeat=length)), dtype=torch.uint8)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_the_set_has_as_many_texts_as_it_says(count):
    letters = Letters(count, "abc")
    texts = every(letters, 5)
    for x, size in zip(X, letters.size(X), strict=True):
        assert int(letters.contains(texts, x.expand_as(texts)).sum()) == size


def test_only_letters_change_and_only_into_letters():
    letters = Letters(5, "abc")
    x = X[:1]
    for other, fair in (("bb c", True), ("ba a", True), ("ab  ", False), ("abcc", False), ("zb c", False)):
        assert bool(letters.contains(encode([other], 5), x)) == fair
    assert letters.movable(X).tolist() == [[True, True, False, True, False], [True, True, False, False, False]]


def test_distance_counts_places():
    assert Letters().distance(X, encode(["abbc", "ac"], 5)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("count", "alphabet", "sentence"),
    [
        (-1, "abc", "count must be at least 0 letters, got -1"),
        (1, "a", "alphabet must be two or more different ASCII characters, got 'a'"),
        (1, "aab", "different ASCII characters, got 'aab'"),
        (1, "aé", "different ASCII characters, got 'aé'"),
    ],
)
def test_what_is_no_threat_is_named(count, alphabet, sentence):
    with pytest.raises(StackelbergError, match=sentence):
        Letters(count, alphabet)
