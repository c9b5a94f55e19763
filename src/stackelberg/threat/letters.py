"""What may the adversary of a text do?  Exchange some of its letters; no place is added or removed."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from stackelberg.errors import StackelbergError


@dataclass(frozen=True)
class Letters:
    """The texts that differ from x in at most `count` places, in each by one letter of the alphabet for another.

    Texts are bytes, [B, T]; what is no letter of the alphabet (a blank, say) stays as it is.

    Attributes:
        count: k, >= 0; 0 allows no change.
        alphabet: at least two different ASCII characters.
    """

    count: int = 1
    alphabet: str = "abcdefghijklmnopqrstuvwxyz"

    def __post_init__(self) -> None:
        if self.count < 0:
            raise StackelbergError(f"count must be at least 0 letters, got {self.count}; for one letter pass 1")
        if not self.alphabet.isascii() or len(set(self.alphabet)) < 2 or len(set(self.alphabet)) < len(self.alphabet):
            raise StackelbergError(
                f"alphabet must be two or more different ASCII characters, got {self.alphabet!r}; pass 'abc'"
            )

    def codes(self, device: torch.device | str = "cpu") -> UInt8[Tensor, " A"]:
        """The bytes of the alphabet."""
        return torch.tensor(list(self.alphabet.encode("ascii")), dtype=torch.uint8, device=device)

    def movable(self, x: UInt8[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        """Which places hold a letter of the alphabet."""
        return torch.isin(x, self.codes(x.device))

    def distance(self, a: UInt8[Tensor, "B T"], b: UInt8[Tensor, "B T"]) -> Int64[Tensor, " B"]:
        """In how many places two texts differ."""
        return (a != b).sum(1)

    def contains(self, moved: UInt8[Tensor, "B T"], x: UInt8[Tensor, "B T"]) -> Bool[Tensor, " B"]:
        """Whether each text may be made of x."""
        fair = (moved == x) | (self.movable(x) & self.movable(moved))
        return fair.all(1) & (self.distance(moved, x) <= self.count)

    def size(self, x: UInt8[Tensor, "B T"]) -> list[int]:
        """How many texts may be made of each: sum over j <= k of C(letters, j) (A - 1)^j."""
        others = len(self.alphabet) - 1
        return [
            sum(math.comb(letters, j) * others**j for j in range(self.count + 1))
            for letters in self.movable(x).sum(1).tolist()
        ]
