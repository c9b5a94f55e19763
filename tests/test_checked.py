"""The tests' own checker of annotations refuses what jaxtyping's refuses: type, dtype and axes that do not agree."""

from typing import Any

import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from torch import Tensor

from checked import checked

X, Y = torch.zeros(3, 2, 5), torch.zeros(3, dtype=torch.int64)


@checked
def first(x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"]) -> Float[Tensor, " B *shape"]:
    return x if len(y) else x[0]


@checked
def either(x: Float[Tensor, "B 2"] | Float[Tensor, "B 3"] | None, y: Shaped[Tensor, " B"]) -> bool:
    return x is None


@checked
def arrays(x: Float32[np.ndarray, "n n"]) -> Bool[np.ndarray, " n"]:
    return x[0] > 0


@pytest.mark.parametrize("again", range(2))  # what is remembered of a dtype is right the second time, too
def test_what_agrees_passes(again: int) -> None:
    assert first(X, Y) is X
    assert first(X.double(), Y).dtype == torch.float64
    assert first(torch.nn.Parameter(X), Y).shape == X.shape
    assert either(None, Y)
    assert not either(torch.zeros(3, 3), Y)  # the axes of the refused half of the union are forgotten
    assert not either(torch.zeros(4, 2), torch.zeros(4, dtype=torch.bool))
    assert not arrays(np.zeros((4, 4), np.float32)).any()


@pytest.mark.parametrize("again", range(2))
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (first, (X.long(), Y)),
        (first, (X, Y.float())),
        (first, (X, torch.zeros(4, dtype=torch.int64))),
        (first, (X, Y[None])),
        (first, (X.numpy(), Y)),
        (first, (torch.tensor(0.0), Y)),
        (either, (torch.zeros(3, 4), Y)),
        (either, (torch.zeros(3, 3), Y[:2])),
        (arrays, (np.zeros((4, 4)),)),
        (arrays, (np.zeros((4, 3), np.float32),)),
        (arrays, (torch.zeros(4, 4),)),
    ],
)
def test_what_does_not_agree_is_refused(again: int, function: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(BeartypeCallHintParamViolation):
        function(*arguments)


@checked
def shorter(x: Float[Tensor, " B *shape"]) -> Float[Tensor, " B *shape"]:
    return x[1:]


def test_a_result_is_held_to_the_axes_of_the_arguments() -> None:
    with pytest.raises(BeartypeCallHintReturnViolation):
        shorter(X)
