"""Interval bounds: never above what brute force, exact optimisation or the float32 network itself finds."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from stackelberg import models
from stackelberg.attacks import PGD
from stackelberg.certify import Certificate, Unsupported, interval
from stackelberg.certify.region import gamma
from stackelberg.threat import Ball, Norm, chance
from stackelberg.threat.payoff import margin

BALLS = [Ball("linf", 0.05), Ball("l2", 0.3), Ball("l1", 0.8), Ball("l0", 2.0)]


class Zoo(nn.Module):
    """Every operation with a rule, as modules, functions and methods, in one small network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 1, 1), 0.4))
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.acts = nn.ModuleList(
            [nn.GELU(), nn.SiLU(), nn.LeakyReLU(), nn.Sigmoid(), nn.Tanh(), nn.ELU(), nn.GELU("tanh")]
        )
        self.pool = nn.Sequential(nn.AvgPool2d(2, 1), nn.Dropout(), nn.Identity(), nn.MaxPool2d(2))
        self.head = nn.Linear(20, 3)

    def forward(self, x):
        x = self.norm(self.conv((x - self.mean) / 0.3))
        y = F.relu(x) + F.leaky_relu(-x) + (1 - x.sigmoid())
        for act in self.acts:
            y = act(y) * 2 - 0.3
        y = self.grouped(F.gelu(y) + F.silu(y))
        z = torch.cat([F.avg_pool2d(y, 2), F.max_pool2d(y, 2)], 1)
        z = torch.cat([z.mean((2, 3)), F.adaptive_avg_pool2d(z, 1).flatten(1), self.pool(y).view(y.size(0), -1)], 1)
        z = F.dropout(z.reshape(z.shape[0], -1).unsqueeze(1).squeeze(1), training=self.training)
        return self.head(torch.tanh(z).permute(0, 1).contiguous())


def seeded(make, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = make()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def layer(net: nn.Module, place: int) -> nn.Linear:
    found = list(net.children())[place]
    assert isinstance(found, nn.Linear)
    return found


def small_net() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    )


NETS = {
    "linear": lambda: seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4))),
    "mlp": small_net,
    "zoo": lambda: seeded(Zoo),
    "normalized": lambda: models.Normalized(
        models.build("small-cnn", 4, (1, 6, 6), width=4, seed=1), [0.3], [0.2]
    ).eval(),
    "scaled": lambda: _Scaled(small_net()).eval(),
}


class _Scaled(nn.Module):
    """Logits times a constant: the last linear layer is then not the output."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x) * 1000


def example(count: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def seen(net: nn.Module, points: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """min over k != y of z_y - z_k as the float32 network computes it."""
    with torch.no_grad():
        return -margin(net(points), y)


@pytest.mark.parametrize("ball", BALLS, ids=lambda b: b.norm)
@pytest.mark.parametrize("name", NETS)
def test_no_point_of_the_ball_goes_below_the_bound(name: str, ball: Ball) -> None:
    net, x = NETS[name](), example(16)
    y = net(x).argmax(1)
    proved = interval(net, x, y, ball).margin
    assert (proved <= seen(net, x, y)).all()
    for number in range(40):
        keys = chance.fold(chance.example_keys(x, 0), number)
        assert (proved <= seen(net, ball.sample(x, keys), y)).all()
    for payoff in ("ce", "cw"):
        found = PGD(ball, steps=20, payoff=payoff, precision="float32")(net, x, y)
        assert (proved <= seen(net, found, y)).all()


def test_corners_of_the_box_hold_the_exact_optimum_of_a_tiny_net() -> None:
    """A net of one monotone unit per class attains its optimum in a corner, so enumeration is exact."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 3)))
    x = torch.rand(4, 1, 1, 6, generator=torch.Generator().manual_seed(0))
    y, ball = net(x).argmax(1), Ball("linf", 0.1)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 6).view(-1, 1, 1, 1, 6)
    corners = (x + 0.1 * signs).clamp(0, 1)
    exact = torch.stack([seen(net, c, y) for c in corners]).amin(0)
    proved = interval(net, x, y, ball).margin
    assert (proved <= exact).all()
    torch.testing.assert_close(proved, exact.double(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("normalised", [False, True])
def test_one_affine_layer_is_exact_in_the_dual_norm(norm: Norm, normalised: bool) -> None:
    """Far from the box the worst case of w.x over the ball is w.x - radius ||w||_q."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4)))
    whole = models.Normalized(net, [0.4], [0.25]).eval() if normalised else net
    x, ball = 0.5 + 0.01 * example(8), Ball(norm, 0.2)
    y = whole(x).argmax(1)
    weight = layer(net, 1).weight.double() / (0.25 if normalised else 1)
    order = 2 if norm == "l2" else math.inf
    gaps = whole(x).double().gather(1, y[:, None]) - whole(x).double()
    worst = gaps - 0.2 * torch.linalg.vector_norm(weight[y][:, None] - weight, ord=order, dim=2)
    exact = worst.scatter(1, y[:, None], torch.inf).amin(1)
    proved = interval(whole, x, y, ball).margin
    assert (proved <= exact + 1e-6).all()
    torch.testing.assert_close(proved, exact, atol=1e-3, rtol=0)


def _milp_optimum(net: nn.Module, low: np.ndarray, high: np.ndarray, label: int, other: int) -> float:
    """min z_label - z_other over the box for linear-relu-linear, by a mixed-integer program (big-M per unit)."""
    w, b, head, tail = (
        value.detach().double().numpy() for i in (1, 3) for value in (layer(net, i).weight, layer(net, i).bias)
    )
    gap, shift = head[label] - head[other], float(tail[label] - tail[other])
    d, m = w.shape[1], w.shape[0]
    big = np.abs(w) @ np.maximum(np.abs(low), np.abs(high)) + np.abs(b) + 1
    cost = np.concatenate([np.zeros(d), gap, np.zeros(m)])
    eye, zero = np.eye(m), np.zeros((m, d))
    above = [np.hstack([w, -eye, np.zeros((m, m))]), -b]  # a >= w x + b
    below = [np.hstack([-w, eye, np.diag(big)]), b + big]  # a <= w x + b + M (1 - s)
    off = [np.hstack([zero, eye, -np.diag(big)]), np.zeros(m)]  # a <= M s
    rows, limits = (np.concatenate(parts) for parts in zip(above, below, off, strict=True))
    box = np.stack([np.concatenate([low, np.zeros(2 * m)]), np.concatenate([high, big, np.ones(m)])], 1)
    solved = linprog(cost, rows, limits, bounds=box, integrality=np.concatenate([np.zeros(d + m), np.ones(m)]))
    return float(solved.fun) + shift


def test_bound_is_below_the_exact_optimum_by_mixed_integer_programming() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3)))
    x = torch.rand(5, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    y, ball = net(x).argmax(1), Ball("linf", 0.08)
    proved = interval(net, x, y, ball).margin
    for i in range(len(x)):
        point = x[i].flatten().double().numpy()
        low, high = np.clip(point - 0.08, 0, 1), np.clip(point + 0.08, 0, 1)
        exact = min(_milp_optimum(net, low, high, int(y[i]), k) for k in range(3) if k != int(y[i]))
        assert float(proved[i]) <= exact + 1e-9
        assert float(proved[i]) > exact - 2.0  # a bound, not minus infinity


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 0.3), st.floats(0, 0.3), st.sampled_from(["linf", "l2", "l1"]))
def test_bound_falls_as_the_radius_grows(a: float, b: float, norm: Norm) -> None:
    net, x = small_net(), example(4)
    y = net(x).argmax(1)
    small, large = (interval(net, x, y, Ball(norm, r)).margin for r in sorted((a, b)))
    assert (large <= small + 1e-9).all()


@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
def test_the_ball_itself_is_used_not_only_its_box(norm: Norm) -> None:
    net, x = small_net(), example(8)
    y, radius = net(x).argmax(1), 1.0 if norm == "l0" else 0.2
    box = Ball("linf", 0.9 if norm == "l0" else 0.2)
    assert (interval(net, x, y, Ball(norm, radius)).margin > interval(net, x, y, box).margin + 0.01).all()


def test_rounding_of_the_float32_network_is_inside_the_bound() -> None:
    """In reals z_0 - z_1 = x_0 > 0; in float32 (x_0 + 2^24) - 2^24 loses it: nothing may be certified."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        layer(net, 1).weight.copy_(torch.tensor([[1.0, 2.0**25, -(2.0**25)], [0.0, 0.0, 0.0]]))
        layer(net, 1).bias.zero_()
    x = torch.tensor([0.9, 1.0, 1.0]).view(1, 1, 1, 3)
    y = torch.tensor([0])
    assert float(seen(net, x, y)[0]) < 0.9 or float(seen(net, x.flip(3), y)[0]) != 0.9
    assert not interval(net, x, y, Ball("linf", 0.0)).certified.any()
    layer(net, 1).weight.data.div_(2.0**25)
    layer(net, 1).weight.data[0, 0] = 1.0
    assert interval(net, x, y, Ball("linf", 0.0)).certified.all()


def test_error_of_a_long_sum_is_linear_in_its_length() -> None:
    assert gamma(10) == pytest.approx(12 * 2.0**-24, rel=1e-5)
    assert gamma(2**25) == math.inf


def test_every_network_of_the_catalogue_has_bounds_or_says_what_is_missing() -> None:
    for name in models.IMAGE_NAMES:
        net = models.build(name, classes=10, shape=(3, 16, 16), mean=[0.4] * 3, std=[0.2] * 3, seed=0)
        x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        y = net.eval()(x).argmax(1)
        if name in ("vit", "distance-net"):  # the latter has a certificate of its own: `steepness`
            with pytest.raises(Unsupported, match="interval bounds"):
                interval(net, x, y, Ball("linf", 1 / 255))
        else:
            assert (interval(net, x, y, Ball("linf", 1 / 255)).margin <= seen(net, x, y)).all()


def test_bound_is_the_textbook_one_up_to_rounding() -> None:
    """Gowal et al. 2018, equations 6 to 9, written out for a perceptron in float64."""
    net, x = small_net(), example(8)
    y = net(x).argmax(1)
    low, high = ((x + move).clamp(0, 1).flatten(1).double() for move in (-0.02, 0.02))
    linears = [part for part in net.children() if isinstance(part, nn.Linear)]
    for part in linears[:-1]:
        middle, radius = (
            (low + high) / 2 @ part.weight.double().T + part.bias,
            (high - low) / 2 @ part.weight.double().abs().T,
        )
        low, high = (middle - radius).relu(), (middle + radius).relu()
    last = linears[-1]
    apart, shift = last.weight.double()[y][:, None] - last.weight, last.bias[y][:, None] - last.bias
    gaps = torch.einsum("bkn,bn->bk", apart, (low + high) / 2) + shift
    gaps = gaps - torch.einsum("bkn,bn->bk", apart.abs(), (high - low) / 2)
    expected = gaps.scatter(1, y[:, None], torch.inf).amin(1)
    proved = interval(net, x, y, Ball("linf", 0.02)).margin
    assert (proved <= expected).all()
    torch.testing.assert_close(proved, expected, atol=1e-4, rtol=0)


def test_labels_that_are_wrong_are_never_certified() -> None:
    net, x = small_net(), example(16)
    wrong = (net(x).argmax(1) + 1) % 4
    assert not interval(net, x, wrong, Ball("linf", 0.001)).certified.any()


def test_batches_do_not_change_the_bound_and_none_is_fine() -> None:
    net, x = small_net(), example(7)
    y, ball = net(x).argmax(1), Ball("linf", 0.01)
    torch.testing.assert_close(
        interval(net, x, y, ball, batch_size=2).margin, interval(net, x, y, ball).margin, rtol=0, atol=1e-12
    )
    assert len(interval(net, x[:0], y[:0], ball).margin) == 0


def test_the_model_comes_back_as_it_was() -> None:
    net = seeded(Zoo).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    interval(net, example(2), torch.tensor([0, 1]), BALLS[0])
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


def test_infinite_activations_prove_nothing() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 4)))
    layer(net, 3).weight.data.fill_(torch.inf)
    assert not interval(net, example(3), torch.tensor([0, 1, 2]), BALLS[0]).certified.any()


def test_certificate_is_not_certified_at_zero_margin() -> None:
    assert Certificate("ibp", BALLS[0], torch.tensor([0.0, 1e-9, -1.0, torch.nan])).certified.tolist() == [
        False,
        True,
        False,
        False,
    ]


class _Branching(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] if x.sum() > 0 else -x.flatten(1)[:, :3]


class _Squared(nn.Module):
    def forward(self, x):
        x = x.flatten(1)
        return x * x


class _Overwriting(nn.Module):
    def forward(self, x):
        x = x.flatten(1) * 2
        return F.relu(x - 0.5, inplace=True) + F.relu(x, inplace=True) + x


UNSUPPORTED = [
    (nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.LayerNorm(4)), "no rule for LayerNorm"),
    (nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Softmax(1)), "no rule for Softmax"),
    (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.Flatten()), "pads by 'reflect'"),
    (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten()), "tracks none"),
    (nn.Sequential(nn.Flatten(), nn.LeakyReLU(-0.5)), "negative_slope=-0.5"),
    (_Branching(), "_Branching cannot be"),
    (_Squared(), "multiplies two activations"),
    (_Overwriting(), "works in place on a value that is used again"),
    (nn.Conv2d(1, 2, 3), r"need logits \[B, K\]"),
]


@pytest.mark.parametrize(("net", "sentence"), UNSUPPORTED, ids=[s for _, s in UNSUPPORTED])
def test_what_has_no_bound_is_named(net: nn.Module, sentence: str) -> None:
    with pytest.raises(Unsupported, match=sentence):
        interval(net, example(2), torch.tensor([0, 1]), BALLS[0])
