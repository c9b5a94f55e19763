"""Which letters turn a text's label?  A beam search along the gradient, every text asked of the network itself."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from stackelberg.attacks.attack import check_labels
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.errors import StackelbergError
from stackelberg.models import embedded
from stackelberg.threat import Letters
from stackelberg.threat.payoff import margin

CHUNK = 64
"""Texts searched together."""


@dataclass(frozen=True)
class HotFlip:
    """HotFlip (Ebrahimi, Rao, Lowd and Dou 2018): `attack(model, x, y)` gives texts in `letters` around x, [B, T].

    A letter a at a place with gradient g is exchanged for the b of largest g . (v_b - v_a), to first order what the
    margin gains (eq. 4 there). Estimates only rank: of each text in the beam the `candidates` best exchanges are asked
    of the network, and the `beam` texts of largest margin go on to the next letter. A text whose label has turned is
    left alone; one that nothing turns comes back as the text of largest margin seen.

    Attributes:
        letters: what may be exchanged.
        beam: texts that go on.
        candidates: texts asked for each of them.
    """

    letters: Letters
    beam: int = 5
    candidates: int = 40

    def __post_init__(self) -> None:
        if self.beam < 1 or self.candidates < 1:
            raise StackelbergError(
                f"beam and candidates must be at least 1, got beam={self.beam}, candidates={self.candidates}"
            )

    @property
    def name(self) -> str:
        """For example hotflip-2."""
        return f"hotflip-{self.letters.count}"

    def __call__(self, model: nn.Module, x: UInt8[Tensor, "B T"], y: Int64[Tensor, " N"]) -> UInt8[Tensor, "B T"]:
        """Search for every text; the model takes texts or what its `embed` makes of them (see `models.embedded`).

        Raises:
            StackelbergError: the network embeds no texts, or labels outside its classes.
        """
        with untouched(model), torch.no_grad():
            oracle = Oracle(model, "float32")
            oracle.meet(embedded(model, x))
            check_labels(oracle, x, y)
            parts = zip(x.split(CHUNK), y.split(CHUNK), strict=True)
            return torch.cat([self._search(oracle, *part) for part in parts]) if len(x) else x

    def _search(self, oracle: Oracle, x: Tensor, y: Tensor) -> Tensor:
        best, value = x.clone(), margin(oracle.exact(x), y)
        index = (value <= 0).nonzero()[:, 0]
        held = x[index, None]  # [b, beam, T]
        for _ in range(self.letters.count):
            if not len(index):
                break
            held, values = self._step(oracle, held, x[index], y[index])
            more = values[:, 0] > value[index]
            value[index[more]], best[index[more]] = values[more, 0], held[more, 0]
            left = value[index] <= 0
            index, held = index[left], held[left]
        return best

    def _step(
        self, oracle: Oracle, held: UInt8[Tensor, "b n T"], x: UInt8[Tensor, "b T"], y: Int64[Tensor, " b"]
    ) -> tuple[UInt8[Tensor, "b m T"], Float[Tensor, "b m"]]:
        """(texts with one more letter exchanged, their margins), the largest first; -inf where there is none."""
        count, width, length = held.shape
        texts, labels = held.flatten(0, 1), y.repeat_interleave(width)
        gain = self._estimate(oracle, texts, labels)
        codes = self.letters.codes(x.device)
        free = self.letters.movable(texts) & (texts == x.repeat_interleave(width, 0))
        gain = gain.masked_fill(~free[:, :, None] | (texts[:, :, None] == codes), -torch.inf).flatten(1)
        top = gain.topk(min(self.candidates, gain.shape[1]), dim=1)
        place, letter = top.indices // len(codes), codes[top.indices % len(codes)]
        letter = torch.where(top.values == -torch.inf, texts.gather(1, place), letter)  # no exchange: the text as it is
        asked = texts[:, None].expand(-1, place.shape[1], -1).scatter(2, place[:, :, None], letter[:, :, None])
        value = margin(oracle.exact(asked.flatten(0, 1)), labels.repeat_interleave(place.shape[1]))
        value = value.view(count, -1).masked_fill(top.values.view(count, -1) == -torch.inf, -torch.inf)
        asked = asked.reshape(count, -1, length)
        order = distinct(asked, value).topk(min(self.beam, value.shape[1]), dim=1)
        return asked.gather(1, order.indices[:, :, None].expand(-1, -1, length)), order.values

    def _estimate(self, oracle: Oracle, texts: Tensor, y: Tensor) -> Float[Tensor, "n T A"]:
        """By how much the margin rises, to first order, with each letter at each place."""
        points = embedded(oracle.model, texts)
        slope, _, _ = oracle.gradient(points, lambda logits: margin(logits, y))
        codes = self.letters.codes(texts.device)
        vectors = embedded(oracle.model, codes[:, None].repeat(1, texts.shape[1]))  # [A, T, w]
        return torch.einsum("ntw,atw->nta", slope, vectors) - (slope * points).sum(2)[:, :, None]


def distinct(texts: UInt8[Tensor, "b m T"], value: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """The values, -inf for a text that stands before in its row: two orders of the same exchanges are one text."""
    same = (texts[:, :, None] == texts[:, None]).all(3)
    return value.masked_fill(same.tril(-1).any(2), -torch.inf)
