"""compare: every bound of any classifier, the tight ones first, and bad input by name."""

import math

import pytest
import torch
from torch import nn

import stackelberg as sb
from stackelberg import data, models
from stackelberg.bounds import Budget, compare, compared
from stackelberg.bounds.comparing import TIGHT, two_layers
from stackelberg.bounds.fitting import fit
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball

DIGITS, TEST = data.load("digits", "train"), data.load("digits", "test").take(150)
TINY = Budget(prior=200, prior_epochs=1, draws=60, labels=30, label_epochs=10, path=3, stored=100, attacked=8)
NAMES = {
    "hold-out", "PAC-Bayes", "PAC-Bayes, one draw", "uniform, VC", "uniform, Rademacher by random labels",
    "norms, spectral", "norms, Frobenius", "norms, path", "stability, uniform", "stability, on average",
    "expressive power", "memorization, E_D", "memorization, balls that were seen", "memorization, P_D",
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> nn.Module:
    net = models.build("mlp", 10, DIGITS.shape, 16, seed=0)
    fit(net, DIGITS, DIGITS.y, 10, 3e-3)
    return net


def test_all_bounds_come_the_tight_ones_first(network: nn.Module) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    rows = compared(network, DIGITS, TEST, ball=Ball("linf", 0.05), budget=TINY)
    bounds = [row.bound for row in rows]
    assert {bound.name for bound in bounds} == NAMES | {"hold-out, robust, certified", "hold-out, robust, attacked"}
    tight = [bound.name in TIGHT for bound in bounds]
    assert tight == sorted(tight, reverse=True)
    rest = [bound.value for bound in bounds if bound.name not in TIGHT]
    assert rest == sorted(rest)
    assert all(bound.source and bound.assumptions for bound in bounds)
    assert all(bound.vacuous == (bound.value >= 1) for bound in bounds)
    for row in rows:
        if row.measured is not None and row.bound.kind == "theorem":
            assert row.measured <= row.bound.value
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_public_name_gives_the_same_for_the_same_seed(network: nn.Module) -> None:
    told: list[str] = []
    one = sb.bounds.compare(network, DIGITS, TEST, budget=TINY, progress=lambda done, of, words: told.append(words))
    assert one == compare(network, DIGITS, TEST, budget=TINY)
    assert "hold-out" in told
    assert one[0].name == "hold-out"


class Attentive(nn.Module):
    """A network that no count and no norm of the room knows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.place = nn.Parameter(torch.zeros(8, 12))
        self.attend = nn.MultiheadAttention(12, 2, batch_first=True)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(12, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.embed(x[:, 0]) + self.place
        return self.head((z + self.attend(z, z, z)[0]).mean(1))


def test_a_users_own_network_gets_what_can_be_computed_and_reasons_for_the_rest() -> None:
    torch.manual_seed(0)
    bounds = {bound.name: bound for bound in compare(Attentive(), DIGITS, TEST, budget=TINY)}
    for name in ("hold-out", "PAC-Bayes", "uniform, Rademacher by random labels"):
        assert math.isfinite(bounds[name].value)
    left = [bound for bound in bounds.values() if math.isinf(bound.value)]
    assert {"uniform, VC", "expressive power"} <= {bound.name for bound in left}
    assert all(bound.vacuous and bound.assumptions[0].startswith("not computed: ") for bound in left)


class Rule(nn.Module):
    """No network at all: it has nothing to train, and no gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.flatten(1).sum(1).round() % 10 == k for k in range(10)], 1).float()


def test_what_has_no_parameters_still_gets_its_hold_out() -> None:
    bounds = {bound.name: bound for bound in compare(Rule(), DIGITS, TEST, budget=TINY)}
    assert bounds["hold-out"].value < 1
    assert "no parameters" in bounds["PAC-Bayes"].assumptions[0]
    assert math.isinf(bounds["uniform, Rademacher by random labels"].value)


def test_a_two_layer_network_with_two_classes_gets_the_expressive_bound() -> None:
    chance = torch.Generator().manual_seed(0)
    x = torch.cat(
        [
            torch.randint(0, 64, (200, 1, 1, 1), generator=chance),
            torch.randint(192, 256, (200, 1, 1, 1), generator=chance),
        ]
    )
    heaps = Dataset(x.to(torch.uint8), torch.arange(400) // 200, ["low", "high"], "heaps")
    first, last = nn.Linear(1, 4), nn.Linear(4, 2)
    net = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.bias.copy_(torch.tensor([0.0, 0.0, -0.5, -0.5]))
        last.weight.copy_(torch.tensor([[-0.5, -0.5, -0.5, -0.5], [0.5, 0.5, 0.5, 0.5]]))
        last.bias.copy_(torch.tensor([0.5, -0.5]))
    read = two_layers(net)
    assert read is not None
    few, _ = heaps.batch(slice(0, 10))
    z = net(few)
    torch.testing.assert_close(read(few.flatten(1).double()).float(), (z[:, 1] - z[:, 0]).detach())
    bound = next(b for b in compare(net, heaps, heaps, budget=TINY) if b.name == "expressive power")
    assert bound.kind == "estimate"
    assert any("estimated: that width" in words for words in bound.assumptions)
    scaled = models.Normalized(net, (0.5,), (0.5,))
    bound = next(b for b in compare(scaled, heaps, heaps, budget=TINY) if b.name == "expressive power")
    assert "more than its two layers" in bound.assumptions[0]
    with torch.no_grad():
        first.weight.fill_(1.5)
    assert two_layers(net) is None


def test_bad_input_is_named(network: nn.Module) -> None:
    mnist_like = Dataset(torch.zeros(10, 1, 28, 28, dtype=torch.uint8), torch.arange(10), DIGITS.classes, "wide")
    with pytest.raises(StackelbergError, match=r"training and test examples must have one shape, got \[1, 8, 8\]"):
        compare(network, DIGITS, mnist_like)
    with pytest.raises(StackelbergError, match=r"built for images \[1, 8, 8\], got \[1, 28, 28\]"):
        compare(network, mnist_like, mnist_like)
    fewer = Dataset(TEST.x, TEST.y % 3, ["a", "b", "c"], "three")
    with pytest.raises(StackelbergError, match="must have the same classes, got 10 and 3"):
        compare(network, DIGITS, fewer)
    with pytest.raises(StackelbergError, match=r"output has the shape \[4, 10\], needed is \[4, 3\]"):
        compare(network, fewer, fewer)
    empty = Dataset(TEST.x[:0], TEST.y[:0], TEST.classes, "nothing")
    with pytest.raises(StackelbergError, match="the test set nothing is empty"):
        compare(network, DIGITS, empty)
    with pytest.raises(StackelbergError, match="the training set nothing is empty"):
        compare(network, empty, TEST)
    with pytest.raises(StackelbergError, match="got 3; pass the training set"):
        compare(network, DIGITS.take(3), TEST)
    for delta in (0.0, 1.0, -1.0, 2.0, math.nan):
        with pytest.raises(StackelbergError, match=r"must lie in \(0, 1\), got"):
            compare(network, DIGITS, TEST, delta=delta)
