"""What if there is no network to look into, only answers?  Any callable as a module, from which no gradient comes."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.imported import Wrapped
from stackelberg.models.logits_of import LogitsOf, answers_with_a_record


class BlackBox(nn.Module):
    """A function of a batch of inputs that answers with scores [B, K], or with labels [B] alone.

    Where it gives scores, attacks that search by scores run on it (`attacks.Square`); where it gives labels, only those
    that search by decisions (`attacks.HopSkipJump`). Labels come out as scores of 1 for the label and -1 for the rest.

    Attributes:
        function: takes a float32 tensor [B, *shape]; returns a tensor, an array, or what numpy makes an array of.
        classes: K; needed for labels.
        labels: whether it returns labels, integers [B].
        arrays: whether it takes numpy arrays in the place of tensors.

    >>> bright = BlackBox(lambda x: x.mean((1, 2, 3)) > 0.5, classes=2, labels=True, arrays=True)
    >>> bright(torch.ones(1, 1, 2, 2))
    tensor([[-1.,  1.]])
    """

    def __init__(
        self, function: Callable[[Any], Any], classes: int | None = None, labels: bool = False, arrays: bool = False
    ) -> None:
        super().__init__()
        self.function, self.classes, self.labels, self.arrays = function, classes, labels, arrays

    def forward(self, x: Float[Tensor, " B *shape"]) -> Float[Tensor, "B K"]:
        with torch._C.DisableTorchFunction(), torch.no_grad():  # nobody looks in, also no mode of torch functions
            point = x.detach().float()
            answer = _tensor(self.function(point.cpu().numpy() if self.arrays else point), x.device)
        if not self.labels:
            return answer if answer.is_floating_point() else answer.float()
        if self.classes is None:
            raise StackelbergError(
                "a black box that gives labels must say how many there are: pass BlackBox(..., classes=10)"
            )
        names = answer.reshape(len(x), -1).long()
        if names.shape[1] != 1 or bool(((names < 0) | (names >= self.classes)).any()):
            raise StackelbergError(
                f"a black box must give one label in 0..{self.classes - 1} for each input, got an answer of shape"
                f" {list(answer.shape)} with values {answer.min().item():g}..{answer.max().item():g}; pass the right"
                " number of classes"
            )
        return torch.full((len(x), self.classes), -1.0, device=x.device).scatter_(1, names, 1.0)


def _tensor(answer: Any, device: torch.device) -> Tensor:
    if not isinstance(answer, Tensor):
        answer = torch.from_numpy(np.array(answer))
    return answer.detach().to(device)


def network(model: nn.Module | Callable[..., Any], x: Tensor, classes: int | None = None) -> nn.Module:
    """A module of whatever answers for a batch: a module as it is, a callable by how it answers for two of `x`.

    A callable that returns a floating-point tensor [B, K] may be differentiable, and is asked for gradients like any
    network. One that returns an array, or labels, becomes a `BlackBox`.

    Raises:
        StackelbergError: the callable fails on these inputs.
    """
    if isinstance(model, BlackBox) and model.labels and model.classes is None:
        known = copy.copy(model)
        known.classes = classes
        return known
    function = model.function if isinstance(model, Wrapped) else model
    if isinstance(function, nn.Module):
        return LogitsOf(function) if answers_with_a_record(function) else function
    if not callable(function):
        raise StackelbergError(
            f"a {type(function).__name__} answers for no batch; pass a module or a function of a batch, or of a"
            " classifier of scikit-learn models.of_estimator(it)"
        )
    try:
        answer = function(x[:2].clone())
    except Exception as error:  # the user's code may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StackelbergError(
            f"the model {getattr(function, '__name__', type(function).__name__)} fails on a tensor of inputs of shape"
            f" {list(x.shape[1:])} ({reason}); if it takes numpy arrays, pass models.BlackBox(model, arrays=True)"
        ) from error
    kind = _tensor(answer, x.device)
    labels = not kind.is_floating_point() and kind.dim() < 2
    if isinstance(answer, Tensor) and not labels:
        return model if isinstance(model, nn.Module) else Wrapped(function)
    return BlackBox(function, classes, labels)
