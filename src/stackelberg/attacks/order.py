"""Which operations leave the order of a row of scores as it is?  Those can be taken off the end of a network.

An attack asks which class comes first, so z may take the place of f(z) wherever f rises in every score of a row. Of
these operations some saturate: then f(z) has no gradient in float32 where z has one (Carlini and Wagner 2017, section
IV), or, as with clipping, classes become equal that were not.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Call = Callable[..., Any]

SATURATING: dict[Call, str] = {
    function: name
    for name, functions in {
        "softmax": (F.softmax, torch.softmax, Tensor.softmax),
        "sigmoid": (F.sigmoid, torch.sigmoid, Tensor.sigmoid, torch.special.expit),
        "tanh": (F.tanh, torch.tanh, Tensor.tanh),
        "clipping": (
            torch.clamp, Tensor.clamp, torch.clip, Tensor.clip, torch.clamp_max, Tensor.clamp_max, torch.clamp_min,
            Tensor.clamp_min, F.hardtanh, F.hardsigmoid, F.relu, torch.relu, Tensor.relu, F.relu6, F.softsign,
        ),
    }.items()
    for function in functions
}  # fmt: skip
"""By the names that reports give them."""

OTHER_UNITS = frozenset({*SATURATING.values(), "labels alone", "probabilities"})
"""Mends by which the answers attacked are not those that the network gives: its end taken off, or their logarithms."""

_RISING: set[Call] = {
    torch.log, Tensor.log, torch.exp, Tensor.exp, F.log_softmax, torch.log_softmax, Tensor.log_softmax, Tensor.float,
    Tensor.double, Tensor.half, Tensor.bfloat16, Tensor.to, Tensor.contiguous, torch.clone, Tensor.clone,
}  # fmt: skip
_SHIFTING: set[Call] = {torch.add, Tensor.add, torch.sub, Tensor.sub, Tensor.__add__, Tensor.__radd__, Tensor.__sub__}
_SCALING: set[Call] = {torch.mul, Tensor.mul, torch.div, Tensor.div, Tensor.__mul__, Tensor.__truediv__}


def keeps_order(function: Call, arguments: tuple[Any, ...]) -> bool:
    """Whether function(z, ...) ranks the classes of each row as z does, but for those it makes equal."""
    if function in SATURATING or function in _RISING:
        return True
    second = arguments[1] if len(arguments) == 2 else None
    if function in _SHIFTING:
        return isinstance(second, int | float)
    return function in _SCALING and isinstance(second, int | float) and second > 0
