"""How is a two-layer network with all parameters in [-1, 1] trained, copied, read and measured exactly?"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stackelberg.bounds.expressive import Expressed
from stackelberg.errors import StackelbergError


@dataclass(frozen=True, eq=False)
class Boxed:
    """F(x) = sum_i a_i relu(w_i . x + b_i) + c.

    Attributes:
        w: first layer, float64.
        b: its biases.
        a: second layer.
        c: output bias; 0 for a plain network.
    """

    w: Float[Tensor, "W d"]
    b: Float[Tensor, " W"]
    a: Float[Tensor, " W"]
    c: Float[Tensor, ""]

    def __call__(self, x: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """F at each point."""
        return torch.relu(x @ self.w.T + self.b) @ self.a + self.c

    @property
    def width(self) -> int:
        """W."""
        return len(self.a)

    @property
    def largest(self) -> float:
        """The largest |parameter|: at most 1 for a network of the class."""
        return max(float(part.abs().max()) for part in (self.w, self.b, self.a, self.c))

    @property
    def steepness(self) -> Tensor:
        """S = sum_i |a_i| ||w_i||_1: F moves by at most S times an l-infinity move."""
        return self.a.abs() @ self.w.abs().sum(1)

    def worst(self, x: Float[Tensor, "N d"], y: Float[Tensor, " N"], radius: float = 0.0) -> Float[Tensor, " N"]:
        """y F(x) - radius S, the margin with a bound of what an adversary takes off."""
        return y * self(x) - radius * self.steepness

    def risk(self, x: Float[Tensor, "N d"], y: Float[Tensor, " N"], radius: float = 0.0) -> float:
        """The mean logistic loss at `worst`, nats."""
        total = sum(
            float(F.softplus(-self.worst(one, label, radius)).sum())
            for one, label in zip(x.split(1 << 14), y.split(1 << 14), strict=True)
        )
        return total / len(x)

    def log_risk(self, x: Float[Tensor, "N d"], y: Float[Tensor, " N"], radius: float = 0.0) -> float:
        """ln of `risk`, where the risk itself is below the smallest float: ln ln(1 + e^-m) = -m to rounding, m > 40."""
        parts = []
        for one, label in zip(x.split(1 << 14), y.split(1 << 14), strict=True):
            margin = self.worst(one, label, radius)
            parts.append(torch.where(margin > 40, -margin, F.softplus(-margin.clamp(max=40)).log()).logsumexp(0))
        return float(torch.stack(parts).logsumexp(0)) - math.log(len(x))


def repeated(narrow: Boxed, width: int) -> Boxed:
    """floor(width / W_D) copies of a network side by side, with idle neurons up to `width`: its output times k.

    A bias c of the narrow one takes a neuron relu(0 . x + 1) with a = c for every copy but the first.
    """
    own = narrow.width + (1 if float(narrow.c) else 0)
    often = width // own
    if often < 1:
        raise StackelbergError(f"width must be at least {own} to hold one copy, got {width}")
    w, b, a = [narrow.w] * often, [narrow.b] * often, [narrow.a] * often
    carried, dimension = often - 1 if float(narrow.c) else 0, narrow.w.shape[1]
    idle = width - often * narrow.width - carried
    w += [narrow.w.new_zeros(carried + idle, dimension)]
    b += [narrow.b.new_ones(carried), narrow.b.new_zeros(idle)]
    a += [narrow.c.expand(carried), narrow.a.new_zeros(idle)]
    return Boxed(torch.cat(w), torch.cat(b), torch.cat(a), narrow.c)


def train_boxed(
    start: Boxed,
    x: Float[Tensor, "N d"],
    y: Float[Tensor, " N"],
    steps: int,
    rate: float = 0.02,
    batch: int = 4096,
    radius: float = 0.0,
    sharp: float = 1.0,
    bias: bool = False,
    seed: int = 0,
) -> Boxed:
    """Projected Adam on the mean logistic loss of sharp times the margin: after every step parameters are clipped.

    Args:
        start: where it begins.
        x: points.
        y: +-1.
        steps: of descent.
        rate: falls linearly to 0.
        batch: points a step.
        radius: of the adversary, see `Boxed.worst`.
        sharp: of the loss; a large one pushes the least margin.
        bias: whether c is trained.
        seed: of the batches.
    """
    chance = torch.Generator().manual_seed(seed)
    parts = [part.clone().requires_grad_(True) for part in (start.w, start.b, start.a)]
    c = start.c.clone().requires_grad_(bias)
    free = [*parts, *([c] if bias else [])]
    optimizer = torch.optim.Adam(free, lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        places = torch.randint(len(x), (min(batch, len(x)),), generator=chance) if batch < len(x) else slice(None)
        net = Boxed(parts[0], parts[1], parts[2], c)
        with torch.enable_grad():
            loss = F.softplus(-sharp * net.worst(x[places], y[places], radius)).mean() / sharp
            slopes = torch.autograd.grad(loss, free)
        for part, slope in zip(free, slopes, strict=True):
            part.grad = slope
        optimizer.step()
        with torch.no_grad():
            for part in free:
                part.clamp_(-1, 1)
    w, b, a = (part.detach() for part in parts)
    return Boxed(w, b, a, c.detach())


def random_boxed(width: int, dimension: int, seed: int) -> Boxed:
    """All parameters uniform in [-1, 1], c = 0."""
    chance = torch.Generator().manual_seed(seed)
    w, b, a = (torch.rand(size, generator=chance).double() * 2 - 1 for size in ((width, dimension), width, width))
    return Boxed(w, b, a, torch.zeros((), dtype=torch.float64))


def search_expressed(
    x: Float[Tensor, "N d"],
    y: Float[Tensor, " N"],
    widths: tuple[int, ...] = (2, 3, 4, 6, 8),
    radius: float = 0.0,
    tries: int = 4,
    steps: int = 400,
    seed: int = 0,
) -> tuple[Expressed, Boxed] | None:
    """The narrow plain network with the least W_D / kappa that a search finds; None where none separates the sample.

    W_D / kappa is what the bound grows by. Each width is tried from several random starts by a loss that becomes
    sharper, so that the least margin of the sample rises. What comes out is an upper estimate of W_D: margins off the
    sample are not seen, and a search may miss.
    """
    x, y = x.double(), y.double()
    best: tuple[Expressed, Boxed] | None = None
    for width in widths:
        for attempt in range(tries):
            net = random_boxed(width, x.shape[1], seed + 1000 * width + attempt)
            for sharp in (1.0, 8.0, 64.0):
                net = train_boxed(net, x, y, steps, 0.05 / sharp**0.5, radius=radius, sharp=sharp, seed=seed)
            margin = float(net.worst(x, y, radius).min())
            if margin > 0 and (best is None or width / margin < best[0].width / best[0].margin):
                best = Expressed(width, margin, x.shape[1], radius, sure=False), net
    return best


def error_on_segment(
    net: Boxed, start: Float[Tensor, " d"], end: Float[Tensor, " d"], label: float, radius: float = 0.0
) -> float:
    """The share of a segment on which y F - radius S <= 0, exactly: F is linear between the neurons' kinks.

    Args:
        net: the network.
        start: one end of the segment.
        end: the other.
        label: +-1.
        radius: of the adversary.
    """
    w, b = net.w.numpy(), net.b.numpy()
    along, at = w @ (end - start).numpy(), w @ start.numpy() + b
    with np.errstate(divide="ignore", invalid="ignore"):
        kinks = -at / along
    inside = kinks[np.isfinite(kinks) & (kinks > 0) & (kinks < 1)]
    places = np.concatenate([[0.0], np.sort(inside), [1.0]])
    value = np.concatenate([
        np.maximum(part[:, None] * along + at, 0) @ net.a.numpy()
        for part in np.array_split(places, max(1, len(places) * len(at) >> 22))
    ])  # fmt: skip
    margin = label * (value + float(net.c)) - radius * float(net.steepness)
    low, high = margin[:-1], margin[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(low * high < 0, np.maximum(-low, -high) / np.abs(high - low), 0.0)
    share = np.where((low <= 0) & (high <= 0), 1.0, share)
    return math.fsum(np.diff(places) * share)
