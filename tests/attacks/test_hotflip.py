"""HotFlip: against all texts where they can be asked, exact where the network is linear, and inside its set."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stackelberg import models
from stackelberg.attacks import HotFlip
from stackelberg.attacks.hotflip import distinct
from stackelberg.certify import enumerate_letters
from stackelberg.data import encode
from stackelberg.errors import StackelbergError
from stackelberg.threat import Letters
from stackelberg.threat.payoff import margin

X = encode(["abcab", "cab", "b a c", "aaaaaa", "cc"], 6)
ABC = Letters(2, "abc")


class Linear(nn.Module):
    """A linear network of the embedded text: there the first-order estimate is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, 8)
        self.head = nn.Linear(6 * 8, 2)

    def embed(self, x: Tensor) -> Tensor:
        return self.bytes(x.long())

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x if x.is_floating_point() else self.embed(x)).flatten(1))


def transformer(seed: int) -> nn.Module:
    return models.build("text-transformer", 3, (6,), width=16, seed=seed).eval()


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Linear().eval()


def right(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net(X).argmax(1)


def margins(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(net(x), y)


@pytest.mark.parametrize("build", [transformer, linear])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_wide_search_finds_the_worst_of_all_texts(build: Callable[[int], nn.Module], count: int) -> None:
    """With every candidate asked and none dropped the search is over all texts; where a label turns it ends there."""
    for seed in range(3 if count < 3 else 1):  # with three letters there are ten times as many texts
        net, letters = build(seed), Letters(count, "abc")
        y = right(net)
        every = enumerate_letters(net, X, y, letters)
        moved = HotFlip(letters, beam=1000, candidates=1000)(net, X, y)
        assert letters.contains(moved, X).all()
        found = margins(net, moved, y)
        assert ((found > 0) == every.broken).all()
        assert torch.allclose(found[~every.broken], -every.margin[~every.broken], atol=1e-5)


def test_one_beam_is_enough_where_the_network_is_linear() -> None:
    for seed in range(5):
        net = linear(seed)
        with torch.no_grad():  # no label turns, so that the search goes all the way
            net.get_parameter("head.bias")[0] += 100
        y = torch.zeros(5, dtype=torch.long)
        moved = HotFlip(ABC, beam=1, candidates=1)(net, X, y)
        assert torch.allclose(margins(net, moved, y), -enumerate_letters(net, X, y, ABC).margin, atol=1e-4)


def test_more_letters_and_a_wider_beam_find_no_less() -> None:
    net = transformer(0)
    y = right(net)
    fallen = [int((margins(net, HotFlip(Letters(k, "abc"))(net, X, y), y) > 0).sum()) for k in range(4)]
    assert fallen == sorted(fallen)
    assert fallen[0] == 0
    assert fallen[-1] > 0


def test_what_is_wrong_unmoved_comes_back_as_it_is() -> None:
    net = transformer(0)
    y = (right(net) + 1) % 3
    assert torch.equal(HotFlip(ABC)(net, X, y), X)
    assert HotFlip(ABC)(net, X[:0], y[:0]).shape == (0, 6)


def test_the_order_of_the_texts_plays_no_part_and_the_network_is_left_alone() -> None:
    net = transformer(1).train()
    y = right(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    moved = HotFlip(ABC)(net, X, y)
    assert torch.equal(HotFlip(ABC)(net, X.flip(0), y.flip(0)).flip(0), moved)
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_equal_texts_count_once() -> None:
    texts = encode(["ab", "ba", "ab", "bb"], 2)[None]
    assert distinct(texts, torch.tensor([[1.0, 2.0, 1.0, 3.0]])).tolist() == [[1.0, 2.0, -torch.inf, 3.0]]


def test_what_cannot_be_searched_is_named() -> None:
    with pytest.raises(StackelbergError, match="beam and candidates must be at least 1, got beam=0"):
        HotFlip(ABC, beam=0)
    with pytest.raises(StackelbergError, match="a MLP does not embed texts"):
        HotFlip(ABC)(models.build("mlp", 3, (1, 2, 3)), X, torch.zeros(5, dtype=torch.long))
    with pytest.raises(StackelbergError, match=r"labels must lie in 0\.\.2"):
        HotFlip(ABC)(transformer(0), X, torch.full((5,), 3))
