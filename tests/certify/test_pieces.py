"""Every bound against the exact minimum: a network of two inputs is linear on polygons, and all of them are met."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stackelberg.certify import Certificate, alpha_crown, backward, complete, crown, exact, interval, zonotope
from stackelberg.certify.nodes import Activation
from stackelberg.certify.relaxation import Lines, lines
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin

BENT = (nn.ReLU, lambda: nn.LeakyReLU(0.2))
CURVED = (nn.Sigmoid, nn.Tanh)
_LEAST = 1e-9  # a hinge that moves by less is not split again


class Around(nn.Module):
    """x + inner(x), or their concatenation."""

    def __init__(self, inner: nn.Module, joined: bool) -> None:
        super().__init__()
        self.inner, self.joined = inner, joined

    def forward(self, x):
        return torch.cat([x, self.inner(x)], 1) if self.joined else x + self.inner(x)


def network(seed: int, activations: tuple[Callable[[], nn.Module], ...], rising: bool = False) -> nn.Module:
    """Two inputs spread over an image of 3x3, then batch norm, a sum, a concatenation, a pool and a dense head.

    If `rising`, the first logit does not fall with any input, and the others do not rise.
    """
    draw = torch.Generator().manual_seed(seed)

    def bend() -> nn.Module:
        return activations[int(torch.randint(len(activations), (), generator=draw))]()

    blocks: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(1, 2, 2, padding=1), nn.BatchNorm2d(2), bend()),
        Around(nn.Sequential(bend(), nn.Conv2d(2, 2, 3, padding=1)), joined=False),
        Around(nn.Sequential(nn.Conv2d(2, 1, 3, padding=1), bend()), joined=True),
    ]
    last = 3 if int(torch.randint(2, (), generator=draw)) else 2
    blocks = blocks[:last]
    pool = [nn.MaxPool2d(2), nn.AvgPool2d(2)][int(torch.randint(2, (), generator=draw))]
    net = nn.Sequential(
        nn.Linear(2, 9), nn.Unflatten(1, (1, 3, 3)), *blocks, pool, nn.Flatten(), nn.Linear(4 * last, 4), bend(),
        nn.Linear(4, 3),
    )  # fmt: skip
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                size = part.weight[0].numel() ** -0.5
                part.weight.copy_(size * torch.randn(part.weight.shape, generator=draw))
                assert part.bias is not None
                part.bias.copy_(0.3 * torch.randn(part.bias.shape, generator=draw))
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.copy_(0.3 * torch.randn(2, generator=draw))
                part.running_var.copy_(0.5 + torch.rand(2, generator=draw))
            if rising and isinstance(part, nn.Linear | nn.Conv2d):
                part.weight.abs_()
        if rising:
            net[-1].weight[1:].neg_()  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
    return net.eval()


class Crossed(Exception):
    """A hinge is negative at some corners of a polygon and positive at others: its values [V]."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values


def _uncrossed(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Stops a network whose hinges do not have one sign on all corners."""
    a = inputs[0]
    if isinstance(module, nn.MaxPool2d):
        windows = F.unfold(a.reshape(-1, 1, *a.shape[2:]), module.kernel_size, stride=module.stride).transpose(1, 2)
        first, second = torch.combinations(torch.arange(windows.shape[2])).unbind(1)
        a = (windows[:, :, first] - windows[:, :, second]).reshape(len(a), -1)
    a = a.flatten(1)
    across = torch.minimum(-a.amin(0), a.amax(0))
    if float(across.amax()) > _LEAST:
        raise Crossed(a[:, int(across.argmax())])


def _halves(corners: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The polygon's parts where a linear function, of these values at its corners, is <= 0 and >= 0."""
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for place in range(len(corners)):
        here, there = values[place], values[place - 1]
        if here * there < 0:
            cut = corners[place] + here / (here - there) * (corners[place - 1] - corners[place])
            parts[0].append(cut)
            parts[1].append(cut)
        parts[0 if here <= 0 else 1].append(corners[place])
        if here == 0:
            parts[1].append(corners[place])
    return torch.stack(parts[0]), torch.stack(parts[1])


def pieces(net: nn.Module, low: Tensor, high: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(corners, outputs there) of every polygon of the box [low, high] of two inputs on which the net is linear."""
    hooks = [
        part.register_forward_pre_hook(_uncrossed)
        for part in net.modules()
        if isinstance(part, nn.ReLU | nn.LeakyReLU | nn.MaxPool2d)
    ]
    ends = list(zip(low.tolist(), high.tolist(), strict=True))
    todo = [torch.tensor([[ends[0][i], ends[1][j]] for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]).double()]
    exact_net = net.double()
    try:
        while todo:
            corners = todo.pop()
            try:
                yield corners, exact_net(corners)
            except Crossed as found:
                todo += _halves(corners, found.values)
    finally:
        for hook in hooks:
            hook.remove()
        net.float()


@torch.no_grad()
def least(net: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> tuple[float, float]:
    """(exact least margin over the ball, least one that the float32 network computes at corners of its pieces)."""
    low, high = ((x[0] + sign * ball.radius).clamp(ball.low, ball.high) for sign in (-1, 1))
    found = list(pieces(net, low.double(), high.double()))
    label = y.expand(sum(len(outputs) for _, outputs in found))
    true = -margin(torch.cat([outputs for _, outputs in found]), label)
    corners = torch.cat([corners for corners, _ in found]).float().clamp(low, high)
    return float(true.min()), float((-margin(net(corners), label)).min())


def example(seed: int) -> tuple[Tensor, Tensor]:
    """Its label is a claim like any other, right or wrong."""
    return torch.rand(1, 2, generator=torch.Generator().manual_seed(seed)), torch.zeros(1, dtype=torch.long)


CHEAP = {"ibp": interval, "zonotope": zonotope, "crown": crown, "alpha-crown": alpha_crown}
Bound = Callable[[nn.Module, Tensor, Tensor, Ball], Certificate]


def excess(bounds: Iterable[Bound], seed: int, radius: float, rising: bool = False) -> float:
    """By how much the largest bound is above what the network does; 1e-9 is left to the arithmetic of the truth."""
    net = network(seed, BENT, rising)
    x, y = example(seed)
    ball = Ball("linf", radius)
    true, computed = least(net, x, y, ball)
    return max(float(bound(net, x, y, ball).margin) for bound in bounds) - min(true + 1e-9, computed)


@given(seed=st.integers(0, 10**6), radius=st.sampled_from([1e-6, 0.01, 0.05, 0.2]))
@settings(max_examples=4, deadline=None)
def test_no_bound_is_above_the_minimum_over_all_pieces(seed: int, radius: float) -> None:
    assert excess(CHEAP.values(), seed, radius) <= 0


@pytest.mark.parametrize("seed", range(2))
def test_branch_and_bound_and_programs_find_the_minimum_itself(seed: int) -> None:
    net = network(seed, BENT)
    x, y = example(seed)
    ball = Ball("linf", 0.05)
    true, computed = least(net, x, y, ball)
    by_program = float(exact(net, x, y, ball, 20.0)[0].margin)
    assert true - 1e-3 <= by_program <= min(true, computed)
    assert abs(true) > 1e-3  # of these seeds
    assert bool(complete(net, x, y, ball, 20.0).certified) == (true > 0)


@given(seed=st.integers(0, 10**6), radius=st.sampled_from([1e-6, 0.05, 0.3]))
@settings(max_examples=3, deadline=None)
@torch.no_grad()
def test_no_bound_of_a_smooth_network_is_above_a_dense_grid(seed: int, radius: float) -> None:
    net = network(seed, (*BENT, *CURVED, *CURVED))
    x, y = example(seed)
    ball = Ball("linf", radius)
    steps = torch.linspace(-1, 1, 61) * radius
    grid = (x + torch.cartesian_prod(steps, steps)).clamp(ball.low, ball.high)
    seen = float((-margin(net(grid), y.expand(len(grid)))).min())
    for name, bound in CHEAP.items():
        assert float(bound(net, x, y, ball).margin) <= seen, name


@pytest.mark.parametrize("name", CHEAP)
def test_a_box_one_hundredth_too_small_is_caught(name: str) -> None:
    """Where the network only rises with its inputs, so that every method is exact while no sign is open."""

    def smaller(net: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Certificate:
        return CHEAP[name](net, x, y, Ball("linf", 0.99 * ball.radius))

    assert max(excess([CHEAP[name]], seed, 0.02, rising=True) for seed in range(3)) <= 0
    assert any(excess([smaller], seed, 0.02, rising=True) > 0 for seed in range(12))


@pytest.mark.parametrize("line", ["roof", "above", "below"])
def test_a_line_one_hundredth_too_tight_is_caught(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def tight(node: Activation, low: Tensor, high: Tensor, alpha: Tensor | None = None) -> Lines:
        found = lines(node, low, high, alpha)
        wrong = getattr(found, line) * (1.01 if line == "below" else 0.99)
        return replace(found, **{line: torch.where((low < 0) & (high > 0), wrong, getattr(found, line))})

    monkeypatch.setattr(backward, "lines", tight)
    assert any(excess([crown], seed, 0.02) > 0 for seed in range(40))
