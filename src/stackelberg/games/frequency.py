"""Frequency adversarial training: two followers, one in the high frequencies of a cloud, one in the low ones."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stackelberg.attacks.frequency import high_adversary, low_adversary
from stackelberg.errors import StackelbergError
from stackelberg.games.game import Game, Inputs, Labels, Payoffs, Play
from stackelberg.models.point_norm import on_branch
from stackelberg.threat import chance
from stackelberg.threat.spectrum import LowBand, spectrum

CLEAN, HIGH, LOW = range(3)
"""Which set of batch norms which kind of clouds goes through."""

Both: TypeAlias = Float[Tensor, "B Q 3"]
"""The clouds of both followers, Q = 2 P points."""
KEPT = 2**26
"""So many numbers of bases are kept for clouds that come again: 256 MiB in float32."""
_kept: dict[tuple[int, int, int, int], Tensor] = {}


@dataclass(frozen=True)
class Frequency(Game):
    """FAT (Miao et al. 2024): CE(x) + max_{|e_h| <= high} CE(x + U e_h) + max_{|e_l| <= low} CE(x + U e_l).

    e_h lies in the frequencies above the lowest `share`, e_l in those; U is the basis of the clean cloud. The first
    follower is PGD, the second AOF. Clean, high and low clouds go through a set of batch norms each where the network
    has three ("pointnet-3bn"; AdvProp), else all through one, which is the paper's weaker variant; the first set alone
    is used for evaluation.

    Attributes:
        high: radius of the first follower, l2 over all coefficients of a cloud, in units of the points; 0.3 published.
        low: radius of the second, likewise; 0.5 published.
        share: of the frequencies that are low; 100 of 1024 published.
        steps: of both ascents.
        neighbours: k of the graph; 30 published.
        smoothing: of the labels in the cross entropy that the leader pays.
    """

    high: float = 0.3
    low: float = 0.5
    share: float = 100 / 1024
    steps: int = 5
    neighbours: int = 30
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not (self.high >= 0 and self.low >= 0 and 0 < self.share < 1 and 0 <= self.smoothing < 1):
            raise StackelbergError(
                f"high and low must be >= 0, share in (0, 1) and smoothing in [0, 1), got high={self.high},"
                f" low={self.low}, share={self.share}, smoothing={self.smoothing}"
            )
        if self.steps < 1:
            raise StackelbergError(f"steps must be at least 1, got {self.steps}; the usual value is 5")

    def answer(self, play: Play, x: Inputs, y: Labels) -> Both:
        """Both followers' clouds, one after the other along the points: [B, 2 P, 3]."""
        if x.dim() != 3:
            raise StackelbergError(
                f"the game fat moves clouds [B, P, 3], got inputs of the shape {list(x.shape)}; for images play at"
            )
        band = self.band(x)
        noise = chance.normal(play.keys_for(x), tuple(x.shape[1:])).to(x)
        with on_branch(play.oracle.model, HIGH):
            high = high_adversary(play.oracle, x, y, band, self.high * play.share, self.steps, noise)
        with on_branch(play.oracle.model, LOW):
            low = low_adversary(play.oracle, x, y, band, self.low * play.share, self.steps)
        return torch.cat([high, low], 1)

    def pay(self, play: Play, model: nn.Module, x: Inputs, y: Labels, moved: Both) -> Payoffs:
        return self.losses(model, x, y, moved)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Both) -> Payoffs:
        high, low = moved.split(x.shape[1], 1)
        paid = self._pay(model, x, y)
        for branch, clouds in ((HIGH, high), (LOW, low)):
            with on_branch(model, branch):
                paid = paid + self._pay(model, clouds, y)
        return paid

    def _pay(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x).float(), y, reduction="none", label_smoothing=self.smoothing)

    def band(self, x: Tensor) -> LowBand:
        """The low frequencies of each cloud; those of clouds seen before come from memory."""
        count = max(1, round(self.share * x.shape[1]))
        keys = [(int(key), x.shape[1], self.neighbours, count) for key in chance.example_keys(x, 0)]
        new = [place for place, key in enumerate(keys) if key not in _kept]
        bases: dict[int, Tensor] = {}
        if new:
            found = spectrum(x[new], self.neighbours).basis[:, :, :count].contiguous()
            bases = dict(zip(new, found, strict=True))
            if (len(_kept) + len(new)) * found[0].numel() <= KEPT:
                _kept.update((keys[place], basis.cpu().clone()) for place, basis in bases.items())
        rows = [bases[place] if place in bases else _kept[key].to(x) for place, key in enumerate(keys)]
        return LowBand(torch.stack(rows))
