"""The schedule, the defaults that suit a network, and what an unfit recipe is told."""

import pytest
import torch

from stackelberg import data, models
from stackelberg.errors import StackelbergError
from stackelberg.games import Recipe

DIGITS = data.load("digits", "train")
PLAIN = models.build("small-cnn", 10, DIGITS.shape, width=4)
NORMED = models.build("resnet18", 10, DIGITS.shape, width=4)


def test_suits_network_and_data() -> None:
    assert Recipe.suited(PLAIN, DIGITS).optimizer == "adam"
    assert Recipe.suited(NORMED, DIGITS).optimizer == "sgd"
    assert Recipe.suited(NORMED, DIGITS).augmentation() is None
    colour = data.Dataset(torch.zeros(20, 3, 32, 32, dtype=torch.uint8), torch.arange(20) % 2, ["a", "b"], "colour")
    suited = Recipe.suited(NORMED, colour)
    assert suited.augmentation() == data.Augment(pad=4, flip=True)
    assert suited.held_out == 2
    assert Recipe.suited(PLAIN, DIGITS, learning_rate=0.5).learning_rate == 0.5


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_rises_to_the_peak_and_falls_to_nothing(schedule: str) -> None:
    recipe = Recipe.suited(PLAIN, DIGITS, schedule=schedule, warmup=0.25, learning_rate=1.0)
    rates = [recipe.rate(i / 1000) for i in range(1000)]
    assert rates.index(max(rates)) == 250
    assert max(rates) == pytest.approx(1.0)
    assert rates[:250] == sorted(rates[:250])
    assert rates[250:] == sorted(rates[250:], reverse=True)
    assert 0 < rates[-1] < 2e-3


def test_steps_and_constant() -> None:
    steps = Recipe.suited(PLAIN, DIGITS, schedule="steps", learning_rate=1.0)
    assert [steps.rate(p) for p in (0.0, 0.49, 0.5, 0.75, 0.99)] == pytest.approx([1, 1, 0.1, 0.01, 0.01])
    assert Recipe.suited(PLAIN, DIGITS, schedule="constant", learning_rate=1.0).rate(0.9) == 1


def test_the_radius_warms_up() -> None:
    recipe = Recipe.suited(PLAIN, DIGITS, radius_warmup=0.5)
    assert [recipe.share(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0, 0.5, 1, 1])
    assert Recipe.suited(PLAIN, DIGITS).share(0.0) == 1


def test_weight_decay_spares_biases_and_norms() -> None:
    decayed, spared = Recipe.suited(NORMED, DIGITS, weight_decay=0.1).optimizer_for(NORMED).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert all(p.dim() > 1 for p in decayed["params"])
    assert sum(p.numel() for g in (decayed, spared) for p in g["params"]) == sum(p.numel() for p in NORMED.parameters())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 0}, r"recipe: batch_size got 0: input should be greater than or equal to 1"),
        ({"learning_rate": -1.0}, r"recipe: learning_rate got -1.0: input should be greater than 0"),
        ({"optimizer": "sdg"}, r"recipe: optimizer got 'sdg': input should be 'sgd' or 'adam'"),
        ({"learning_rat": 0.1}, r"recipe: learning_rat got 0.1: extra inputs are not permitted"),
    ],
)
def test_says_what_is_unfit(changes: dict, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        Recipe.suited(PLAIN, DIGITS, **changes)
