"""Bits of stored weights: a flip undoes itself, costs what its place says, and by choice it hurts more."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg import data, models
from stackelberg.attacks import BitFlips, worst_flips
from stackelberg.attacks.bit_flips import BITS, stored
from stackelberg.errors import StackelbergError

WEIGHT = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("format", list(BITS))
def test_flipping_twice_is_flipping_never(format: str) -> None:
    memory = stored(WEIGHT, format)
    address = torch.randperm(WEIGHT.numel() * BITS[format])[:40]
    once = memory.flipped(address)
    differ = (once.codes.long() ^ memory.codes.long()) & (2 ** BITS[format] - 1)
    assert sum(bin(value).count("1") for value in differ.flatten().tolist()) == 40
    assert torch.equal(once.flipped(address).codes, memory.codes)
    assert torch.equal(memory.codes, stored(WEIGHT, format).codes)  # the original stays


def test_every_bit_means_what_the_format_says() -> None:
    one = torch.tensor([1.0])
    assert stored(one, "float32").flipped(torch.tensor([31])).weight().item() == -1.0
    assert stored(one, "float32").flipped(torch.tensor([23])).weight().item() == 0.5
    assert stored(one, "float32").flipped(torch.tensor([30])).weight().item() == torch.inf
    assert stored(one, "bf16").flipped(torch.tensor([15])).weight().item() == -1.0
    assert stored(one, "bf16").flipped(torch.tensor([6])).weight().item() == 1.5
    pair = torch.tensor([1.27, 0.05])
    assert stored(pair, "int8").codes.tolist() == [127, 5]
    torch.testing.assert_close(stored(pair, "int8").flipped(torch.tensor([8])).weight(), torch.tensor([1.27, 0.04]))
    torch.testing.assert_close(stored(pair, "int8").flipped(torch.tensor([15])).weight(), torch.tensor([1.27, -1.23]))


def test_storing_rounds_to_the_nearest() -> None:
    assert torch.equal(stored(WEIGHT, "float32").weight(), WEIGHT)
    assert torch.equal(stored(WEIGHT, "bf16").weight(), WEIGHT.to(torch.bfloat16).float())
    assert (stored(WEIGHT, "int8").weight() - WEIGHT).abs().max() <= WEIGHT.abs().max() / 254 * 1.0001


@pytest.fixture(scope="module")
def net() -> nn.Module:
    train = data.load("digits", "train")
    model = models.build("mlp", 10, train.shape, 16, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x, y = train.batch(slice(None))
    for step in range(150):
        part = slice(step * 64 % 1300, step * 64 % 1300 + 64)
        optimizer.zero_grad()
        F.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
    return model.eval()


def test_as_many_bits_flip_as_asked_over_all_tensors(net: nn.Module) -> None:
    changed = BitFlips("float32", 50, seed=1)(net)
    count = 0
    for p, q in zip(net.parameters(), changed.parameters(), strict=True):
        apart = p.detach().view(torch.int32).long() ^ q.detach().view(torch.int32).long()
        count += sum(bin(value & (2**32 - 1)).count("1") for value in apart.flatten().tolist())
    assert count == 50
    assert all(
        torch.equal(a, b) for a, b in zip(net.parameters(), BitFlips("float32", 0)(net).parameters(), strict=True)
    )
    with pytest.raises(StackelbergError, match="count must lie between 0 and"):
        BitFlips("int8", 10**9)(net)
    with pytest.raises(StackelbergError, match="format of stored weights"):
        BitFlips("int4", 1)(net)


@pytest.mark.parametrize("format", list(BITS))
def test_chosen_flips_hurt_more_than_random_ones(net: nn.Module, format: str) -> None:
    x, y = data.load("digits", "test").batch(slice(0, 200))
    before = [p.detach().clone() for p in net.parameters()]
    right = [float((BitFlips(format, 4, seed)(net)(x).argmax(1) == y).float().mean()) for seed in range(3)]
    worst, flips = worst_flips(net, x[:100], y[:100], format, 4)
    assert len(flips) == 4
    assert float((worst(x).argmax(1) == y).float().mean()) < min(right) - 0.1
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
