"""Ownership: the mark keeps to its radius, and the p-value is what it says, whatever the model."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackelberg import data
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.models import BlackBox
from stackelberg.poison import ownership
from stackelberg.poison.learner import accuracy, learn
from stackelberg.threat import Ball

BALL = Ball("linf", 24 / 255)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train")


@pytest.fixture(scope="module")
def probes() -> Dataset:
    return data.load("digits", "test").take(100)


@pytest.fixture(scope="module")
def marked(digits: Dataset) -> ownership.Marked:
    return ownership.mark(digits, BALL, "a secret", pairs=20, share=0.5, grain=1)


@pytest.fixture(scope="module")
def suspect(marked: ownership.Marked) -> nn.Module:
    return learn(marked.data, "mlp", 64, 12, learning_rate=0.005)


def test_the_mark_keeps_labels_radius_and_range(digits: Dataset, marked: ownership.Marked) -> None:
    change = marked.data.x.int() - digits.x.int()
    assert change.abs().max() == 24
    assert torch.equal(marked.data.y, digits.y)
    touched = change.flatten(1).any(1).nonzero()[:, 0]
    assert torch.equal(touched, marked.index)
    assert len(marked.index) == pytest.approx(len(digits), rel=0.02)  # two marks on a half of each class
    free = (digits.x >= 24) & (digits.x <= 231)
    free[[i for i in range(len(digits)) if i not in set(marked.index.tolist())]] = False
    assert (change[free].abs() == 24).all()


def test_each_image_bears_the_published_candidate_of_its_class(digits: Dataset, marked: ownership.Marked) -> None:
    key, coins = marked.key, marked.key.coins()
    change = (marked.data.x.int() - digits.x.int()).float()
    for pair in (0, 7, 13):
        own, twin = (key.pattern(pair, side) for side in (int(coins[pair]), 1 - int(coins[pair])))
        mine = change[marked.data.y == key.class_of(pair)]
        follows = (mine * own).flatten(1).sum(1) / mine.abs().sum((1, 2, 3)).clamp(min=1) / own.abs().max()
        assert (follows > 0.999).sum() in (len(mine) // 2, round(0.5 * len(mine)))
        assert ((mine * twin).flatten(1).sum(1) / mine.abs().sum((1, 2, 3)).clamp(min=1) < 0.05 * 25).all()


def test_the_patterns_and_coins_are_fair_and_belong_to_the_secret() -> None:
    coins = torch.cat([ownership.Key(str(s), 8, 50, 0.1, 1, (3, 32, 32), 10).coins() for s in range(40)]).float()
    assert abs(float(coins.mean()) - 0.5) < 4 * 0.5 / 2000**0.5
    one, other = (ownership.Key(s, 8, 20, 0.1, 1, (3, 32, 32), 10) for s in ("a", "b"))
    assert abs(float(one.pattern(0, 0).mean())) < 4 * 8 / 255 / 3072**0.5
    assert not torch.equal(one.pattern(0, 0), other.pattern(0, 0))
    assert not torch.equal(one.pattern(0, 0), one.pattern(0, 1))
    assert torch.equal(one.pattern(3, 1), ownership.Key("a", 8, 20, 0.1, 1, (3, 32, 32), 10).pattern(3, 1))
    assert one.commitment != other.commitment
    coarse = ownership.Key("a", 8, 20, 0.1, 4, (1, 28, 28), 10).pattern(0, 0)
    assert torch.equal(coarse[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2), coarse)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_exact_p_value_is_the_enumeration(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(5):
        d = rng.normal(0.3, 1, count)
        sums = [float(np.dot(s, np.abs(d))) for s in product((-1, 1), repeat=count)]
        assert ownership.sign_flip_p(d) == np.mean([total >= d.sum() - 1e-9 for total in sums])
    assert ownership.sign_flip_p(np.ones(count)) == 2.0**-count
    assert ownership.sign_flip_p(np.zeros(count)) == 1


def test_no_model_that_cannot_know_the_coins_gets_small_p_values_too_often(probes: Dataset) -> None:
    class Strange(nn.Module):
        """Answers as far from the law of a trained network as one likes: heavy tails, classes apart."""

        def forward(self, x: Tensor) -> Tensor:
            bits = (x * 255).round()
            return torch.stack([((bits * (k + 1)).sum((1, 2, 3)) % 17) ** 3 / 50 for k in range(10)], 1)

    p = [
        ownership.test(Strange(), ownership.Key(f"key {s}", 24, 10, 0.1, 1, (1, 8, 8), 10), probes.take(10)).p
        for s in range(120)
    ]
    for level in (0.05, 0.2, 0.5):  # P(p <= level) <= level; 4 standard deviations of the count
        assert np.mean([one <= level for one in p]) <= level + 4 * (level * (1 - level) / 120) ** 0.5
    assert np.mean(p) == pytest.approx(0.5, abs=4 * 0.29 / 120**0.5)


def test_a_network_trained_on_the_marks_is_found_and_a_clean_one_is_not(
    digits: Dataset, probes: Dataset, marked: ownership.Marked, suspect: nn.Module
) -> None:
    clean = learn(digits, "mlp", 64, 12, seed=5, learning_rate=0.005)
    reference = learn(digits, "mlp", 64, 12, seed=6, learning_rate=0.005)
    assert ownership.test(suspect, marked.key, probes).p < 1e-3
    assert ownership.test(suspect, marked.key, probes, reference).p < 1e-3
    assert ownership.test(clean, marked.key, probes, reference).p > 0.01
    assert accuracy(suspect, probes).value > accuracy(clean, probes).value - 0.08


def test_logits_probabilities_and_labels_are_all_enough(
    probes: Dataset, marked: ownership.Marked, suspect: nn.Module
) -> None:
    by_logits = ownership.test(suspect, marked.key, probes)
    by_shares = ownership.test(lambda x: suspect(x).softmax(1), marked.key, probes)
    by_labels = ownership.test(BlackBox(lambda x: suspect(x).argmax(1), 10, labels=True), marked.key, probes)
    assert by_shares.statistic == pytest.approx(by_logits.statistic, rel=0.05)  # tiny shares are cut at 1e-12
    assert (by_logits.scores, by_labels.scores) == (True, False)
    assert by_labels.p < 0.05


def test_the_key_is_kept_apart_from_the_data(marked: ownership.Marked, tmp_path: Path) -> None:
    marked.save(tmp_path / "published")
    assert [path.name for path in (tmp_path / "published").iterdir()] == ["train.parquet"]
    again = ownership.Key.load(tmp_path / "published.key.json")
    assert again == marked.key
    assert again.commitment == marked.key.commitment
    assert torch.equal(data.load(tmp_path / "published", "train").x, marked.data.x)
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(StackelbergError, match=r"none.json is no stackelberg.key/1"):
        ownership.Key.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"key": ""}, "the key is empty"),
        ({"ball": Ball("linf", 0)}, "radius 0 is below one grey level"),
        ({"pairs": 0}, "pairs and grain must be at least 1, got 0"),
        ({"share": 0.6}, r"must lie in \(0, 0.5\] with 20 pairs and 10 classes, got 0.6"),
        ({"share": 0.001}, "marks none of the"),
    ],
)
def test_marks_that_cannot_be_made(digits: Dataset, changes: dict, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        ownership.mark(digits, **{"ball": BALL, "key": "k"} | changes)


def test_one_class_and_foreign_probes(digits: Dataset, marked: ownership.Marked, suspect: nn.Module) -> None:
    with pytest.raises(StackelbergError, match="one class only"):
        ownership.mark(digits.take(digits.y == 1), BALL, "k")
    other = Dataset(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), ["a", "b"], "other")
    with pytest.raises(StackelbergError, match="the key is for images of shape"):
        ownership.test(suspect, marked.key, other)
