"""Detection: planted poison is found, clean data are let alone as far as is claimed."""

import pytest
import torch
from torch import nn

from stackelberg import data
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison import activation_clustering, backdoor, spectral_signatures, trigger_inversion
from stackelberg.poison.backdoors import Backdoored
from stackelberg.poison.learner import features, learn


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train")


@pytest.fixture(scope="module")
def made(digits: Dataset) -> Backdoored:
    return backdoor(digits, method="badnets", target=3, rate=0.03, size=2)


@pytest.fixture(scope="module")
def planted(digits: Dataset) -> Backdoored:
    """Poison that is seen in the pixels: a patch of five pixels a side."""
    return backdoor(digits, method="badnets", target=3, rate=0.03, size=5)


@pytest.fixture(scope="module")
def pixels() -> nn.Module:
    """A network whose features are the pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.fixture(scope="module")
def victim(made: Backdoored) -> nn.Module:
    return learn(made.data, "mlp", 32, 15, learning_rate=0.01)


@pytest.fixture(scope="module")
def control(digits: Dataset) -> nn.Module:
    return learn(digits, "mlp", 32, 15, learning_rate=0.01)


def test_the_features_are_what_the_last_layer_reads(digits: Dataset, control: nn.Module) -> None:
    x, _ = digits.batch(range(7))
    last = [part for part in control.modules() if isinstance(part, nn.Linear)][-1]
    torch.testing.assert_close(last(features(control, x)), control(x))


def test_spectral_signatures_flag_the_stated_share_and_find_the_poison(
    digits: Dataset, planted: Backdoored, pixels: nn.Module
) -> None:
    share = len(planted.index) / int((planted.data.y == 3).sum())
    found, false = spectral_signatures(pixels, planted.data, share).rates(planted.index)
    assert found.value > 0.9
    assert false.value < 0.4
    quiet = spectral_signatures(pixels, digits, 0.05)
    assert quiet.share.value == pytest.approx(0.075, abs=0.005)  # by construction
    for label in range(10):
        own = digits.y == label
        assert quiet.score[own & quiet.flagged].min() >= quiet.score[own & ~quiet.flagged].max()
    assert spectral_signatures(pixels, digits, None).share.value < 0.15


def test_the_spectral_score_is_the_largest_direction_s(digits: Dataset, control: nn.Module) -> None:
    found = spectral_signatures(control, digits, 0.05)
    own = digits.y == 4
    x, _ = digits.batch(own.nonzero()[:, 0])
    phi = features(control, x).detach()
    covariance = (phi - phi.mean(0)).T @ (phi - phi.mean(0))
    assert float(found.score[own].sum()) == pytest.approx(float(torch.linalg.eigvalsh(covariance)[-1]), rel=1e-3)


def test_clusters_of_a_poisoned_class(digits: Dataset, planted: Backdoored, pixels: nn.Module) -> None:
    suspects = activation_clustering(pixels, planted.data, silhouette=0.37)
    found, false = suspects.rates(planted.index)
    assert found.value > 0.9
    assert false.value < 0.05
    assert suspects.classes == (3,)
    others = torch.tensor([k for k in range(10) if k != 3])
    assert suspects.evidence[3] > 0.37 > suspects.evidence[others].max()
    assert activation_clustering(pixels, digits, silhouette=0.37).share.hits == 0


def test_the_inverted_patch_is_smallest_for_the_backdoor(
    made: Backdoored, victim: nn.Module, control: nn.Module
) -> None:
    test = data.load("digits", "test")
    found = trigger_inversion(victim, test, steps=120)
    assert int(found.norm.argmin()) == 3
    assert found.success[3] > 0.9
    distance = float((found.norm - found.norm.median()).abs().median())
    assert float(found.anomaly[3]) == pytest.approx(float(found.norm.median() - found.norm[3]) / (1.4826 * distance))
    assert found.classes == tuple(k for k in range(10) if found.anomaly[k] > 2 and found.success[k] > 0.5)
    x, _ = test.batch((test.y != 3).nonzero()[:, 0])
    again = victim(found.stamp(3)(x)).argmax(1) == 3
    assert float(again.float().mean()) == pytest.approx(float(found.success[3]))
    assert 3 not in trigger_inversion(control, test, steps=120).classes


def test_what_cannot_be_looked_at(digits: Dataset, control: nn.Module) -> None:
    with pytest.raises(StackelbergError, match=r"share of a class must lie in \(0, 0.5\), got 0.5"):
        spectral_signatures(control, digits, 0.5)
    with pytest.raises(StackelbergError, match="silhouette must lie in"):
        activation_clustering(control, digits, silhouette=2.0)
    with pytest.raises(StackelbergError, match="one class only"):
        spectral_signatures(control, digits.take(digits.y == 1))
    with pytest.raises(StackelbergError, match="no linear layer"):
        spectral_signatures(nn.Flatten(), digits)
    few = digits.take(digits.y < 2)
    two = Dataset(few.x, few.y, ["0", "1"], "two")
    with pytest.raises(StackelbergError, match="at least 3"):
        trigger_inversion(control, two)
    suspects = spectral_signatures(control, digits)
    with pytest.raises(StackelbergError, match="examples of both kinds"):
        suspects.rates(torch.tensor([], dtype=torch.long))
