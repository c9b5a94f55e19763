"""A small transformer that reads texts byte by byte, in two parts: what embeds them, and what reads the embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.attention import Block, check_width
from stackelberg.models.shapes import Logits, Texts, Tokens

BYTES = 256
_DEPTH = 2


class Reader(nn.Module):
    """Learned places added, two blocks of four heads, mean over the places, fc K: [B, T, w] to [B, K].

    Args:
        classes: K.
        length: T.
        width: w.
    """

    def __init__(self, classes: int, length: int, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tokens) -> Logits:
        return self.head(self.norm(self.blocks(x + self.place)).mean(1))


class TextTransformer(nn.Module):
    """Bytes as vectors of length 1, then a `Reader`. It takes texts as bytes, or what `embed` makes of them.

    An adversary who moves the embedding is measured in units that the network cannot change: with free vectors it
    would make every move small by making its vectors long (Miyato, Dai and Goodfellow 2017, section 3, who normalise
    them for this reason). Two texts that differ in k places are at most 2 sqrt(k) apart in l2, so the l2 ball of that
    radius holds all texts with k letters changed.

    Args:
        classes: K.
        shape: (T,), bytes of a text; shorter ones end in zeros.
        width: w, a multiple of 4, 64 by default.

    Raises:
        StackelbergError: the heads do not divide the width.
    """

    def __init__(self, classes: int, shape: tuple[int, ...], width: int = 64) -> None:
        super().__init__()
        check_width("text-transformer", width)
        self.length = shape[0]
        self.bytes = nn.Embedding(BYTES, width)
        self.reader = Reader(classes, shape[0], width)

    @property
    def vectors(self) -> Tensor:
        """The vector of each byte, of length 1, [256, w]."""
        return F.normalize(self.bytes.weight, dim=1)

    def embed(self, x: Tensor) -> Tensor:
        """Texts [B, T], integers 0..255, as [B, T, w]; differentiable in the vectors.

        Raises:
            StackelbergError: another length, or a number that is no byte; the first text at fault is named.
        """
        if x.dim() != 2 or x.shape[1] != self.length or x.is_floating_point():
            raise StackelbergError(
                f"the network reads texts of {self.length} bytes, integers [B, {self.length}], got {x.dtype}"
                f" {list(x.shape)}; encode them with data.encode(texts, {self.length})"
            )
        if x.dtype != torch.uint8 and bool(((x < 0) | (x >= BYTES)).any()):
            index = int(((x < 0) | (x >= BYTES)).any(1).nonzero()[0])
            raise StackelbergError(
                f"text {index} holds the numbers {x[index].tolist()}, allowed are bytes, 0 to {BYTES - 1}"
            )
        return F.embedding(x.long(), self.vectors)

    def forward(self, x: Texts) -> Logits:
        return self.reader(x if x.is_floating_point() else self.embed(x))
