"""How far is each input from each stored point?  ||x_b - w_o||_p for all pairs, with gradients, never as [B, m, n].

On a processor compiled loops do it (`distance_loops`); elsewhere torch does, in blocks.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.models.distance_loops import gradients, greatest, greatest_places, norms, scatter, tiled

_BLOCK = 1 << 24  # differences that torch holds at a time


def distances(x: Float[Tensor, "B n"], points: Float[Tensor, "m n"], p: float) -> Float[Tensor, "B m"]:
    """(sum_i |x_bi - w_oi|^p)^(1/p), or max_i |x_bi - w_oi| for p = inf; differentiable once in both.

    With u = x - w the gradient in x is sign(u_i) (|u_i| / ||u||_p)^(p - 1); at p = inf it is sign(u_i) at one of the
    largest coordinates (under torch.func shared among them). It is 0 where u = 0. NaN and infinity go through. Error:
    p = inf one unit in the last place of the difference, else about n + p units.

    Args:
        x: inputs, brought to the type of the points.
        points: w.
        p: an even number >= 2, or infinity.
    """
    if p != math.inf and (p < 2 or p % 2):
        raise StackelbergError(f"p must be an even number >= 2 or infinity, got {p:g}; pass {2 * max(1, round(p / 2))}")
    traced = torch.jit.is_tracing() or torch.compiler.is_exporting()  # pyright: ignore[reportPrivateImportUsage]
    if traced or _transformed(x, points):
        return _norms(x.to(points.dtype), points, p)
    return _Distances.apply(x.to(points.dtype), points, p)  # pyright: ignore[reportReturnType]


def _transformed(*tensors: Tensor) -> bool:
    """Whether torch.func takes gradients or batches of them: the loops see no such tensor's numbers."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # pyright: ignore[reportAttributeAccessIssue]
    return any(wrapped(tensor) for tensor in tensors)


def _norms(x: Tensor, points: Tensor, p: float) -> Tensor:
    """By torch's operations, which a file can hold: to a trace the compiled loops' answer would be a constant."""
    apart = (x.unsqueeze(1) - points).abs()
    top = apart.amax(-1)
    if p == math.inf:
        return top
    scaled = apart / top.clamp(min=torch.finfo(top.dtype).tiny).unsqueeze(-1)
    return top * scaled.pow(p).sum(-1).pow(1 / p)


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, points: Tensor, p: float) -> Tensor:
        x, points = x.contiguous(), points.contiguous()
        compiled = x.device.type == "cpu" and x.dtype == points.dtype and x.dtype in (torch.float32, torch.float64)
        with torch._C.DisableTorchFunction():  # the loops' arrays are no trip of the network out of torch
            norm, place = (_compiled if compiled else _blocks)(x, points, p, any(ctx.needs_input_grad))
        ctx.save_for_backward(x, points, norm, place)
        ctx.p, ctx.compiled = p, compiled
        return norm

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, points, norm, place = ctx.saved_tensors
        to_x, to_points = torch.zeros_like(x), torch.zeros_like(points)
        if not ctx.compiled:
            _blocks_back(x, points, norm, gradient, ctx.p, to_x, to_points)
            return to_x, to_points, None
        given = [t.contiguous().numpy() for t in (x, points, norm, gradient)]
        if place is not None:
            scatter(given[0], given[1], place.numpy(), given[3], to_x.numpy(), to_points.numpy())
        else:
            gradients(int(ctx.p))(*given, to_x.numpy(), to_points.numpy())
        return to_x, to_points, None


def _compiled(x: Tensor, points: Tensor, p: float, places: bool) -> tuple[Tensor, Tensor | None]:
    """(the norms, and for p = inf on request where they are attained, int32 [B, m])."""
    norm = x.new_empty(len(x), len(points))
    a, tiles, out = x.detach().numpy(), tiled(points.detach().numpy()), norm.numpy()
    place = None
    if p == math.inf and places:
        place = torch.zeros(norm.shape, dtype=torch.int32)
        greatest_places(a, tiles, out, place.numpy())
    else:
        greatest(a, tiles, out)
    if p != math.inf:
        norms(int(p))(a, tiles, out)
    norm += (0 * x).sum(1, keepdim=True) + (0 * points).sum(1)  # NaN and infinity go through
    return norm, place


def _blocks(x: Tensor, points: Tensor, p: float, places: bool) -> tuple[Tensor, None]:
    """The norms by torch, a block of points at a time."""
    return torch.cat([_norms(x, some, p) for some in points.split(max(1, _BLOCK // x.numel()))], 1), None


def _blocks_back(
    x: Tensor, points: Tensor, norm: Tensor, gradient: Tensor, p: float, to_x: Tensor, to_points: Tensor
) -> None:
    """The gradients by torch, a block of points at a time."""
    step = max(1, _BLOCK // x.numel())
    for at in range(0, len(points), step):
        here = slice(at, at + step)
        apart = x[:, None] - points[here]
        if p == math.inf:
            size = apart.abs()
            share = torch.zeros_like(apart).scatter(-1, size.argmax(-1, keepdim=True), 1.0)
        else:
            share = (apart.abs() / norm[:, here, None].clamp(min=torch.finfo(norm.dtype).tiny)).pow(p - 1)
        part = share * apart.sign() * gradient[:, here, None]
        to_x += part.sum(1)
        to_points[here] -= part.sum(0)
