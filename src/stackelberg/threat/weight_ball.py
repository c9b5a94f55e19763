"""How far may weights move?  A set around each weight tensor, relative to its own size, held exactly in float32."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.errors import StackelbergError, unknown

WeightNorm = Literal["linf", "l2", "l0"]


@dataclass(frozen=True)
class WeightBall:
    """All tensors W' within a relative distance of a tensor W of a network (Yu, Wang and Gao 2023).

    linf: |W'_j - W_j| <= size * |W_j| for every weight, so a zero weight cannot move; l2: ||W' - W||_2 <= size *
    ||W||_2 of every tensor; l0: at most floor(size * numel) weights of every tensor differ, by any amount.

    Attributes:
        norm: "linf", "l2" or "l0".
        size: relative, without unit: 0.01 is one per cent; for l0 the share of the weights. At least 0, below 1.
    """

    norm: str
    size: float

    def __post_init__(self) -> None:
        if self.norm not in get_args(WeightNorm):
            raise unknown("norm of the weights", self.norm, get_args(WeightNorm))
        if not (math.isfinite(self.size) and 0 <= self.size < 1):
            raise StackelbergError(
                f"the size of a weight change must lie in [0, 1), relative to the weights, got {self.size:g}; for one"
                " per cent pass 0.01"
            )

    def count(self, weight: Tensor) -> int:
        """How many entries of a tensor may differ: all, but for l0."""
        return int(self.size * weight.numel()) if self.norm == "l0" else weight.numel()

    @torch.no_grad()
    def spent(self, moved: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"]) -> float:
        """The relative distance of W' from W in this norm, in float64; infinite where a zero weight moved (linf)."""
        delta, w = moved.double() - weight.double(), weight.double()
        if not delta.any():
            return 0.0
        if self.norm == "l0":
            return float((delta != 0).double().mean())
        if self.norm == "l2":
            return float(delta.norm() / w.norm())
        apart = delta != 0
        return float((delta[apart].abs() / w[apart].abs()).max())

    @torch.no_grad()
    def project(self, moved: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The nearest W' in the set (least squares); `spent` of it is at most `size`, rounding included."""
        if self.norm == "linf":
            return _inside(moved, weight, self.size)
        delta = moved - weight
        if self.norm == "l0":
            kept = delta.abs().flatten().topk(self.count(weight)).indices
            flat = weight.flatten().clone()
            flat[kept] = moved.flatten()[kept]
            return flat.view_as(weight)
        budget = self.size * float(weight.double().norm())
        factor, result = 1.0, moved.clone()
        while (norm := float((result.double() - weight.double()).norm())) > budget:
            factor *= budget / norm * (1 - 1e-7)
            result = weight + factor * delta
            if factor == 0:
                return weight.clone()
        return result

    @torch.no_grad()
    def ascent(self, slope: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The steepest step of relative length 1: |W| sign(slope) for linf, else ||W||_2 slope / ||slope||_2."""
        if self.norm == "linf":
            return weight.abs() * slope.sign()
        return weight.norm() * slope / slope.norm().clamp(min=torch.finfo(slope.dtype).tiny)

    @torch.no_grad()
    def sample(self, weight: Float[Tensor, "*shape"], chance: torch.Generator) -> Float[Tensor, "*shape"]:
        """A random W' on the rim of the set: random signs (linf), a random direction (l2), or random places (l0).

        For l0 the entries at the places become the tensor's largest magnitude with random signs. The generator is one
        of the CPU, so that the device does not matter.
        """
        signs = (torch.randint(0, 2, weight.shape, generator=chance) * 2 - 1).to(weight)
        if self.norm == "linf":
            return _inside(weight + self.size * weight.abs() * signs, weight, self.size)
        if self.norm == "l2":
            direction = torch.randn(weight.shape, generator=chance).to(weight)
            return self.project(weight + self.size * self.ascent(direction, weight), weight)
        places = torch.randperm(weight.numel(), generator=chance)[: self.count(weight)].to(weight.device)
        flat = weight.flatten().clone()
        flat[places] = weight.abs().max() * signs.flatten()[places]
        return flat.view_as(weight)

    @torch.no_grad()
    def shuffled(
        self, moved: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"], chance: torch.Generator
    ) -> Float[Tensor, "*shape"]:
        """A random change of exactly the size of W' - W, to compare with.

        linf: the same change of every weight, with random signs; l2: a random direction of the same length; l0: the
        same changes at random places.
        """
        delta = moved - weight
        if self.norm == "l2":
            direction = torch.randn(weight.shape, generator=chance).to(weight)
            length = delta.double().norm() / direction.double().norm()
            return self.project(weight + length.to(weight.dtype) * direction, weight)
        if self.norm == "linf":
            signs = (torch.randint(0, 2, weight.shape, generator=chance) * 2 - 1).to(weight)
            return _inside(weight + delta * signs, weight, self.size)
        order = torch.randperm(weight.numel(), generator=chance).to(weight.device)
        return weight + delta.flatten()[order].view_as(weight)


def _inside(moved: Tensor, weight: Tensor, size: float) -> Tensor:
    """W' cut to |W'_j - W_j| <= size |W_j|; a bound that float32 rounds outward is moved one number inward."""
    reach = size * weight.double().abs()
    low, high = weight.double() - reach, weight.double() + reach
    low32, high32 = low.to(weight.dtype), high.to(weight.dtype)
    low32 = torch.where(low32.double() < low, low32.nextafter(weight), low32)
    high32 = torch.where(high32.double() > high, high32.nextafter(weight), high32)
    return moved.clamp(low32, high32)
