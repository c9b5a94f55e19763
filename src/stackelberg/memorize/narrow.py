"""What does training find among narrow networks?  Many at once, as one stack of weights.

S networks of one shape are tensors with a leading axis S; their losses are added, so one backward pass gives every
network its own gradient. Trained on a fixed dense set of points of the balls: with 2 or 3 dimensions that is all there
is, and no adversary has to be simulated.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.memorize.width import Witness


class Stack(nn.Module):
    """S fully connected ReLU networks of one shape with one output: x [P, n] -> [S, P]; "centre" where > 0."""

    def __init__(self, count: int, dimension: int, width: int, depth: int, seed: int = 0) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        sizes = [dimension, *[width] * depth, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, after in itertools.pairwise(sizes):
            scale = math.sqrt(2 / before)
            self.weights.append(scale * torch.randn(count, before, after, generator=chance))
            self.biases.append(torch.rand(count, 1, after, generator=chance) - 0.5)

    def forward(self, x: Float[Tensor, "P n"]) -> Float[Tensor, "S P"]:
        h = x.expand(len(self.weights[0]), *x.shape)
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            h = h.relu() if place < len(self.weights) - 1 else h
        return h[..., 0]

    def member(self, place: int, outputs: int = 1) -> nn.Sequential:
        """One of the networks, float64; with two outputs (-F, F), as a classifier."""
        layers: list[nn.Module] = []
        signs = torch.tensor([[1.0]] if outputs == 1 else [[-1.0], [1.0]], dtype=torch.float64)
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            w, b = weight[place].detach().double().T, bias[place, 0].detach().double()
            w, b = (signs @ w, signs[:, 0] * b) if number == last else (w, b)
            linear = nn.Linear(w.shape[1], w.shape[0], dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(w)
                linear.bias.copy_(b)
            layers += [linear] if number == last else [linear, nn.ReLU()]
        return nn.Sequential(*layers)


@dataclass(frozen=True, eq=False)
class Found:
    """What the search found.

    Attributes:
        stack: the trained networks.
        right: the witness points that each has right, unmoved, [S].
        broken: the balls in which each was seen to err, [S].
        best: of the networks that have the centre right (of all, if none has) one with the fewest such balls.
    """

    stack: Stack
    right: Int64[Tensor, " S"]
    broken: Int64[Tensor, " S"]
    best: int


def points_of_balls(
    witness: Witness, radius: float, steps: int
) -> tuple[Float64[np.ndarray, "P n"], Int64[np.ndarray, " P"]]:
    """(a grid of steps^n points on each closed ball, corners among them [P, n], the ball of each [P])."""
    ticks = np.linspace(-radius, radius, steps)
    offsets = np.array(list(itertools.product(ticks, repeat=witness.dimension)))
    every = (witness.x[:, None] + offsets[None]).reshape(-1, witness.dimension)
    return every, np.repeat(np.arange(len(witness.x)), len(offsets))


def search(
    witness: Witness, width: int, depth: int, radius: float, nets: int = 256, steps: int = 1500, grid: int = 5,
    rate: float = 0.02, seed: int = 0,
) -> Found:  # fmt: skip
    """Train `nets` networks of `depth` hidden layers of `width` on the balls, from as many random starts.

    The loss of a network is the mean of softplus(-4 y F) over the centre's ball and over the others', half and half,
    plus the same of the worst point of each ball; Adam, the rate falling to 0 as a cosine. Counted on a finer grid.

    Raises:
        StackelbergError: sizes that are not positive, or a radius of half the separation or more, which nothing can.
    """
    for name, value in (("width", width), ("depth", depth), ("nets", nets), ("steps", steps), ("grid", grid - 1)):
        if value < 1:
            raise StackelbergError(f"{name} must be positive, got {value}")
    if not 0 < radius < 0.5:
        raise StackelbergError(f"radius must lie in (0, 0.5), half the separation, got {radius}")
    x, count = torch.from_numpy(points_of_balls(witness, radius, grid)[0]).float(), len(witness.x)
    sign = torch.from_numpy(2.0 * witness.y - 1).float()
    weight = torch.where(sign > 0, 0.5, 0.5 / (count - 1))
    stack = Stack(nets, witness.dimension, width, depth, seed)
    optimizer = torch.optim.Adam(stack.parameters(), rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        each = nn.functional.softplus(-4 * stack(x).view(nets, count, -1) * sign[:, None])
        ((each.mean(2) + each.amax(2)) @ weight).sum().backward()
        optimizer.step()
        decay.step()
    return _judged(stack, witness, radius, 2 * grid + 1)


@torch.no_grad()
def _judged(stack: Stack, witness: Witness, radius: float, grid: int) -> Found:
    positive = torch.from_numpy(witness.y == 1)
    every, ball = points_of_balls(witness, radius, grid)
    wrong = _wrong(stack, torch.from_numpy(every).float(), positive[torch.from_numpy(ball)])
    broken = wrong.view(len(wrong), len(witness.x), -1).any(2).sum(1)
    right = (~_wrong(stack, torch.from_numpy(witness.x).float(), positive)).sum(1)
    lost = _wrong(stack, torch.zeros(1, witness.dimension), positive[:1])[:, 0]
    return Found(stack, right, broken, int((broken + lost * (len(witness.x) + 1)).argmin()))


def _wrong(stack: Stack, x: Tensor, positive: Tensor) -> Bool[Tensor, "S P"]:
    return (stack(x) > 0) != positive
