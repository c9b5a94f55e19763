"""One network for every sample of a known law."""

import numpy as np
import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.memorize.compact import compact
from stackelberg.memorize.known import known, parity


@pytest.mark.parametrize("bits", [1, 2, 3, 6, 8])
def test_parity_of_every_corner(bits: int) -> None:
    corners = (np.arange(2**bits)[:, None] >> np.arange(bits)) & 1
    assert parity(bits)(corners).tolist() == (corners.sum(1) % 2).tolist()
    assert parity(bits).num_parameters <= bits + 20 * bits.bit_length()
    with pytest.raises(StackelbergError, match="bits must be 1 or more, got 0"):
        parity(0)


def test_a_known_law_costs_the_same_for_every_sample() -> None:
    chance = np.random.default_rng(0)
    centres = torch.from_numpy(chance.permutation(np.stack(np.meshgrid(*[[0.1, 0.5, 0.9]] * 3), -1).reshape(-1, 3)))
    y = torch.from_numpy(chance.integers(0, 2, 27))
    network = known(centres, y, 0.15)
    sizes = []
    for n in (50, 200, 800):
        which = torch.from_numpy(chance.integers(0, 27, n))
        x = centres[which] + torch.from_numpy(chance.uniform(-0.15, 0.15, (n, 3)))
        assert (network.predict(x) == y[which]).all()
        sizes.append(compact(x.numpy(), y[which].numpy()).num_parameters)
    assert sizes[0] < sizes[1] < sizes[2]
