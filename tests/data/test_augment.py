import pytest
import torch
import torch.nn.functional as F

from stackelberg.data import Augment
from stackelberg.errors import StackelbergError
from stackelberg.threat import chance

X = torch.randint(1, 256, (300, 3, 6, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
KEYS = chance.fold(torch.arange(300), 5)


def candidates(image: torch.Tensor, pad: int, flip: bool) -> list[torch.Tensor]:
    """Every crop of the padded image, and of its mirror."""
    height, width = image.shape[1:]
    kinds = [image, image.flip(2)] if flip else [image]
    padded = [F.pad(kind, (pad,) * 4) for kind in kinds]
    places = range(2 * pad + 1)
    return [p[:, r : r + height, c : c + width] for p in padded for r in places for c in places]


@pytest.mark.parametrize(("pad", "flip"), [(0, False), (0, True), (2, False), (2, True)])
def test_each_image_is_a_crop_of_itself_and_all_crops_occur(pad, flip):
    moved = Augment(pad, flip)(X, KEYS)
    seen = set()
    for before, after in zip(X, moved, strict=True):
        matches = [k for k, crop in enumerate(candidates(before, pad, flip)) if torch.equal(crop, after)]
        assert matches
        seen.update(matches)
    assert len(seen) == (2 * pad + 1) ** 2 * (2 if flip else 1)


def test_the_same_keys_move_an_image_the_same_way_in_any_batch():
    augment = Augment(2)
    whole = augment(X, KEYS)
    assert torch.equal(augment(X[100:103], KEYS[100:103]), whole[100:103])
    assert not torch.equal(augment(X, chance.fold(KEYS, 1)), whole)


def test_floats_move_as_bytes_do():
    assert torch.equal(Augment(2)(X.float() / 255, KEYS), Augment(2)(X, KEYS).float() / 255)


def test_moves_and_mirrors_are_evenly_spread():
    # 3 rows, 3 columns, 2 mirrors, 20,000 images: each share within four standard deviations
    x = torch.arange(1, 10).to(torch.uint8).view(1, 1, 3, 3).expand(20000, 1, 3, 3)
    moved = Augment(1)(x, chance.fold(torch.arange(20000), 9))[:, 0]
    level = moved[:, 1, 1].long() - 1  # the pixel that came to the centre
    for place in range(3):
        assert (level // 3 == place).float().mean() == pytest.approx(1 / 3, abs=4 * (2 / 9 / 20000) ** 0.5)
        assert (level % 3 == place).float().mean() == pytest.approx(1 / 3, abs=4 * (2 / 9 / 20000) ** 0.5)
    inner = moved[:, 1, 1] == 5
    mirrored = (moved[inner, 1, 0] == 6).float().mean()
    assert mirrored == pytest.approx(0.5, abs=4 * (0.25 / float(inner.sum())) ** 0.5)


def test_a_generator_may_stand_for_the_keys():
    first = Augment(2)(X, torch.Generator().manual_seed(1))
    assert torch.equal(first, Augment(2)(X, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, Augment(2)(X, torch.Generator().manual_seed(2)))


def test_a_negative_pad_is_refused():
    with pytest.raises(StackelbergError, match="pad must be >= 0 pixels, got -1"):
        Augment(-1)


def test_the_gradient_of_a_moved_image_is_moved_back() -> None:
    x = torch.rand(6, 3, 9, 7, requires_grad=True)
    keys, weights = torch.arange(6), torch.rand(6, 3, 9, 7)
    (found,) = torch.autograd.grad((Augment(3)(x, keys) * weights).sum(), x)
    places = 1 + torch.arange(x.numel()).view(x.shape)
    landed = Augment(3)(places, keys)  # the place that each pixel of the answer comes from, 0 for the rim
    wanted = torch.zeros(x.numel() + 1).index_put((landed.flatten(),), weights.flatten(), accumulate=True)
    assert torch.allclose(found.flatten(), wanted[1:])


def test_a_gradient_needs_no_more_memory_than_some_images() -> None:
    x = torch.rand(64, 3, 32, 32, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        Augment(4)(x, torch.arange(64)).sum().backward()
    largest = max(event.cpu_memory_usage for event in profile.events() or ())
    assert largest < 10 * 4 * x.numel()  # all 81 windows would be 81 times the images
