"""How does an encoded image (PNG, JPEG) become pixels?  All of a set at once, into one array of bytes."""

import io
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from stackelberg.errors import StackelbergError

Encoded = bytes | Path | None
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_CHUNK = 500
# Below this size the interpreter's own work outweighs the decoder's, and threads only wait for each other.
_THREADED_PIXELS = 128 * 128


class _ColourFound(Exception):
    """An image has colour though those before it were grey."""


def decode(encoded: Sequence[Encoded], source: str) -> UInt8[Tensor, "N C H W"]:
    """All images, in order: [N, 1, H, W] if every one is grey, else [N, 3, H, W]. Transparency is dropped.

    Raises:
        StackelbergError: one of them cannot be read, has more than 8 bits a channel, or another size than the first.
    """
    try:
        return _decode(encoded, source, "L")
    except _ColourFound:
        return _decode(encoded, source, "RGB")


def encode_png(pixels: UInt8[Tensor, "C H W"]) -> bytes:
    """A PNG file of one image with 1 (grey) or 3 (RGB) channels."""
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _decode(encoded: Sequence[Encoded], source: str, mode: str) -> Tensor:
    first = _pixels(encoded[0], mode, 0, source)
    out = np.empty((len(encoded), 1 if mode == "L" else 3, *first.shape[:2]), np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + _CHUNK, len(encoded))):
            pixels = _pixels(encoded[index], mode, index, source)
            if pixels.shape != first.shape:
                raise StackelbergError(
                    f"{source}: {_called(encoded[index], index)} has {pixels.shape[1]}x{pixels.shape[0]} pixels and"
                    f" {_called(encoded[0], 0)} {first.shape[1]}x{first.shape[0]}; resize them to one size"
                )
            out[index] = pixels if mode == "L" else pixels.transpose(2, 0, 1)

    threads = (os.cpu_count() or 1) if first.shape[0] * first.shape[1] >= _THREADED_PIXELS else 1
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(0, len(encoded), _CHUNK)):
            pass
    return torch.from_numpy(out)


def _called(encoded: Encoded, index: int) -> str:
    return str(encoded) if isinstance(encoded, Path) else f"image {index}"


def _pixels(encoded: Encoded, mode: str, index: int, source: str) -> np.ndarray:
    try:
        image = Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded or b""))
        if mode == "L" and image.mode in _COLOUR:
            raise _ColourFound
        if image.mode not in _GREY and image.mode not in _COLOUR:
            raise ValueError(f"its pixels are of type {image.mode}, 8 bits a channel are needed")
        return np.asarray(image if image.mode == mode else image.convert(mode))
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError) as error:
        reason = "it is no PNG or JPEG" if isinstance(error, Image.UnidentifiedImageError) else error
        raise StackelbergError(
            f"{source}: {_called(encoded, index)} cannot be read ({reason}); replace or remove it"
        ) from error
