"""Random numbers that belong to the example: independent of batch and place, and good enough to be called random."""

import pytest
import torch
from scipy import stats

from stackelberg.threat import chance


def test_keys_follow_content_and_seed_not_place():
    x = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    keys = chance.example_keys(x, 1)
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    assert torch.equal(chance.example_keys(x[order], 1), keys[order])
    assert torch.equal(chance.example_keys(x[2:3], 1), keys[2:3])
    assert len(set(keys.tolist())) == 6
    assert not torch.equal(chance.example_keys(x, 2), keys)


def test_one_bit_of_one_pixel_changes_the_key():
    x = torch.zeros(2, 10)
    x[1, 3] = 1e-38
    keys = chance.example_keys(x, 0)
    assert keys[0] != keys[1]


def test_moving_a_value_to_another_pixel_changes_the_key():
    keys = chance.example_keys(torch.eye(5), 0)
    assert len(set(keys.tolist())) == 5


@pytest.mark.parametrize("stream", [0, 1, 7])
def test_uniform_is_uniform_within_and_across_examples(stream):
    keys = chance.fold(torch.arange(200), 3)
    u = chance.uniform(keys, (10, 10), stream)
    assert u.shape == (200, 10, 10)
    assert u.dtype == torch.float32
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(u[:, 0, 0].numpy(), "uniform").pvalue > 1e-4


def test_streams_drawn_together_are_those_drawn_one_by_one():
    keys = chance.example_keys(torch.eye(4), 0)
    together = chance.uniforms(keys, 3, 5)
    assert torch.equal(together, torch.stack([chance.uniform(keys, (5,), stream) for stream in range(3)], 1))


def test_streams_and_folds_are_uncorrelated():
    keys = torch.arange(5000)
    draws = torch.stack(
        [chance.uniform(keys, (), 0), chance.uniform(keys, (), 1), chance.uniform(chance.fold(keys, 0), ())]
    )
    off = torch.corrcoef(draws) - torch.eye(3)
    assert off.abs().max() < 0.06


def test_normal_is_normal():
    z = chance.normal(torch.arange(300), (30,))
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-4


def test_integers_cover_their_range_evenly():
    k = chance.integers(torch.arange(7000), 7)
    assert stats.chisquare(torch.bincount(k, minlength=7).numpy()).pvalue > 1e-4
    assert int(k.max()) == 6


def test_the_generator_is_splitmix64():
    """The first output of SplitMix64 from state 0, as published with the generator, is e220a8397b1dcdaf."""
    first = int(chance._mix(torch.tensor([chance._WEYL]))[0]) & (2**64 - 1)
    assert first == 0xE220A8397B1DCDAF
