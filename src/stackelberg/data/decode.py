"""Encoded images (PNG, JPEG) to one uint8 array."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from stackelberg.errors import StackelbergError


def decode(encoded: Sequence[bytes | None], source: str) -> UInt8[Tensor, "N C H W"]:
    """All images, [N, 1, H, W] if the first is grey, else [N, 3, H, W].

    Raises:
        StackelbergError: one of them is no image, or has another size than the first; it is named by its index.
    """
    first = _pixels(encoded[0], None, 0, source)
    mode = "L" if first.ndim == 2 else "RGB"
    out = np.empty((len(encoded), *first.shape), np.uint8)
    for index, data in enumerate(encoded):
        pixels = _pixels(data, mode, index, source)
        if pixels.shape != first.shape:
            raise StackelbergError(
                f"{source}: image {index} is {pixels.shape[1]}x{pixels.shape[0]} pixels and image 0 is"
                f" {first.shape[1]}x{first.shape[0]}; all must have one size, resize them"
            )
        out[index] = pixels
    images = torch.from_numpy(out)
    return images[:, None] if first.ndim == 2 else images.permute(0, 3, 1, 2).contiguous()


def _pixels(data: bytes | None, mode: str | None, index: int, source: str) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(data or b""))
        mode = mode or ("L" if image.mode in ("1", "L", "LA") else "RGB")
        return np.asarray(image if image.mode == mode else image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise StackelbergError(f"{source}: image {index} cannot be read ({error}); replace or remove it") from error
