"""All exchanges of letters: against a loop over them, and against what a search finds."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from stackelberg import models
from stackelberg.attacks import HotFlip
from stackelberg.certify import enumerate_letters, enumeration
from stackelberg.data import encode
from stackelberg.errors import StackelbergError
from stackelberg.threat import Letters
from stackelberg.threat.payoff import margin

X = encode(["abcab", "cab", "b a c", "a", "- -"], 6)
Y = torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return models.build("text-transformer", 3, (6,), width=16, seed=0).eval()


def slowly(net: nn.Module, x: Tensor, y: Tensor, letters: Letters) -> float:
    """The least -margin over every text that may be made of x, one after another."""
    worst = torch.inf
    codes = letters.codes().tolist()
    choices = [codes if code in codes else [code] for code in x.tolist()]
    for row in product(*choices):
        text = torch.tensor([row], dtype=torch.uint8)
        if bool(letters.contains(text, x[None])):
            with torch.no_grad():
                worst = min(worst, -float(margin(net(text), y[None])))
    return worst


@pytest.mark.parametrize("count", [0, 1, 2, 6])
def test_the_margin_is_that_of_the_worst_text(net: nn.Module, count: int) -> None:
    letters = Letters(count, "abc")
    found = enumerate_letters(net, X, Y, letters)
    truth = torch.tensor([slowly(net, x, y, letters) for x, y in zip(X, Y, strict=True)])
    assert torch.allclose(found.margin, truth, atol=1e-5)
    assert letters.contains(found.worst, X).all()
    with torch.no_grad():
        assert torch.allclose(-margin(net(found.worst), Y), found.margin, atol=1e-5)
    assert found.texts == sum(letters.size(X))
    assert torch.equal(found.broken, truth < 0)


def test_parts_make_no_difference(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = enumerate_letters(net, X, Y, Letters(2, "abc"))
    monkeypatch.setattr(enumeration, "CHUNK", 7)
    assert torch.allclose(enumerate_letters(net, X, Y, Letters(2, "abc")).margin, whole.margin, atol=1e-5)


def test_no_search_turns_what_is_certified(net: nn.Module) -> None:
    for count in (1, 2):
        letters = Letters(count, "abcdef")
        every = enumerate_letters(net, X, Y, letters)
        with torch.no_grad():
            turned = margin(net(HotFlip(letters)(net, X, Y)), Y) > 0
        assert not (turned & every.certified).any()
        assert not (every.broken & every.certified).any()


def test_nothing_is_proved_within_rounding(net: nn.Module) -> None:
    """A network with two equal logits is neither certified nor broken."""

    class Even(nn.Module):
        def embed(self, x: Tensor) -> Tensor:
            return x.float()[:, :, None]

        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 2)

    found = enumerate_letters(Even(), X, torch.zeros(5, dtype=torch.long), Letters(1, "abc"))
    assert not found.certified.any()
    assert not found.broken.any()


def test_too_many_texts_are_counted(net: nn.Module) -> None:
    with pytest.raises(
        StackelbergError, match=r"6 letters make 1,544,578,880 texts of these 5, allowed are 268,435,456"
    ):
        enumerate_letters(net, encode(["abcdef"] * 5, 6), Y, Letters(6))


def test_a_network_that_answers_at_random_is_refused() -> None:
    class Noisy(nn.Module):
        def embed(self, x: Tensor) -> Tensor:
            return x.float()[:, :, None]

        def forward(self, x: Tensor) -> Tensor:
            return torch.randn(len(x), 3) + (x if x.is_floating_point() else self.embed(x)).mean((1, 2))[:, None]

    with pytest.raises(StackelbergError, match="answers at random"):
        enumerate_letters(Noisy(), X, Y, Letters(1, "abc"))
