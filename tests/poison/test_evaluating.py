"""Does it hold: the trainings, the counter-measures, the controls; and what is refused or kept."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stackelberg as sb
from stackelberg import data, models
from stackelberg.attacks import Oracle
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.games import Play
from stackelberg.poison import COUNTERS, Evaluation, Trial, countermeasure
from stackelberg.poison.countermeasures import Cutout, Mixup, grey, jpeg, usual
from stackelberg.threat import Ball, clopper_pearson
from stackelberg.threat.payoff import cross_entropy

QUICK: dict[str, Any] = {
    "models": ("mlp",), "counters": (), "shares": (1.0,), "width": 16, "epochs": 2, "device": "cpu", "batch_size": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def sets() -> tuple[Dataset, Dataset, Dataset]:
    """(poisoned, clean, test): the labels told by one bright pixel each, which clean images lack."""
    clean = data.load("digits", "train").take(300)
    x = clean.x.clone()
    x[torch.arange(300), 0, 0, clean.y % 8] = 255
    x[torch.arange(300), 0, 7, clean.y // 8] = 255
    return replace(clean, x=x), clean, data.load("digits", "test").take(100)


def trial(data_name: str, counter: str, hits: int, seed: int = 0, share: float = 1.0, model: str = "mlp") -> Trial:
    confusion = [[hits, 100 - hits], [0, 0]]
    return Trial(data_name, share, model, counter, seed, clopper_pearson(hits, 100), 1.0, 0.1, confusion)


def test_every_cell_is_trained_once(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    found = sb.poison.evaluate(*sets, **{**QUICK, "counters": ("crop-flip",), "shares": (0.5, 1.0)}, seeds=(0, 1))
    cells = [(t.data, t.share, t.counter, t.seed) for t in found.trials]
    wanted = [
        (kind, share, counter, seed)
        for seed in (0, 1)
        for counter in ("none", "crop-flip")
        for kind, share in (("clean", 0.0), ("noise", 1.0), ("poisoned", 1.0))
    ]
    assert sorted(cells) == sorted(wanted + [("poisoned", 0.5, "none", seed) for seed in (0, 1)])
    assert all(t.test.n == 100 and sum(map(sum, t.confusion)) == 100 for t in found.trials)
    assert all(sum(t.shifted()) == pytest.approx(1) and t.shifted()[0] == t.test.value for t in found.trials)


def test_a_stopped_evaluation_goes_on(
    sets: tuple[Dataset, Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackelberg.poison import evaluating

    trained = evaluating.solve
    count = 0

    def failing(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return trained(*arguments, **more)

    monkeypatch.setattr(evaluating, "solve", failing)
    with pytest.raises(KeyboardInterrupt):
        sb.poison.evaluate(*sets, **QUICK, out=tmp_path)
    found = sb.poison.evaluate(*sets, **QUICK, out=tmp_path)
    assert count == 4  # two before, one that was stopped, and that one again
    whole = sb.poison.evaluate(*sets, **QUICK)
    assert [t.confusion for t in found.trials] == [t.confusion for t in whole.trials]
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "evaluation.png"}
    assert Evaluation.from_json(tmp_path / "evaluation.json").trials == found.trials
    with pytest.raises(StackelbergError, match=r"another epochs \(2, now 3\)"):
        sb.poison.evaluate(*sets, **{**QUICK, "epochs": 3}, out=tmp_path)
    poisoned, clean, test = sets
    other = poisoned.x.clone()
    other[:, 0, 4, 4] = 255
    with pytest.raises(StackelbergError, match="another content"):  # though all names and sizes are the same
        sb.poison.evaluate(replace(poisoned, x=other), clean, test, **QUICK, out=tmp_path)


def test_what_undoes_it_is_a_share_of_what_was_lost() -> None:
    trials = (
        trial("clean", "none", 80, share=0.0), trial("poisoned", "none", 20), trial("poisoned", "jpeg", 65),
        trial("poisoned", "jpeg", 55, seed=1), trial("poisoned", "mixup", 26),
    )  # fmt: skip
    found = Evaluation({}, trials)
    assert found.undone() == {"mlp": {"jpeg": pytest.approx(2 / 3), "mixup": pytest.approx(0.1)}}
    assert "mlp: undone by jpeg (67 %); holds against mixup (10 %)" in found.words()
    assert found.accuracy("poisoned", "mlp", "jpeg") == pytest.approx(0.6)
    with pytest.raises(StackelbergError, match="no training with data=noise"):
        found.accuracy("noise", "mlp")
    harmless = Evaluation({}, (trial("clean", "none", 80, share=0.0), trial("poisoned", "none", 79)))
    assert harmless.undone() == {}


def test_cutout_blackens_a_square_and_nothing_else() -> None:
    x = 0.25 + torch.rand(50, 3, 12, 12) / 2
    moved = Cutout().answer(Play(Oracle(torch.nn.Flatten())), x, torch.zeros(50, dtype=torch.int64))
    assert torch.equal(moved[moved != 0], x[moved != 0])
    hidden = (moved == 0).all(1)
    assert torch.equal(hidden, (moved == 0).any(1))
    counts = hidden.flatten(1).sum(1)
    assert int(counts.max()) <= 36
    assert int(counts.min()) >= 9
    assert hidden.any(0).float().mean() > 0.9  # the squares lie everywhere


def test_mixup_pays_for_both_labels_by_their_shares() -> None:
    network = models.build("mlp", 3, (1, 4, 4), 8, seed=0)
    x, y = torch.rand(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    game, play = Mixup(), Play(Oracle(network), torch.arange(6))
    share, moved = game.share(play, x), game.answer(play, x, y)
    for index in range(6):
        by_hand = share[index] * x[index] + (1 - share[index]) * x[index - 1]
        torch.testing.assert_close(moved[index], by_hand)
    paid = game.pay(play, network, x, y, moved)
    both = [cross_entropy(network(moved), labels) for labels in (y, y[torch.arange(6) - 1])]
    torch.testing.assert_close(paid, share * both[0] + (1 - share) * both[1])
    assert ((share > 0) & (share < 1)).all()


def test_grey_is_the_luma_that_pillow_computes() -> None:
    x = torch.randint(0, 256, (5, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for before, after in zip(x, grey(x), strict=True):
        by_pillow = np.asarray(Image.fromarray(before.permute(1, 2, 0).numpy()).convert("L")).astype(int)
        assert np.abs(by_pillow - after[0].numpy().astype(int)).max() <= 1
        assert torch.equal(after[0], after[1])
    assert torch.equal(grey(x[:, :1]), x[:, :1])


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_one_round_trip(channels: int) -> None:
    x = torch.randint(0, 256, (2, channels, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    buffer = io.BytesIO()
    array = x[1, 0].numpy() if channels == 1 else x[1].permute(1, 2, 0).numpy()
    Image.fromarray(array).save(buffer, "JPEG", quality=10)
    back = np.asarray(Image.open(buffer))
    back = back[None] if channels == 1 else back.transpose(2, 0, 1)
    assert np.array_equal(jpeg(x)[1].numpy(), back)


def test_the_usual_counter_measures_suit_the_images() -> None:
    assert set(COUNTERS) < set(usual(True, 8 / 255))
    assert "grayscale" not in usual(False, 0.3)
    radii = [countermeasure(name, True).game.threat for name in usual(True, 0.04) if name.startswith("at:")]
    assert [ball.radius for ball in radii if ball] == pytest.approx([0.01, 0.02, 0.04])
    assert countermeasure("crop-flip", False).recipe == {"augment": 2, "flip": False}


@pytest.mark.parametrize(
    ("name", "colour", "sentence"),
    [
        ("jpg", True, "unknown counter-measure 'jpg': did you mean 'jpeg'?"),
        ("grayscale", False, "grayscale changes nothing on grey images"),
        ("at:0", True, "needs a radius > 0, got 'at:0'"),
        ("at:x", True, "radius must be a number or a fraction"),
    ],
)
def test_a_wrong_counter_measure_is_named(name: str, colour: bool, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        countermeasure(name, colour)


def test_sets_that_do_not_belong_together_are_refused(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    poisoned, clean, test = sets
    y = clean.y.clone()
    y[7] = (y[7] + 1) % 10
    with pytest.raises(StackelbergError, match=f"the label of example 7 is {int(y[7])} in"):
        sb.poison.evaluate(replace(poisoned, y=y), clean, test, **QUICK)
    with pytest.raises(StackelbergError, match="must hold the same images before and after"):
        sb.poison.evaluate(poisoned.take(299), clean, test, **QUICK)
    with pytest.raises(StackelbergError, match="are the same images: nothing was poisoned"):
        sb.poison.evaluate(clean, clean, test, **QUICK)
    with pytest.raises(StackelbergError, match=r"a share must lie in \(0, 1\], got 0.0"):
        sb.poison.evaluate(poisoned, clean, test, **{**QUICK, "shares": (0.0,)})
    with pytest.raises(StackelbergError, match="do not fit"):
        sb.poison.evaluate(poisoned, clean, replace(test, x=test.x[:, :, :6]), **QUICK)
    with pytest.raises(StackelbergError, match="unknown model 'mpl'"):
        sb.poison.evaluate(poisoned, clean, test, **{**QUICK, "models": ("mpl",)})


def test_noise_is_of_the_poisons_own_radius(sets: tuple[Dataset, Dataset, Dataset]) -> None:
    from stackelberg.poison.evaluating import _Workshop

    _, clean, test = sets
    moved = Ball("linf", 0.1)
    poisoned = sb.poison.availability(clean, moved, "noise", device="cpu")
    noise = _Workshop(poisoned, clean, test, 25 / 255, None, 1, "cpu", {}).examples("noise", 1.0, 0)
    assert moved.contains(noise.x.double() / 255, clean.x.double() / 255).all()
    half = _Workshop(poisoned, clean, test, 25 / 255, None, 1, "cpu", {}).examples("poisoned", 0.5, 0)
    changed = (half.x != clean.x).flatten(1).any(1)
    assert int(changed.sum()) == 150
    assert torch.equal(half.x[changed], poisoned.x[changed])
