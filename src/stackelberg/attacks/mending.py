"""What if a network hides its gradients?  Its own operations are asked for better ones, answer by answer.

A network is run as it is, but every torch operation passes through `Mend`, which undoes what blinds an attack without
changing the answer: a last softmax is taken off again (its saturation in float32 leaves no gradient), a stopped
gradient flows on, and rounding passes the gradient straight through (Bengio, Leonard and Courville 2013; BPDA of
Athalye, Carlini and Wagner 2018, section 4.1). No source is needed and no module must be known.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stackelberg.attacks.drawing import seeded

Call = Callable[..., Any]


class _Straight(torch.autograd.Function):
    """(x, value) -> value, and the gradient goes to x as if value were x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, None]:
        return gradients[0].to(ctx.dtype), None


_ROUNDING: set[Call] = {
    torch.round, Tensor.round, torch.floor, Tensor.floor, torch.ceil, Tensor.ceil, torch.trunc, Tensor.trunc,
    torch.fix, Tensor.fix, torch.sign, Tensor.sign, torch.sgn, Tensor.sgn,
}  # fmt: skip
_CASTS: set[Call] = {Tensor.int, Tensor.long, Tensor.short, Tensor.byte, Tensor.char, Tensor.to, Tensor.type}
_STOPS: set[Call] = {Tensor.detach, torch.detach, cast(Any, Tensor.data).__get__}
_OUT_OF_TORCH: set[Call] = {Tensor.numpy, Tensor.tolist, Tensor.__array__}
_SATURATING: dict[Call, str] = {
    function: name
    for name, functions in {
        "softmax": (F.softmax, torch.softmax, Tensor.softmax),
        "sigmoid": (F.sigmoid, torch.sigmoid, Tensor.sigmoid, torch.special.expit),
        "tanh": (F.tanh, torch.tanh, Tensor.tanh),
    }.items()
    for function in functions
}
_INCREASING: set[Call] = {torch.log, Tensor.log}
_SCALING: set[Call] = {torch.mul, Tensor.mul, torch.div, Tensor.div, Tensor.__mul__, Tensor.__truediv__}


class Mend(TorchFunctionMode):
    """Run a network with its gradients restored: `mend.answer(net, x)`.

    Attributes:
        found: what was undone for values that depend on the input: "softmax", "sigmoid", "tanh" (as the last
            operation), "rounding", "stopped gradient", "trip out of torch".
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._before: dict[int, tuple[Tensor, Tensor, str | None]] = {}  # id -> (result, what it was made of, name)
        self._left: list[Tensor] = []  # what went out of torch in this answer
        self._off = False

    def answer(self, net: nn.Module, x: Tensor) -> Tensor:
        """What `net` answers at x; in place of a last saturating operation what went into it."""
        self._before.clear()
        self._left.clear()
        self._off = False
        with self:
            out = net(x)
        steps, below = [], out
        while isinstance(below, Tensor) and id(below) in self._before:
            _, below, name = self._before[id(below)]
            if name is not None:
                steps.append(name)
        if steps:
            self.found |= set(steps)
            out = below
        self._before.clear()
        self._left.clear()
        return out

    def __torch_function__(self, func: Call, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:
            # gradients that this answer is computed without stay off; those it is computed with stay on
            self._off = not args[0]
            return None
        first = args[0] if args else kwargs.get("input")
        depends = isinstance(first, Tensor) and first.requires_grad
        if self._off and depends:
            self.found.add("stopped gradient")
        if not isinstance(first, Tensor):
            return func(*args, **kwargs)
        if self._left and not depends and first.dtype.is_floating_point and args:
            first = self._came_back(first)
            args, depends = (first, *args[1:]), first.requires_grad
        if depends and func in _STOPS:
            self.found.add("stopped gradient")
            return first
        if depends and (func in _ROUNDING or func in _CASTS):
            return self._rounded(first, func(*args, **kwargs))
        if func in _OUT_OF_TORCH:
            if depends:
                self._left.append(first)
            return func(first.detach(), *args[1:], **kwargs)
        out = func(*args, **kwargs)
        self._remember(func, args, first, out)
        return out

    def _rounded(self, x: Tensor, value: Tensor) -> Tensor:
        """Rounding, also by a cast to whole numbers, whose result stays a floating-point one."""
        if value.dtype.is_floating_point and value.requires_grad and value.dtype is not x.dtype:
            return value  # a cast between floating-point types has its own gradient
        if value is x:
            return x
        self.found.add("rounding")
        return cast(Tensor, _Straight.apply(x, value.detach().to(x.dtype)))

    def _came_back(self, value: Tensor) -> Tensor:
        """A trip out of torch and back in the same shape is taken for the identity by the gradient."""
        for place, source in enumerate(self._left):
            if source.shape == value.shape:
                del self._left[place]
                self.found.add("trip out of torch")
                return cast(Tensor, _Straight.apply(source, value))
        return value

    def _remember(self, func: Call, args: Any, first: Tensor, out: Any) -> None:
        """What went into an operation that keeps the order of a row, should it turn out to be the last."""
        if func in _SATURATING:
            self._before[id(out)] = (out, first, _SATURATING[func])
        elif func in _INCREASING or (func in _SCALING and _is_positive(args[1:2])):
            self._before[id(out)] = (out, first, None)


def _is_positive(factor: tuple[Any, ...]) -> bool:
    return len(factor) == 1 and isinstance(factor[0], int | float) and factor[0] > 0


def mended(model: nn.Module, x: Tensor) -> Mend | None:
    """The mend a network needs, by one answer at a few inputs [B, *shape]; None where it needs none or bears none.

    The mended answer must rank the classes as the network's own does, up to what saturation has made equal.
    """
    with torch.no_grad(), seeded(0):
        truth = model(x)
    mend = Mend()
    try:
        with torch.enable_grad(), seeded(0):
            out = mend.answer(model, x.detach().clone().requires_grad_(True)).detach()
    except Exception:  # any user code runs under the mend, so any error may come out; the network itself is used then
        return None
    if not mend.found or out.shape != truth.shape:
        return None
    top = truth.gather(1, out.argmax(1, keepdim=True))[:, 0]
    return mend if torch.allclose(top, truth.amax(1), atol=1e-6) else None
