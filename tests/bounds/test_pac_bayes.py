"""PAC-Bayes: the theorems on finitely many networks whose risks are known, and the bound on trained ones."""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn
from trials import fails_at_most, surely_fails_more

from stackelberg import data, models
from stackelberg.bounds import pac_bayes, rademacher, random_labels
from stackelberg.bounds.binary_kl import chernoff_upper
from stackelberg.bounds.fitting import answers, fit, fresh
from stackelberg.bounds.pac_bayes import PacBayes, kl_bound
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError

DIGITS, TEST = data.load("digits", "train"), data.load("digits", "test")


def gibbs(trials: int, n: int, heat: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(risks [H], errors seen [R, H], posterior [R, H], ln posterior / prior [R, H]) of 300 networks, equal before.

    Each is wrong with its own probability, independently: the most dependent posterior picks the luckiest.
    """
    rng = np.random.default_rng(0)
    risks = rng.uniform(0.18, 0.22, 300)
    seen = rng.binomial(n, risks, (trials, 300)) / n
    weight = -heat * n * seen
    weight = np.exp(weight - weight.max(1, keepdims=True))
    posterior = weight / weight.sum(1, keepdims=True)
    return risks, seen, posterior, np.log(np.maximum(posterior, 1e-300) * 300)


def fails(truth: np.ndarray, seen: np.ndarray, information: np.ndarray, n: int, delta: float, factor: float) -> int:
    """How often the truth is above the bound: n kl(seen || truth) > factor (information + ln(2 sqrt n / delta))."""
    s = np.clip(seen, 1e-12, 1 - 1e-12)
    apart = s * np.log(s / truth) + (1 - s) * np.log((1 - s) / (1 - truth))
    above = (truth > seen) & (n * apart > factor * (information + np.log(2 * np.sqrt(n) / delta)))
    if factor == 1:
        first = zip(truth[:60], seen[:60], information[:60], strict=True)
        assert above[:60].tolist() == [bool(t > kl_bound(float(m), float(i), n, delta)) for t, m, i in first]
    return int(above.sum())


@pytest.mark.parametrize("heat", [0.5, 3.0])
def test_the_mean_risk_of_the_posterior_is_below_the_bound(heat: float) -> None:
    n, trials, delta = 60, 4000, 0.05
    risks, seen, posterior, ratio = gibbs(trials, n, heat)
    case = posterior @ risks, (posterior * seen).sum(1), (posterior * ratio).sum(1), n, delta
    assert fails_at_most(fails(*case, factor=1.0), trials, delta)
    assert surely_fails_more(fails(*case, factor=0.1), trials, delta)


def test_the_risk_of_one_draw_is_below_the_bound() -> None:
    n, trials, delta = 60, 4000, 0.3
    risks, seen, posterior, ratio = gibbs(trials, n, 30.0)
    which = (posterior.cumsum(1) > np.random.default_rng(1).random(trials)[:, None]).argmax(1)
    rows = np.arange(trials)
    truth, own = risks[which], seen[rows, which]
    assert fails_at_most(fails(truth, own, ratio[rows, which], n, delta, 1.0), trials, delta)
    assert surely_fails_more(fails(truth, own, ratio[rows, which], n, delta, 0.1), trials, delta)
    forgotten = np.zeros(trials)  # a bound without the divergence would be seen to be wrong
    assert surely_fails_more(fails(truth, own, forgotten, n, delta, 1.0), trials, delta)


def test_the_account_of_delta() -> None:
    """The measured mean error and the theorem share delta; both must fail for the sum to."""
    rng = np.random.default_rng(2)
    draws, true, delta = 300, 0.08, 0.2
    failures = sum(
        true > chernoff_upper(float(rng.binomial(draws, true)) / draws, draws, 1 - delta / 2) for _ in range(2000)
    )
    assert fails_at_most(int(failures), 2000, delta / 2)


@pytest.fixture(scope="module")
def found() -> PacBayes:
    return pac_bayes(models.build("mlp", 10, (1, 8, 8), 24, seed=0), DIGITS, draws=300, seed=1)


def test_the_bounds_hold_on_fresh_examples_and_are_not_empty(found: PacBayes) -> None:
    test = answers(found.network, TEST).error
    assert test <= found.single.value < 0.5
    assert found.mean_error <= found.bound.value < 0.5
    assert (found.bound.kind, found.bound.confidence, found.bound.vacuous) == ("theorem", 0.95, False)
    assert found.n == len(DIGITS) - len(DIGITS) // 2


def test_the_prior_never_sees_the_other_half(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Dataset] = []
    judged: list[Dataset] = []
    few = DIGITS.take(60)

    def watched(model: nn.Module, data: Dataset, labels: torch.Tensor, *more: object, **others: object) -> None:
        seen.append(data)

    def counted(mean: nn.Module, spread: list, scale: float, data: Dataset, *more: object) -> float:
        judged.append(data)
        return 0.1

    room = import_module("stackelberg.bounds.pac_bayes")  # the name in the room above is the function
    monkeypatch.setattr(room, "fit", watched)
    monkeypatch.setattr(room, "_mean_error", counted)
    pac_bayes(models.build("mlp", 10, (1, 8, 8), 4, seed=0), few)
    prior = {tuple(x.flatten().tolist()) for x in seen[0].x}
    assert all(not prior & {tuple(x.flatten().tolist()) for x in one.x} for one in judged)
    assert len(seen[0]) + len(judged[0]) == len(few)


def test_the_given_weights_do_not_matter_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("stackelberg.bounds.pac_bayes"), "LEAST_STEPS", 50)
    model = models.build("mlp", 10, (1, 8, 8), 8, seed=0)
    other = models.build("mlp", 10, (1, 8, 8), 8, seed=5)
    before = [p.clone() for p in model.parameters()]
    few = DIGITS.take(200)
    one, two = (pac_bayes(net, few, draws=40, seed=3) for net in (model, other))
    assert one.bound == two.bound
    assert one.single == two.single
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert pac_bayes(model, few, draws=40, seed=4).mean_error != one.mean_error


def test_mnist_is_bounded_below_a_tenth(real_data: Callable[[str, str], Dataset]) -> None:
    train, test = real_data("mnist", "train"), real_data("mnist", "test")
    found = pac_bayes(models.build("mlp", 10, (1, 28, 28), 64, seed=0), train, epochs=3, draws=800)
    assert found.bound.value < 0.1
    assert found.single.value < 0.1
    assert answers(found.network, test).error <= found.single.value


def test_bad_input_is_named() -> None:
    net = models.build("mlp", 10, (1, 8, 8), 4)
    with pytest.raises(StackelbergError, match="delta"):
        pac_bayes(net, DIGITS, delta=0.0)
    with pytest.raises(StackelbergError, match="needs 4 or more examples, got 3"):
        pac_bayes(net, DIGITS.take(3))


def test_fresh_weights_know_nothing() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((3,), 7.0))
            self.layer = nn.Linear(64, 10)
            self.norm = nn.BatchNorm1d(64)
            self.norm.running_mean = torch.full((64,), 5.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.norm(x.flatten(1))) * self.scale.mean()

    one, two = Own(), Own()
    with torch.no_grad():
        two.scale.fill_(-1.0)
    a, b = fresh(one, 3), fresh(two, 3)
    assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert float(one.scale.detach()[0]) == 7.0
    assert float(a.state_dict()["norm.running_mean"].abs().max()) == 0


def test_random_labels_are_learnt_by_a_wide_network_and_not_by_a_line() -> None:
    few = DIGITS.take(80)
    wide = random_labels(models.build("mlp", 10, (1, 8, 8), 256, seed=0), few, 80, 200, rate=3e-3)
    assert wide.fitted > 0.97
    assert 0.3 < wide.complexity <= 0.5 + 0.25  # the share of coins that fell on the other side
    bound = rademacher(wide, 0.0)
    assert bound.kind == "estimate"
    assert "from below" in bound.assumptions[0]
    flat = nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(1), nn.Linear(1, 10))
    assert random_labels(flat, few, 80, 40).fitted < 0.5
    with pytest.raises(StackelbergError, match="got 1"):
        random_labels(flat, few.take(1))


def test_fit_names_a_loss_that_is_not_finite() -> None:
    layer = nn.Linear(64, 10)
    net = nn.Sequential(nn.Flatten(), layer)
    with torch.no_grad():
        layer.weight.fill_(torch.inf)
    with pytest.raises(StackelbergError, match="the loss became"):
        fit(net, DIGITS.take(10), DIGITS.y[:10], 1)
