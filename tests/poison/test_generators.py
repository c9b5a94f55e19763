"""The poisoners that are networks: the solver of GUE, the look-ahead of DeepConfuse, and their files."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import stackelberg as sb
from stackelberg import data
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.models import AutoEncoder, UNet, build
from stackelberg.poison import Generator
from stackelberg.poison.deepconfuse import DeepConfuse
from stackelberg.poison.generator import shifted
from stackelberg.poison.grid import Grid
from stackelberg.poison.gue import GUE, _Table, confusion
from stackelberg.poison.poisoner import Setting
from stackelberg.threat import Ball

BALL = Ball("linf", 0.2)
SMALL: dict[str, Any] = {"width": 4, "network_width": 4, "batch_size": 32}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train").take(128)


@pytest.fixture(scope="module")
def setting(digits: Dataset) -> Setting:
    return Setting(digits, BALL, 0, torch.device("cpu"), lambda words: None)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_confusion_is_the_largest_wrong_loss_and_bounded_below(classes: int) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(200, classes, generator=draw)
    y = torch.randint(0, classes, (200,), generator=draw)
    wrong = [F.cross_entropy(logits, torch.full_like(y, k), reduction="none") for k in range(classes)]
    by_hand = torch.stack(wrong, 1).scatter(1, y[:, None], -torch.inf).amax(1)
    torch.testing.assert_close(confusion(logits, y), by_hand)
    assert (confusion(logits, y) >= math.log(classes - 1) - 1e-6).all()
    best = torch.zeros(classes).index_fill(0, torch.tensor([0]), -60.0)[None]
    assert float(confusion(best, torch.tensor([0]))) == pytest.approx(math.log(classes - 1), abs=1e-6)


def test_the_weight_is_the_dynamic_barriers(setting: Setting) -> None:
    """<grad q, direction> = max(eta |grad q|^2, <grad f, grad q>): q falls by at least its share."""
    table = _Table.laid(GUE(**SMALL), setting)
    draw = torch.Generator().manual_seed(0)
    for pull in (-5.0, 0.0, 5.0):
        q, q_a = torch.randn(20, generator=draw), torch.randn(7, generator=draw)
        f = pull * q + torch.randn(20, generator=draw)
        weight = table._weight([f], [q], [q_a])
        steep = float(q @ q + q_a @ q_a)
        along = float(q @ (f + weight * q)) + weight * float(q_a @ q_a)
        assert along == pytest.approx(max(1.5 * steep, float(f @ q)), rel=1e-4)


def test_a_move_of_the_game_descends_as_bome_says(setting: Setting) -> None:
    """With sgd the follower's step is -rate (grad f + weight grad q), recomputed here from its definition."""
    rules = GUE(**SMALL, optimizer="sgd", leader_rate=0.1, rate=0.01, inner=2, eta=50.0)
    table = _Table.laid(rules, setting)
    before = copy.deepcopy(table.follower)
    field = [p.detach().clone() for p in table.generator.parameters()]
    index = torch.arange(32)
    *_, weight = table.move(index, 0).tolist()
    x, y = setting.train.batch(index)
    fresh = _Table.laid(rules, setting)
    poisoned = fresh.poisoned(x, y).detach()
    paid = confusion(before(x), y).mean() + weight * F.cross_entropy(before(poisoned), y)
    slopes = torch.autograd.grad(paid, list(before.parameters()))
    for old, slope, new in zip(before.parameters(), slopes, table.follower.parameters(), strict=True):
        torch.testing.assert_close(new, old - 0.01 * slope, atol=2e-6, rtol=1e-3)
    assert any(not torch.equal(p, q) for p, q in zip(field, table.generator.parameters(), strict=True))


def test_warming_up_lowers_the_followers_loss_on_the_poison(setting: Setting) -> None:
    said: list[str] = []
    loud = Setting(setting.train, BALL, 0, torch.device("cpu"), said.append)
    GUE(**SMALL, warm=12, epochs=1, inner=2, rate=0.005)(loud)
    first, last = (float(said[place].split("poisoned loss ")[1].split(",")[0]) for place in (0, 11))
    assert last < first - 0.2


def test_against_adversarial_learners_the_loss_is_trades(setting: Setting) -> None:
    table = _Table.laid(GUE(**SMALL, payoff="trades", steps=2), setting)
    x, y = setting.train.batch(torch.arange(16))
    plain = _Table.laid(GUE(**SMALL), setting)
    keys = torch.arange(16)
    with torch.no_grad():
        assert float(table.paid(table.follower, x, y, keys)) >= float(plain.paid(plain.follower, x, y, keys))
    assert torch.isfinite(table.move(torch.arange(32), 0)).all()


def test_the_look_ahead_has_the_slope_of_finite_differences(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rounding, in float64, along a random direction of the generator's parameters."""
    monkeypatch.setattr(Grid, "straight", lambda self, moved, x: moved)
    rules = DeepConfuse(**SMALL, look_ahead=0.5)
    torch.manual_seed(0)
    generator = UNet((1, 8, 8), 4, 10).double().train()
    victim = build("small-cnn", 10, (1, 8, 8), 4, seed=1).double()
    theta = {name: value.detach().clone() for name, value in victim.named_parameters()}
    x, y = setting.train.batch(torch.arange(16))
    batch = (x.double(), y, torch.arange(16))
    clean, label = setting.train.batch(torch.arange(16, 32))
    other = (clean.double(), label, torch.arange(16, 32))

    def loss() -> torch.Tensor:
        return rules._look_ahead(setting, generator, victim, dict(theta), batch, other, None)

    parameters = list(generator.parameters())
    slopes = torch.autograd.grad(loss(), parameters)
    direction = [torch.randn_like(p) for p in parameters]
    along = sum(float((slope * way).sum()) for slope, way in zip(slopes, direction, strict=True))
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, way in zip(parameters, direction, strict=True):
                p += sign * 1e-6 * way
        values.append(float(loss().detach()))
        with torch.no_grad():
            for p, way in zip(parameters, direction, strict=True):
                p -= sign * 1e-6 * way
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(along, rel=1e-3)
    assert abs(along) > 1e-6


PUBLISHED: dict[str, Any] = {
    "width": 4, "labels": False, "narrow": True, "network": "lenet-bn", "network_width": 4, "warm": 0, "steps": 4,
    "optimizer": "sgd", "rate": 0.01, "look_ahead": 0.01, "average": 0.7, "shift": 0,
}  # fmt: skip


def published(**changes: Any) -> DeepConfuse:
    """The published form, some of its fields changed."""
    settings: dict[str, Any] = {**PUBLISHED, **changes}
    return DeepConfuse(**settings)


def test_a_killed_training_ends_with_the_same_bits(setting: Setting, tmp_path: Path) -> None:
    """Two of three trials, then the third in another call; another setting begins anew."""
    keep = tmp_path / "state.safetensors"
    whole = published(trials=3)(setting)
    assert PUBLISHED["average"] > 0

    class Killed(Exception):
        pass

    def say(words: str) -> None:
        if "trial 2 of 3" in words:
            raise Killed

    with pytest.raises(Killed):
        published(trials=3, keep=keep)(replace(setting, say=say))
    said: list[str] = []
    resumed = published(trials=3, keep=keep)(replace(setting, say=said.append))
    assert len(said) == 1
    images, labels = setting.train.x, setting.train.y
    assert torch.equal(resumed(images, labels), whole(images, labels))
    published(trials=3, keep=keep, rate=0.02)(replace(setting, say=said.append))
    assert len(said) == 4
    keep.write_bytes(b"nothing of the kind")
    with pytest.raises(StackelbergError, match="is no state of DeepConfuse"):
        published(keep=keep)(setting)


def test_an_auto_encoder_is_saved_as_one_and_sees_the_image_alone(setting: Setting, tmp_path: Path) -> None:
    made = published(trials=1, falling=True)(setting)
    made.save(tmp_path / "generator.safetensors")
    images, labels = setting.train.x, setting.train.y
    again = Generator.load(tmp_path / "generator.safetensors")
    assert torch.equal(again(images, (labels + 1) % 10), made(images, labels))
    assert not torch.equal(made(images, labels), images)
    with pytest.raises(StackelbergError, match="sees the image alone"):
        DeepConfuse(narrow=True)
    with pytest.raises(StackelbergError, match="unknown optimizer 'lbfgs'"):
        DeepConfuse(optimizer="lbfgs")


def test_the_mean_is_a_geometric_mean_of_weights(setting: Setting) -> None:
    """Of one step: share times the new weights, the rest the first; of average 0: the new ones."""
    first = published(steps=1)._leader(setting)[0].state_dict()
    last = published(steps=1, average=0.0, trials=1)(setting).network.state_dict()
    mean = published(steps=1, trials=1)(setting).network.state_dict()
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.7 * first[name] + 0.3 * last[name])
    with pytest.raises(StackelbergError, match=r"must lie in \[0, 1\), got 1"):
        DeepConfuse(average=1.0)


def test_the_follower_learns_from_the_poison_of_the_generator_before_the_trial(setting: Setting) -> None:
    """Plain gradient steps, made by hand on the recorded weights."""
    rules = published(trials=1)
    generator = AutoEncoder((1, 8, 8), 4).eval()
    victim = build("lenet-bn", 10, (1, 8, 8), 4, seed=1)
    copy_of = copy.deepcopy(victim).train()
    path = [theta for theta, _ in rules._trajectory(setting, generator, victim, 0, None)]
    x, y, _ = rules._batch(setting, 0, 0)
    moved = setting.grid.straight(shifted(generator, setting.ball, x, y), x)
    F.cross_entropy(copy_of(moved), y).backward()
    for name, parameter in copy_of.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(path[1][name], path[0][name] - 0.01 * parameter.grad)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 5, 9)])
def test_the_auto_encoders_field_has_the_images_shape(shape: tuple[int, int, int]) -> None:
    field = AutoEncoder(shape, 4)(torch.rand(3, *shape))
    assert field.shape == (3, *shape)
    assert field.abs().max() <= 1
    with pytest.raises(StackelbergError, match="at least 4x4"):
        AutoEncoder((1, 3, 9))


@pytest.mark.parametrize("ball", [BALL, Ball("l2", 0.7), Ball("l1", 3.0)], ids=str)
def test_the_field_stays_in_the_ball_before_rounding(ball: Ball, setting: Setting) -> None:
    x, y = setting.train.batch(torch.arange(16))
    with torch.no_grad():
        assert ball.contains(shifted(UNet((1, 8, 8), 4, 10).eval(), ball, x, y), x).all()


def test_a_saved_generator_protects_the_same_way(digits: Dataset, tmp_path: Path) -> None:
    made = sb.poison.availability(digits, BALL, "gue", device="cpu", **SMALL, warm=1, epochs=1, inner=1)
    made.generator.save(tmp_path / "generator.safetensors")
    back = Generator.load(tmp_path / "generator.safetensors")
    assert torch.equal(back(digits.x, digits.y), made.x)
    assert (back.ball, back.classes, back.method) == (BALL, 10, "gue")
    new = data.load("digits", "test").take(5)
    assert BALL.contains(back(new.x, new.y).double() / 255, new.x.double() / 255).all()
    with pytest.raises(StackelbergError, match=r"made for images \[1, 8, 8\], got \[1, 6, 8\]"):
        back(new.x[:, :, :6], new.y)


def test_what_is_no_generator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackelbergError, match="there is no generator"):
        Generator.load(tmp_path / "none.safetensors")
    (tmp_path / "wrong.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(StackelbergError, match=r"is no stackelberg.generator/1 file"):
        Generator.load(tmp_path / "wrong.safetensors")


def test_a_network_that_sees_no_labels_makes_the_same_move_for_all(digits: Dataset) -> None:
    made = sb.poison.availability(digits, BALL, "gue", device="cpu", **SMALL, labels=False, warm=1, epochs=1, inner=1)
    assert torch.equal(made.generator(digits.x, (digits.y + 1) % 10), made.x)
    with_labels = sb.poison.availability(digits, BALL, "gue", device="cpu", **SMALL, warm=1, epochs=1, inner=1)
    assert not torch.equal(with_labels.generator(digits.x, (digits.y + 1) % 10), with_labels.x)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"payoff": "hinge"}, "unknown payoff 'hinge'"),
        ({"optimizer": "lbfgs"}, "unknown optimizer 'lbfgs'"),
        ({"inner": 0}, "epochs, batch_size and inner must be at least 1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        GUE(**settings)
