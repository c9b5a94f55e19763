"""Linear bounds: never above brute force, attacks or the float32 network; never below interval bounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stackelberg import attacks, models
from stackelberg.attacks import PGD
from stackelberg.attacks.suite import STANDING
from stackelberg.certify import Certificate, Unsupported, alpha_crown, bounds, crown, graph_of, interval
from stackelberg.certify.ascent import Search
from stackelberg.certify.backward import Boxes, least, substituted
from stackelberg.certify.boxing import boxed
from stackelberg.certify.linear import differences
from stackelberg.certify.nodes import Activation, Affine
from stackelberg.certify.region import Region
from stackelberg.certify.relaxation import lines
from stackelberg.certify.single import doubled, lightened, reached
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import margin

BALLS = [Ball("linf", 0.05), Ball("l2", 0.3), Ball("l1", 0.8), Ball("l0", 2.0)]


class Bends(nn.Module):
    """Every activation, a max pool, a clamp, a residual sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.leaky = nn.LeakyReLU(0.2)
        self.head = nn.Linear(36 + 27, 3)

    def forward(self, x):
        a = self.norm(self.conv((x - 0.4) / 0.3))
        a = a.relu() + torch.sigmoid(a)
        b = self.down(self.leaky(a) - a.clamp(-0.3, 0.4))
        pooled = nn.functional.max_pool2d(torch.tanh(a), 2)
        return self.head(torch.cat([b.flatten(1), pooled.flatten(1)], 1))


def _seeded(make, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make().eval()


NETS = {
    "linear": lambda: _seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4))),
    "bends": lambda: _seeded(Bends),
    "normalized": lambda: models.Normalized(
        models.build("small-cnn", 4, (1, 6, 6), width=4, seed=1), [0.3], [0.2]
    ).eval(),
}


def example(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def seen(net: nn.Module, points: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """min over k != y of z_y - z_k as the float32 network computes it."""
    with torch.no_grad():
        return -margin(net(points), y)


@pytest.mark.parametrize("ball", BALLS, ids=lambda b: b.norm)
@pytest.mark.parametrize("name", NETS)
def test_no_point_of_the_ball_goes_below_the_bound(name: str, ball: Ball) -> None:
    net, x = NETS[name](), example(4)
    y = net(x).argmax(1)
    proofs = [crown(net, x, y, ball), alpha_crown(net, x, y, ball, search=Search(2, stop=False))]
    proved = torch.stack([p.margin for p in proofs]).amax(0)
    assert bool((proofs[1].margin >= proofs[0].margin).all())
    assert bool((proved >= interval(net, x, y, ball).margin - 1e-4).all())
    for number in range(30):
        keys = chance.fold(chance.example_keys(x, 0), number)
        assert bool((proved <= seen(net, ball.sample(x, keys), y)).all())
    for payoff in ("ce", "cw"):
        found = PGD(ball, steps=20, payoff=payoff, precision="float32")(net, x, y)
        assert bool((proved <= seen(net, found, y)).all())


def test_nothing_certified_is_broken_by_the_suite() -> None:
    net, x = NETS["normalized"](), example(24)
    y = net(x).argmax(1)
    ball = Ball("linf", 0.04)
    sure = alpha_crown(net, x, y, ball).certified
    assert bool(sure.any())
    result = attacks.suite(ball, "fast", seed=0).run(net, x, y)
    assert bool((result.broken_by[sure] == STANDING).all())


@given(seed=st.integers(0, 10**6), radius=st.sampled_from([0.1, 0.5, 1.5]))
@settings(max_examples=3, deadline=None)
def test_never_above_the_exact_minimum_and_exact_where_no_sign_is_open(seed, radius, exact_minimum) -> None:
    torch.manual_seed(seed)
    layers = [nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)]
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    centre, goal = torch.randn(3), torch.tensor([1.0, -1.0])
    low, high = centre - radius, centre + radius
    graph, row = graph_of(net, (3,)), goal.double()[None, None]
    exact = exact_minimum(layers, low, high, goal)[0]
    bound = bounds(graph, low[None], high[None], row, torch.zeros(1, 1).double())
    better = bounds(graph, low[None], high[None], row, torch.zeros(1, 1).double(), search=Search(stop=False))
    assert float(bound) <= float(better) <= exact + 1e-7  # the solver's own tolerance
    boxes = boxed(graph, Region(low.double()[None], high.double()[None]), 1 << 20)
    if not any(bool(((boxes.low[i - 1] < 0) & (boxes.high[i - 1] > 0)).any()) for i in graph.activations):
        assert math.isclose(float(bound), exact, abs_tol=1e-4)


def test_margins_fall_with_the_radius() -> None:
    net, x = NETS["bends"](), example(4)
    y = net(x).argmax(1)
    margins = torch.stack([crown(net, x, y, Ball("linf", radius)).margin for radius in (0.0, 0.01, 0.03, 0.1)])
    assert bool((margins[:-1] >= margins[1:]).all())
    torch.testing.assert_close(margins[0].float(), seen(net, x, y), atol=1e-3, rtol=0)


def test_every_box_is_inside_the_interval_box_and_holds_what_the_network_computes() -> None:
    net, x = NETS["bends"](), example(3)
    graph = graph_of(net, (1, 6, 6))
    region = Region((x - 0.05).double(), (x + 0.05).double())
    tight, loose = boxed(graph, region, 1 << 30), boxed(graph, region, 0)
    narrower = 0
    for place, (low, high) in enumerate(zip(tight.low, tight.high, strict=True)):
        assert bool((low >= loose.low[place] - 1e-6).all())
        assert bool((high <= loose.high[place] + 1e-6).all())
        narrower += int((high - low < 0.99 * (loose.high[place] - loose.low[place])).sum())
    assert narrower > 50
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        point = x.double() + 0.1 * (torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.5)
        for value, low, high in zip(graph.values(point), tight.low, tight.high, strict=True):
            assert bool(((value >= low - 1e-9) & (value <= high + 1e-9)).all())


@pytest.mark.parametrize("kind", ["relu", "leaky", "sigmoid", "tanh"])
@given(ends=st.lists(st.floats(-30, 30), min_size=2, max_size=2), part=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_lines_hold_the_function_between_them(kind: str, ends: list[float], part: float) -> None:
    low, high = torch.tensor([[min(ends)], [max(ends)]], dtype=torch.float64)
    node = Activation(0, kind, 0.1 if kind == "leaky" else 0.0, 2.0**-40, (1,))
    inside = low + (high - low) * torch.linspace(0, 1, 101, dtype=torch.float64)
    value, room = node.apply(inside), 1e-9 * node.apply(high).abs().clamp(min=1.0)
    for alpha in (None, torch.tensor(part, dtype=torch.float64)):
        pair = lines(node, low, high, alpha)
        assert bool((pair.below * inside + pair.floor <= value + room).all())
        assert bool((pair.above * inside + pair.roof >= value - room).all())


def test_float32_goes_below_the_exact_bound_and_never_below_ours() -> None:
    """One affine map over a point: the exact minimum is the exact value, and float32 computes less than that."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 2)).eval()
    x = torch.randn(200, 400) * 100
    graph, goal = graph_of(net, (400,)), torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(200, 1, 2)
    region = Region(x.double(), x.double())
    boxes = boxed(graph, region, 1 << 30)
    last = len(graph.nodes) - 1
    exact = least(substituted(graph, boxes, last, goal, rounding=False), region)[:, 0]
    ours = least(substituted(graph, boxes, last, goal), region)[:, 0]
    with torch.no_grad():
        computed = net(x)[:, 0].double()
    assert int((computed < exact - 1e-9).sum()) > 20
    assert bool((computed >= ours).all())
    assert bool((ours >= exact - 0.5).all())


def test_a_neuron_seen_through_its_window_has_the_bound_of_the_whole_image(residual_net) -> None:
    net, x = residual_net
    graph = graph_of(net, (1, 6, 6))
    region = Region((x - 0.1).double(), (x + 0.1).double())
    windows = boxed(graph, region, 1 << 30)
    place = next(i for i in reversed(graph.activations) if len(graph.nodes[i].shape) == 3)
    before = graph.nodes[place].inputs[0]  # pyright: ignore[reportAttributeAccessIssue]
    size = math.prod(graph.nodes[before].shape)
    unit = torch.eye(size, dtype=torch.float64).view(1, size, *graph.nodes[before].shape).expand(len(x), -1, -1, -1, -1)
    whole = least(substituted(graph, windows, before, unit), region).view_as(windows.low[before])
    open_ones = (windows.low[before] < 0) & (windows.high[before] > 0)
    assert int(open_ones.sum()) > 20
    assert bool((windows.low[before][open_ones] >= whole[open_ones] - 1e-4).all())  # those through windows in float32
    same = (windows.low[before] - whole).abs() < 1e-4
    assert int(same[open_ones].sum()) > 20


@pytest.mark.parametrize("name", ["normalized", "wide"])
def test_a_bound_computed_in_float32_is_below_the_one_in_float64(name: str) -> None:
    """Of exact networks: the charge is for float32's own rounding alone, and without it some bounds are above."""
    wide = nn.Sequential(nn.Flatten(), nn.Linear(36, 900), nn.ReLU(), nn.Linear(900, 700), nn.ReLU(), nn.Linear(700, 4))
    torch.manual_seed(1)
    net = wide.eval() if name == "wide" else NETS["normalized"]()
    graph, x = graph_of(net, (1, 6, 6)), example(6)
    region = Region((x - 0.02).double(), (x + 0.02).double())
    boxes = boxed(graph, region, 0)
    exact = Boxes(boxes.low, boxes.high, [torch.zeros_like(e) for e in boxes.error])
    light, small, last = lightened(graph, exact), graph.to(torch.float32), len(graph.nodes) - 1
    goal = torch.randn(6, 200, 4, generator=torch.Generator().manual_seed(0))
    truth = least(substituted(graph, exact, last, goal.double()), region)
    ours = least(doubled(substituted(small, light, last, goal)), reached(region, exact))
    bare = exact.to(torch.float32)
    uncharged = least(doubled(substituted(small, bare, last, goal)), region)
    assert bool((ours <= truth).all())
    assert bool((uncharged > truth).any())
    assert bool((ours >= truth - 2e-3 * truth.abs().amax()).all())


def test_half_of_the_worst_rounding_holds_for_sums_in_any_order() -> None:
    """Sums of 4,000 numbers in float32, one after the other in bad orders, against exact ones."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 4000, generator=generator)
    weight[20:] = weight[20:, :1]  # equal numbers: every addition errs to the same side for long
    net = nn.Linear(4000, 40, bias=False).eval()
    net.weight.data = weight
    node = graph_of(net, (4000,)).nodes[-1]
    assert isinstance(node, Affine)
    point = torch.rand(4000, generator=generator)
    room = node.drift([point.double()[None]], [point.double()[None]])[0]
    products, most = weight * point, 0.0
    for order in (
        products.argsort(1),
        products.argsort(1, descending=True),
        products.abs().argsort(1, descending=True),
    ):
        running = products.gather(1, order).numpy().cumsum(1, dtype="float32")[:, -1]  # one by one
        off = (torch.from_numpy(running).double() - weight.double() @ point.double()).abs()
        assert bool((off <= room).all())
        most = max(most, float((off / room).max()))
    worst = node.rounding([point.double()[None]])[0]
    assert bool((room[:20] < 0.6 * worst[:20]).all())
    assert float(most) > 0.01  # and not a bound of nothing


def test_a_layer_too_wide_keeps_its_intervals() -> None:
    net, x = NETS["normalized"](), example(4)
    y = net(x).argmax(1)
    ball = Ball("linf", 0.05)
    full, cheap = crown(net, x, y, ball), crown(net, x, y, ball, deep=0)
    assert bool((full.margin > cheap.margin).all())
    assert bool((cheap.margin >= interval(net, x, y, ball).margin - 1e-4).all())


def test_differences_leave_out_the_label() -> None:
    rows = differences(torch.tensor([2, 0]), 3)
    assert rows[0].tolist() == [[-1.0, 0.0, 1.0], [0.0, -1.0, 1.0]]
    assert rows[1].tolist() == [[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]]


def test_no_examples_and_other_outputs() -> None:
    net = NETS["linear"]()
    none = crown(net, example(0), torch.zeros(0, dtype=torch.long), BALLS[0])
    assert isinstance(none, Certificate)
    assert none.margin.shape == (0,)
    with pytest.raises(Unsupported, match=r"need logits \[B, K\]"):
        crown(nn.ReLU(), example(1), torch.zeros(1, dtype=torch.long), BALLS[0])
