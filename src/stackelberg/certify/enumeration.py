"""Does any exchange of letters turn the label?  All texts are asked, so the answer is a proof and not a search."""

from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.attacks.attack import check_labels
from stackelberg.attacks.oracle import Oracle
from stackelberg.errors import StackelbergError
from stackelberg.models import embedded
from stackelberg.threat import Letters
from stackelberg.threat.payoff import margin

MOST = 2**28
"""Texts asked in one call at most."""
CHUNK = 8192
ROUNDING = 1e-4
"""Logit units by which an answer may move with the batch in which it is computed, in float32."""


@dataclass(frozen=True, eq=False)
class Enumeration:
    """margin[i] = min over x' in letters(x_i) and k != y_i of z_y(x') - z_k(x'), attained at `worst`: all were asked.

    Attributes:
        letters: the set over which it holds.
        margin: per text [B], in logit units, as the network computes it in float32.
        worst: where it is attained, [B, T].
        texts: how many they are.
    """

    letters: Letters
    margin: Float[Tensor, " B"]
    worst: UInt8[Tensor, "B T"]
    texts: int

    @property
    def certified(self) -> Bool[Tensor, " B"]:
        """Whether the label is right and stays the same in the whole set, by more than rounding."""
        return self.margin > ROUNDING

    @property
    def broken(self) -> Bool[Tensor, " B"]:
        """Whether the label is wrong at `worst`."""
        return self.margin < 0


def enumerate_letters(
    model: nn.Module, x: UInt8[Tensor, "B T"], y: Int64[Tensor, " N"], letters: Letters
) -> Enumeration:
    """The exact worst case of `letters` around each text, by asking all of them.

    Args:
        model: takes texts (see `models.embedded`); given back as it came.
        x: texts.
        y: true labels.
        letters: one letter of a word is a few hundred texts, each further one a few hundred times as many.

    Raises:
        StackelbergError: the network embeds no texts, labels outside its classes, or more than 2^28 texts.
    """
    total = sum(letters.size(x))
    if total > MOST:
        raise StackelbergError(
            f"{letters.count} letters make {total:,} texts of these {len(x)}, allowed are {MOST:,}; pass fewer texts or"
            " count=1, or search with attacks.HotFlip, which proves nothing"
        )
    with untouched(model), torch.no_grad():
        oracle = Oracle(model, "float32")
        oracle.meet(embedded(model, x))
        check_labels(oracle, x, y)
        if oracle.random:
            raise StackelbergError("the network answers at random, so asking it once proves nothing; freeze its noise")
        worst, value = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        if len(x):
            _take(oracle, torch.arange(len(x), device=x.device), x[:, None], y, worst, value)
        movable = letters.movable(x)
        exchanged = movable.sum(1).clamp(max=letters.count)
        for count in range(1, letters.count + 1):
            fills = torch.cartesian_prod(*[letters.codes(x.device)] * count).view(-1, count)
            for places in combinations(range(x.shape[1]), count):
                index = ((exchanged == count) & movable[:, places].all(1)).nonzero()[:, 0]
                for part in index.split(max(1, CHUNK // len(fills))):
                    texts = x[part, None].repeat(1, len(fills), 1)
                    texts[:, :, places] = fills
                    _take(oracle, part, texts, y, worst, value)
    return Enumeration(letters, -value, worst, total)


def _take(oracle: Oracle, index: Tensor, texts: Tensor, y: Tensor, worst: Tensor, value: Tensor) -> None:
    """Ask about texts [b, F, T] of the examples `index` [b], and keep the one of largest margin for each."""
    labels = y[index].repeat_interleave(texts.shape[1])
    asked = zip(texts.flatten(0, 1).split(CHUNK), labels.split(CHUNK), strict=True)
    found = torch.cat([margin(oracle.exact(part), of) for part, of in asked]).nan_to_num(nan=torch.inf)
    top, place = found.view(texts.shape[:2]).max(1)
    more = top > value[index]
    value[index[more]], worst[index[more]] = top[more], texts[more, place[more]]
