"""The U-Net: a field of the image's shape, told labels or not."""

import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.models import UNet


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 17, 9), (1, 4, 4)])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_field_has_the_images_shape_and_stays_below_one(shape: tuple[int, int, int], classes: int) -> None:
    x = torch.rand(4, *shape)
    field = UNet(shape, 4, classes)(x, torch.tensor([0, 1, 2, 0]) if classes else None)
    assert field.shape == x.shape
    assert float(field.detach().abs().max()) <= 1
    assert float(field.detach().std()) > 0.1


def test_in_evaluation_mode_an_image_does_not_see_the_others() -> None:
    network, x, y = UNet((1, 8, 8), 4, 3).eval(), torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(network(x, y)[2:3], network(x[2:3], y[2:3]))


def test_labels_change_the_answer() -> None:
    network, x = UNet((1, 8, 8), 4, 3).eval(), torch.rand(1, 1, 8, 8)
    fields = [network(x, torch.tensor([k])) for k in range(3)]
    assert not torch.equal(fields[0], fields[1])
    assert not torch.equal(fields[1], fields[2])


def test_the_wrong_question_is_named() -> None:
    with pytest.raises(StackelbergError, match="at least 4x4 pixels"):
        UNet((1, 3, 8))
    with pytest.raises(StackelbergError, match="made for 3 labels: pass it the labels, too"):
        UNet((1, 8, 8), 4, 3)(torch.rand(1, 1, 8, 8))
    with pytest.raises(StackelbergError, match="made for 0 labels: pass it the images alone"):
        UNet((1, 8, 8), 4)(torch.rand(1, 1, 8, 8), torch.tensor([0]))
