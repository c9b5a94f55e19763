"""How does a text become numbers?  By its bytes: UTF-8, one row a text, zeros behind its end."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from stackelberg.errors import StackelbergError

BLANK = 0
"""What stands behind a text's end."""


def encode(texts: Sequence[str], length: int) -> UInt8[Tensor, "N T"]:
    """The bytes of each text, zeros behind them.

    Args:
        texts: none of them empty.
        length: T, bytes of a row.

    Raises:
        StackelbergError: a text is empty, longer than `length` bytes, or holds a zero byte; it is named.

    >>> encode(["ja", "oui"], 4)
    tensor([[106,  97,   0,   0],
            [111, 117, 105,   0]], dtype=torch.uint8)
    """
    if length < 1:
        raise StackelbergError(f"length must be at least 1 byte, got {length}")
    rows = [text.encode("utf-8", "surrogateescape") for text in texts]
    for place, row in enumerate(rows):
        if not row:
            raise StackelbergError(f"text {place} is empty; leave it out")
        if len(row) > length:
            raise StackelbergError(
                f"text {place} has {len(row)} bytes, allowed are {length}: {texts[place]!r}; shorten it, or pass a"
                " larger length"
            )
        if BLANK in row:
            raise StackelbergError(f"text {place} holds a zero byte, which stands for its end; remove it")
    whole = b"".join(row.ljust(length, b"\0") for row in rows)
    return torch.from_numpy(np.frombuffer(bytearray(whole), np.uint8).reshape(len(rows), length))


def decode(x: UInt8[Tensor, "N T"]) -> list[str]:
    """The texts again; bytes that are no UTF-8 come out as the replacement character.

    >>> decode(encode(["ja", "oui"], 4))
    ['ja', 'oui']
    """
    return [bytes(row).rstrip(b"\0").decode("utf-8", "replace") for row in x.cpu().numpy()]
