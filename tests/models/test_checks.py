import pytest
import torch
from torch import nn

from stackelberg.errors import StackelbergError
from stackelberg.models import Normalized, build, check_output

X = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Answer(nn.Module):
    """A network that answers by a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def linear(x):
    return x.flatten(1)[:, :10]


def test_a_classifier_passes_and_is_left_as_it_was():
    model = build("resnet18", 10, (3, 8, 8), width=4, seed=0).train()
    model.get_submodule("bn").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_output(model, X, 10)
    assert model.training
    assert not model.get_submodule("bn").training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: linear(x)[:, :7], r"output has the shape \[6, 7\], needed is \[6, 10\] \(one logit for each"),
        (lambda x: linear(x)[0], r"output has the shape \[10\]"),
        (lambda x: x, r"output has the shape \[6, 3, 8, 8\]"),
        (lambda x: (linear(x), x), r"returns a tuple, needed is one tensor \[6, 10\]"),
        (lambda x: {"logits": linear(x)}, "returns a dict"),
        (lambda x: linear(x).argsort(1), "output is torch.int64"),
        (lambda x: linear(x) / 0, "logits for image 0 are NaN or infinite"),
        (lambda x: x.flatten(1) @ torch.ones(5, 10), r"cannot take images of shape \[3, 8, 8\] \(mat1"),
        (lambda x: linear(x.view(6, 3, 8, 8)), "takes batches of exactly 6 images"),
        (lambda x: linear(x - x.mean(0)), "move by .* with the other images of the batch"),
    ],
)
def test_what_is_no_classifier_is_said_in_a_sentence(function, said):
    with pytest.raises(StackelbergError, match=said):
        check_output(Answer(function), X, 10)


def test_a_random_network_is_allowed():
    check_output(Answer(lambda x: linear(x) + torch.randn(len(x), 10)), X, 10)


def test_broadcasting_does_not_hide_the_wrong_channels():
    with pytest.raises(StackelbergError, match=r"was built for images \[3, 8, 8\], got \[1, 8, 8\]"):
        check_output(build("mlp", 10, (3, 8, 8), mean=[0.1] * 3, std=[1.0] * 3), X[:, :1], 10)
    with pytest.raises(StackelbergError, match="normalises 3 channels"):
        check_output(Normalized(Answer(linear), [0.1] * 3, [1.0] * 3), X[:, :1], 10)
