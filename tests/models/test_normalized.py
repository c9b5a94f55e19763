import pytest
import torch
from torch import nn

from stackelberg.errors import StackelbergError
from stackelberg.models import Normalized


def test_it_is_the_formula_and_its_numbers_are_saved():
    model = Normalized(nn.Flatten(), mean=[0.1, 0.2], std=[0.5, 0.25])
    x = torch.rand(3, 2, 4, 4)
    expected = torch.stack([(x[:, 0] - 0.1) / 0.5, (x[:, 1] - 0.2) / 0.25], 1).flatten(1)
    assert torch.allclose(model(x), expected, atol=1e-6)
    assert set(model.state_dict()) == {"mean", "std"}
    assert not list(model.parameters())


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ([0.1], [0.2, 0.3], "got 1 and 2"),
        ([], [], "got 0 and 0"),
        ([0.1], [0.0], "std > 0"),
        ([float("nan")], [1.0], "must be finite"),
        ([0.1], [float("inf")], "must be finite"),
    ],
)
def test_numbers_that_cannot_normalise_are_refused(mean, std, said):
    with pytest.raises(StackelbergError, match=said):
        Normalized(nn.Flatten(), mean, std)
