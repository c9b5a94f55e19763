"""What if a network hides its gradients?  Its own operations are asked for better ones, answer by answer.

A network is run as it is, but every torch operation passes through `Mend`, which undoes what blinds an attack without
changing the answer: a last softmax is taken off again (its saturation in float32 leaves no gradient), a stopped
gradient flows on, and rounding, thresholds and votes pass the gradient straight through (Bengio, Leonard and Courville
2013; BPDA of Athalye, Carlini and Wagner 2018, section 4.1). No source is needed and no module must be known.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stackelberg.attacks.drawing import seeded
from stackelberg.attacks.order import SATURATING, Call, keeps_order


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
    torch.fix, Tensor.fix, torch.sign, Tensor.sign, torch.sgn, Tensor.sgn, torch.bucketize, torch.heaviside,
    Tensor.heaviside,
}  # fmt: skip
_WHOLE: set[Call] = {torch.floor_divide, Tensor.floor_divide, Tensor.__floordiv__}
_CASTS: set[Call] = {Tensor.int, Tensor.long, Tensor.short, Tensor.byte, Tensor.char, Tensor.to, Tensor.type}
_STOPS: set[Call] = {Tensor.detach, torch.detach, cast(Any, Tensor.data).__get__}
_OUT_OF_TORCH: set[Call] = {Tensor.numpy, Tensor.tolist, Tensor.__array__}
_CHOICES: set[Call] = {torch.argmax, Tensor.argmax}
_VIEWS: set[Call] = {
    torch.unsqueeze, Tensor.unsqueeze, torch.squeeze, Tensor.squeeze, Tensor.view, Tensor.reshape, Tensor.long,
    Tensor.to, Tensor.__getitem__,
}  # fmt: skip
_TESTS: dict[Call, int] = {
    Tensor.gt: 1, Tensor.ge: 1, torch.gt: 1, torch.ge: 1, Tensor.__gt__: 1, Tensor.__ge__: 1, Tensor.eq: 1, torch.eq: 1,
    Tensor.__eq__: 1, Tensor.lt: -1, Tensor.le: -1, torch.lt: -1, torch.le: -1, Tensor.__lt__: -1, Tensor.__le__: -1,
}  # fmt: skip
_FLOATS: set[Call] = {Tensor.float, Tensor.double, Tensor.half, Tensor.to, Tensor.type, Tensor.type_as}


class Mend(TorchFunctionMode):
    """Run a network with its gradients restored: `mend.answer(net, x)`.

    Attributes:
        found: what was undone for values that depend on the input: "softmax", "sigmoid", "tanh", "clipping" (as the
            last operation), "labels alone", "rounding", "threshold", "stopped gradient", "trip out of torch".
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._before: dict[int, tuple[Tensor, Tensor, str | None]] = {}  # id -> (result, what it was made of, name)
        self._left: list[Tensor] = []  # what went out of torch in this answer
        self._chosen: dict[int, tuple[Tensor, Tensor]] = {}  # id -> (whole numbers, the scores they were chosen by)
        self._tested: dict[int, tuple[Tensor, Tensor]] = {}  # id -> (truth values, what they rise with)
        self._off = False

    def answer(self, net: nn.Module, x: Tensor) -> Tensor:
        """What `net` answers at x; in place of a last saturating operation what went into it."""
        self._forget()
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
        self._forget()
        return out

    def _forget(self) -> None:
        for kept in (self._before, self._left, self._chosen, self._tested):
            kept.clear()

    def __torch_function__(self, func: Call, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:
            # gradients that this answer is computed without stay off; those it is computed with stay on
            self._off = not args[0]
            return None
        first = args[0] if args else kwargs.get("input")
        if not isinstance(first, Tensor):
            return func(*args, **kwargs)
        if self._off and first.requires_grad:
            self.found.add("stopped gradient")
        if self._left and not first.requires_grad and first.dtype.is_floating_point and args:
            first = self._came_back(first)
            args = (first, *args[1:])
        if first.requires_grad and (func in _STOPS or func in _ROUNDING or func in _CASTS or func in _WHOLE):
            return self._let_through(func, first, args, kwargs)
        if func in _OUT_OF_TORCH:
            if first.requires_grad:
                self._left.append(first)
            return func(first.detach(), *args[1:], **kwargs)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor):
            return out
        self._remember(func, args, first, out)
        return self._decided(func, args, first, out) if self._chosen or self._tested else out

    def _let_through(self, func: Call, first: Tensor, args: Any, kwargs: Any) -> Tensor:
        """What stops or rounds does not stop the gradient."""
        if func in _STOPS:
            self.found.add("stopped gradient")
            return first
        if func in _WHOLE:  # x // s rises as x / s does
            self.found.add("rounding")
            return cast(Tensor, _Straight.apply(first / args[1], func(first.detach(), *args[1:], **kwargs)))
        return self._rounded(first, func(*args, **kwargs))

    def _decided(self, func: Call, args: Any, first: Tensor, out: Tensor) -> Tensor:
        """What was made of a choice or a test passes the gradient straight through to what decided it."""
        if id(first) in self._tested and func in _FLOATS:
            source = self._tested[id(first)][1]
            self.found |= {"threshold"} if source.requires_grad else set()
            return cast(Tensor, _Straight.apply(source, out)) if out.shape == source.shape else out
        choice = next((arg for arg in args if id(arg) in self._chosen), None)
        if choice is None:
            return out
        scores = self._chosen[id(choice)][1]
        if choice is first and func in _VIEWS and out.numel() == len(scores):
            self._chosen[id(out)] = (out, scores)
        elif out.shape == scores.shape:
            self.found |= {"labels alone"} if scores.requires_grad else set()
            nuance = 0.01 * scores.detach().softmax(1)  # which of the classes that got no vote is nearest to one
            out = cast(Tensor, _Straight.apply(scores, out.to(scores.dtype) + nuance))
            self._before[id(out)] = (out, scores, "labels alone")
        return out

    def _rounded(self, x: Tensor, value: Tensor) -> Tensor:
        """Rounding, also by a cast to whole numbers, whose result stays a floating-point one."""
        if value.dtype.is_floating_point and value.requires_grad and value.dtype is not x.dtype:
            return value  # a cast between floating-point types has its own gradient
        if value is x:
            return x
        self.found.add("rounding")
        out = cast(Tensor, _Straight.apply(x, value.detach().to(x.dtype)))
        self._before[id(out)] = (out, x, None)
        return out

    def _came_back(self, value: Tensor) -> Tensor:
        """A trip out of torch and back in the same shape is taken for the identity by the gradient."""
        for place, source in enumerate(self._left):
            if source.shape == value.shape:
                del self._left[place]
                self.found.add("trip out of torch")
                return cast(Tensor, _Straight.apply(source, value))
        return value

    def _remember(self, func: Call, args: Any, first: Tensor, out: Tensor) -> None:
        """What went into an operation that keeps the order of a row, should it turn out to be the last; and decisions.

        A decision among the scores of a row, or a comparison, is no number: `_decided` meets what is made of it.
        """
        if func in _CHOICES and first.dim() == 2 and out.numel() == len(first):
            self._chosen[id(out)] = (out, first)
        elif func in _TESTS:
            self._tested[id(out)] = (out, first if _TESTS[func] > 0 else -first)
        elif out is not first and keeps_order(func, args):
            self._before[id(out)] = (out, first, SATURATING.get(func))


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
