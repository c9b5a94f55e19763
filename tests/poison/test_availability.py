"""Every availability poison: same schema, inside the ball as bytes, repeatable; and each does what its name says."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

import stackelberg as sb
from stackelberg import data, games, models
from stackelberg.attacks import Oracle, untouched
from stackelberg.data import Augment, Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison import METHODS, Poisoned
from stackelberg.poison.costless import CUDA, LSP
from stackelberg.poison.poisoner import Setting, check_labels
from stackelberg.poison.pursuit import Pursuer, Pursuit, objective
from stackelberg.poison.surrogates import Friendly
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import cross_entropy

LINF = Ball("linf", 0.2)
QUICK: dict[str, dict[str, Any]] = {
    "gue": {"width": 4, "warm": 1, "epochs": 1, "network_width": 4, "inner": 2},
    "deepconfuse": {"width": 4, "trials": 1, "steps": 3, "network_width": 4, "batch_size": 16},
    **{name: {} for name in ("lsp", "cuda", "noise")},
}


def quick(method: str) -> dict[str, Any]:
    return QUICK.get(method, {"epochs": 1, "network_width": 4, "steps": 2, "last_steps": 3})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train").take(240)


@pytest.fixture(scope="module")
def reader(digits: Dataset) -> torch.nn.Module:
    """A network that reads most of these digits."""
    network = models.build("small-cnn", 10, digits.shape, 8, seed=0)
    more = {"batch_size": 16, "held_out": 20, "learning_rate": 0.005}
    games.solve(games.Standard(), network, digits, 12, device="cpu", progress=False, **more)
    return network.eval()


def asked_of(digits: Dataset, reader: torch.nn.Module, aim: Any, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss before, loss after) a pursuit, per example."""
    rule = Pursuer(LINF, 10, 0, reader, Pursuit(LINF, 10, **more), aim)
    moved = rule(digits.x, digits.y)
    with torch.no_grad():
        before, after = (reader(x.float() / 255) for x in (digits.x, moved))
    wanted = (digits.y + 1) % 10 if aim == "other" else digits.y
    return cross_entropy(before, wanted), cross_entropy(after, wanted)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_schema_labels_and_ball(method: str, digits: Dataset) -> None:
    poisoned = sb.poison.availability(digits, LINF, method, seed=3, device="cpu", **quick(method))
    assert isinstance(poisoned, Poisoned)
    assert isinstance(poisoned, Dataset)
    assert poisoned.x.dtype == torch.uint8
    assert poisoned.x.shape == digits.x.shape
    assert torch.equal(poisoned.y, digits.y)
    assert poisoned.classes == digits.classes
    assert LINF.contains(poisoned.x.double() / 255, digits.x.double() / 255).all()
    assert (poisoned.moves.outside, poisoned.moves.n) == (0, 240)
    assert 0 < poisoned.moves.levels <= 51
    again = sb.poison.availability(digits, LINF, method, seed=3, device="cpu", **quick(method))
    assert torch.equal(again.x, poisoned.x)


@pytest.mark.parametrize("ball", [Ball("l2", 1.0), Ball("l1", 8.0)], ids=str)
@pytest.mark.parametrize("method", ["gue", "max", "lsp", "noise", "cuda"])
def test_other_norms_hold_too(method: str, ball: Ball, digits: Dataset) -> None:
    poisoned = sb.poison.availability(digits.take(60), ball, method, device="cpu", **quick(method))
    assert ball.contains(poisoned.x.double() / 255, digits.take(60).x.double() / 255).all()
    assert poisoned.moves.mean_levels > 0


@pytest.mark.parametrize("method", ["lsp", "cuda", "noise"])
def test_a_rule_does_not_look_at_the_other_examples(method: str, digits: Dataset) -> None:
    rule = sb.poison.poisoner(digits, LINF, method, device="cpu")
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    assert torch.equal(rule(digits.x[order], digits.y[order]), rule(digits.x, digits.y)[order])


@pytest.mark.parametrize(("aim", "falls"), [("own", True), ("away", False), ("other", True)])
def test_a_pursuit_moves_the_loss_where_it_aims(
    aim: str, falls: bool, digits: Dataset, reader: torch.nn.Module
) -> None:
    before, after = asked_of(digits, reader, aim)
    assert ((after < before) if falls else (after > before)).float().mean() > 0.95


def test_a_robust_pursuit_leaves_less_to_an_adversary(digits: Dataset, reader: torch.nn.Module) -> None:
    rival, liked = Ball("linf", 0.1), objective("own", digits.y, 0, 0)
    x, keys = digits.batch(slice(0, None))[0], torch.arange(len(digits))
    pursuit = Pursuit(LINF, 10, rival=rival, rival_steps=5)
    with untouched(reader):
        oracle = Oracle(reader, "float32")
        moved = pursuit(oracle, x, liked, keys)
        before, after = (-liked(reader(pursuit.answered(oracle, z, liked))).mean() for z in (x, moved))
    assert after < 0.5 * before


def test_the_friendly_follower_helps_inside_its_ball(digits: Dataset, reader: torch.nn.Module) -> None:
    x, y = digits.batch(slice(0, 64))
    game = Friendly(Pursuit(LINF, 5))
    moved = game.answer(games.Play(Oracle(reader, "float32")), x, y)
    assert LINF.contains(moved, x).all()
    with torch.no_grad():
        assert game.losses(reader, x, y, moved).mean() < 0.5 * cross_entropy(reader(x), y).mean()
    assert game.threat is None


@pytest.mark.parametrize("method", ["em", "max-targeted"])
def test_noise_without_crops_does_more_to_images_as_they_are(method: str, digits: Dataset) -> None:
    coloured = replace(digits, x=digits.x.repeat(1, 3, 1, 1))
    more: dict[str, Any] = {"epochs": 12, "batch_size": 16, "network_width": 8, "steps": 3, "last_steps": 10}
    rule = sb.poison.poisoner(coloured, LINF, method, device="cpu", cropped=False, **more)
    seen = sb.poison.poisoner(coloured, LINF, method, device="cpu", **{**more, "epochs": 1})
    assert isinstance(rule, Pursuer)
    assert isinstance(seen, Pursuer)
    through = replace(rule, pursuit=seen.pursuit)  # the same network, asked as the default asks
    wanted = objective(rule.aim, coloured.y, rule.shift, 10)
    keys = torch.arange(len(coloured))
    with torch.no_grad(), untouched(rule.network):
        liked = {
            name: (wanted(rule.network(x)).mean(), wanted(rule.network(Augment(4)(x, keys))).mean())
            for name, x in (("plain", rule(coloured.x, coloured.y)), ("through", through(coloured.x, coloured.y)))
            for x in [x.float() / 255]
        }
    assert liked["plain"][0] > liked["through"][0]
    assert liked["plain"][1] < liked["through"][1]


def setting(digits: Dataset, ball: Ball = LINF) -> Setting:
    return Setting(digits, ball, 0, torch.device("cpu"), lambda words: None)


def test_patches_are_linearly_separable_in_their_centres(digits: Dataset) -> None:
    rule = LSP(patch=2, spread=0.1)(setting(digits))
    grey = torch.full_like(digits.x, 128)
    noise = (rule(grey, digits.y).double() - 128).flatten(1)
    wanted = torch.nn.functional.one_hot(digits.y, 10).double()
    fitted = torch.linalg.lstsq(noise, wanted, driver="gelsd").solution
    assert ((noise @ fitted).argmax(1) == digits.y).double().mean() > 0.95


def test_the_convolution_is_that_of_its_class(digits: Dataset) -> None:
    rule = CUDA(bounded=False)(setting(digits))
    moved = rule(digits.x, digits.y)
    for index in (0, 7, 11):
        kernel = rule.kernels[digits.y[index]].numpy()
        by_hand = correlate2d(digits.x[index, 0].numpy() / 255.0, kernel, mode="same")
        by_hand /= by_hand.max()
        assert np.abs(255 * by_hand - moved[index, 0].numpy()).max() <= 0.51
    assert not LINF.contains(moved.double() / 255, digits.x.double() / 255).all()


def test_targeted_error_maximising_teaches_the_wrong_names() -> None:
    """Classes are directions: poison of one class carries the next one's, so clean images are read one class off."""
    train, test = data.load("digits", "train").take(700), data.load("digits", "test")
    poisoned = sb.poison.availability(train, Ball("linf", 0.3), "max-targeted", device="cpu", epochs=6)
    accuracy = {}
    for name, examples in (("poisoned", poisoned), ("clean", train)):
        network = models.build("small-cnn", 10, train.shape, 8, seed=5)
        games.solve(games.Standard(), network, examples, 6, device="cpu", progress=False, batch_size=32, held_out=50)
        x, y = test.batch(slice(0, None))
        accuracy[name] = float((network(x).argmax(1) == y).float().mean())
    assert accuracy["clean"] > 0.8
    assert accuracy["poisoned"] < 0.4


def test_a_part_is_enough_to_learn_on(digits: Dataset) -> None:
    poisoned = sb.poison.availability(digits, LINF, "gue", fit=60, device="cpu", **quick("gue"))
    assert len(poisoned) == 240
    assert poisoned.moves.unmoved == 0


def test_the_poisoned_set_behaves_as_a_data_set(digits: Dataset) -> None:
    poisoned = sb.poison.availability(digits, LINF, "noise", device="cpu")
    few = poisoned.take(3)
    assert isinstance(few, Poisoned)
    assert len(few) == 3
    with pytest.raises(StackelbergError, match="the method noise trains no generator"):
        _ = poisoned.generator


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (lambda d: d, {"method": "geu"}, "unknown poisoning method 'geu': did you mean 'gue'?"),
        (lambda d: d, {"method": "em", "epoch": 3}, "unknown setting of em 'epoch': did you mean 'epochs'?"),
        (lambda d: d, {"method": "em", "epochs": "three"}, "em: epochs got .three.: input should be a valid integer"),
        (lambda d: d, {"method": "em", "epochs": 0}, "epochs, batch_size, steps and last_steps must be at least 1"),
        (lambda d: d, {"method": "noise", "fit": 1}, "fit must lie between 2 and the 240 examples, got 1"),
        (lambda d: d, {"method": "gue", "ball": Ball("l0", 3)}, "needs norm linf, l2 or l1, got 'l0'"),
        (lambda d: d, {"method": "gue", "ball": Ball("linf", 0)}, "radius 0 allows no change"),
        (lambda d: d.take((d.y == 4).nonzero()[:, 0]), {}, "has examples of 1 class only \\('4'\\)"),
        (lambda d: d, {"method": "max-targeted", "shift": 10}, "shift must not be a multiple of the 10 classes"),
    ],
)  # fmt: skip
def test_bad_input_is_named(
    digits: Dataset, change: Callable[[Dataset], Dataset], arguments: dict[str, Any], sentence: str
) -> None:
    asked = {"ball": LINF, "device": "cpu", **arguments}
    with pytest.raises(StackelbergError, match=sentence):
        sb.poison.availability(change(digits), **asked)


def test_a_rule_refuses_labels_that_do_not_fit(digits: Dataset) -> None:
    rule = sb.poison.poisoner(digits, LINF, "noise", device="cpu")
    with pytest.raises(StackelbergError, match="the label of example 1 is 10, allowed are 0 to 9"):
        rule(digits.x[:2], torch.tensor([0, 10]))
    with pytest.raises(StackelbergError, match="got 3 images and 2 labels"):
        check_labels(digits.y[:2], 3, 10)


def test_noise_belongs_to_the_example(digits: Dataset) -> None:
    rule = sb.poison.poisoner(digits, LINF, "noise", device="cpu", seed=1)
    other = sb.poison.poisoner(digits, LINF, "noise", device="cpu", seed=2)
    assert not torch.equal(rule(digits.x, digits.y), other(digits.x, digits.y))
    assert len(chance.example_keys(digits.batch(slice(0, 3))[0], 0).unique()) == 3
