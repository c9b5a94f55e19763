import io

import numpy as np
import pytest
import torch
from PIL import Image

from stackelberg.data.decode import decode, encode_png
from stackelberg.errors import StackelbergError


def png(array: np.ndarray, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def test_png_comes_back_as_it_was_written():
    for pixels in (torch.from_numpy(GREY)[None], torch.from_numpy(COLOUR).permute(2, 0, 1)):
        assert torch.equal(decode([encode_png(pixels)] * 3, "made")[2], pixels)


def test_one_coloured_image_makes_all_of_them_coloured():
    images = decode([png(GREY), png(COLOUR), png(GREY)], "made")
    assert images.shape == (3, 3, 6, 5)
    assert torch.equal(images[0, 1], torch.from_numpy(GREY))
    assert torch.equal(images[1], torch.from_numpy(COLOUR).permute(2, 0, 1))


def test_order_is_kept_over_many_parts_and_threads():
    small = [png(np.full((3, 3), k % 251, np.uint8)) for k in range(1203)]
    assert torch.equal(decode(small, "made")[:, 0, 0, 0], (torch.arange(1203) % 251).to(torch.uint8))
    large = [png(np.full((130, 130), k % 251, np.uint8)) for k in range(501)]
    assert torch.equal(decode(large, "made")[:, 0, 5, 5], (torch.arange(501) % 251).to(torch.uint8))


def test_jpeg_and_palette_images_are_read():
    flat = np.full((8, 8, 3), (200, 40, 90), np.uint8)
    jpeg = decode([png(flat, "JPEG", quality=95)], "made")[0].float()
    assert (jpeg - torch.tensor([200.0, 40.0, 90.0]).view(3, 1, 1)).abs().max() <= 4
    buffer = io.BytesIO()
    Image.fromarray(flat).quantize(4).save(buffer, "PNG")
    assert decode([buffer.getvalue()], "made").shape == (1, 3, 8, 8)


def test_sizes_that_differ_are_named():
    with pytest.raises(StackelbergError, match="made: image 1 has 4x7 pixels and image 0 5x6; resize them"):
        decode([png(GREY), png(np.zeros((7, 4), np.uint8))], "made")


@pytest.mark.parametrize("broken", [b"", None, b"no image at all", png(COLOUR)[:40], png(GREY)[:-30]])
def test_what_is_no_image_is_named(broken):
    with pytest.raises(StackelbergError, match="made: image 1 cannot be read"):
        decode([png(GREY), broken], "made")


def test_damage_anywhere_in_a_file_is_one_sentence_or_an_image():
    whole = png(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    sentences = 0
    for place in range(8, len(whole), 3):
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        try:
            decode([damaged], "made")
        except StackelbergError:
            sentences += 1
    assert sentences > 20


def test_sixteen_bits_are_refused():
    with pytest.raises(StackelbergError, match="8 bits a channel"):
        decode([png(np.zeros((4, 4), np.uint16))], "made")
