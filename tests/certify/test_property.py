"""Properties of VNN-LIB decided: against a dense grid of inputs, and never "sat" without the network's own word."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from stackelberg.certify.property import Excess, verify
from stackelberg.certify.vnnlib import Property, parse_property
from stackelberg.errors import StackelbergError

DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))


def boxed(a: float, b: float) -> str:
    return DECLARED + "".join(f"(assert (>= X_{i} {a})) (assert (<= X_{i} {b}))" for i in (0, 1))


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
        for part in net:
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=1.5 / part.in_features**0.5)
                nn.init.normal_(part.bias, std=0.3)
    return net.eval()


def excess_on_grid(net: nn.Module, question: Property, steps: int = 151) -> float:
    """The least excess over all cases, on a grid of each box: a hair above the true minimum."""
    least = np.inf
    for case in question.cases:
        axes = [np.linspace(a, b, steps) for a, b in zip(case.low, case.high, strict=True)]
        points = torch.from_numpy(np.array(list(itertools.product(*axes)))).float()
        with torch.no_grad():
            y = net(points).double().numpy()
        for part in case.unsafe:
            least = min(least, float((y @ part.weight.T + part.offset).max(1).min()))
    return least


FORMS: dict[str, Callable[[float], str]] = {
    "one": lambda t: f"(assert (>= Y_0 {t}))",
    "and": lambda t: f"(assert (>= Y_0 (+ Y_1 {t}))) (assert (>= (+ Y_0 Y_2) {t})) (assert (<= Y_2 Y_0))",
    "or": lambda t: f"(assert (or (and (<= Y_1 (- Y_0 {t}))) (and (>= Y_2 {t}) (>= Y_1 {t}))))",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_answer_turns_where_the_minimum_is(form: str, seed: int) -> None:
    """A threshold well below the reachable one is "sat", one well above is "unsat"."""
    net, low, high = network(seed), -8.0, 8.0
    for _ in range(40):  # the threshold at which the grid says the unsafe set is just missed
        middle = (low + high) / 2
        reached = excess_on_grid(net, parse_property(boxed(-1, 1) + FORMS[form](middle)), 41) <= 0
        low, high = (middle, high) if reached else (low, middle)
    inside = parse_property(boxed(-1, 1) + FORMS[form](low - 0.05))
    answer = verify(net, (2,), inside, 30.0)
    assert answer.verdict == "sat"
    assert answer.x is not None
    assert answer.y is not None
    assert inside.violated(answer.x.astype(float), answer.y.astype(float))
    with torch.no_grad():
        assert np.array_equal(net(torch.from_numpy(answer.x)[None])[0].numpy(), answer.y)
    assert verify(net, (2,), parse_property(boxed(-1, 1) + FORMS[form](high + 0.2)), 30.0).verdict == "unsat"


def test_two_boxes_are_both_looked_at() -> None:
    net = nn.Linear(2, 3)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, 0]]))
        net.bias.zero_()
    first, second = (f"(and (<= X_0 {a + 1}) (>= X_0 {a}) (<= X_1 0) (>= X_1 0))" for a in (-1, 1))
    boxes = f"(assert (or {first} {second}))"
    near = verify(net, (2,), parse_property(DECLARED + boxes + "(assert (>= Y_0 1.5))"), 10.0)
    assert near.verdict == "sat"
    assert near.x is not None
    assert near.x[0] >= 1.5
    assert verify(net, (2,), parse_property(DECLARED + boxes + "(assert (>= Y_0 2.1))"), 10.0).verdict == "unsat"
    never = parse_property(DECLARED + boxes + "(assert (>= Y_0 0.1)) (assert (<= Y_0 0.9))")
    assert verify(net, (2,), never, 10.0).verdict == "unsat"


def test_the_deployed_network_has_the_last_word() -> None:
    """A replay that disagrees with the model: no counterexample is believed."""
    net, question = network(), parse_property(boxed(-1, 1) + "(assert (>= Y_0 -100))")
    assert verify(net, (2,), question, 5.0).verdict == "sat"
    denied = verify(net, (2,), question, 5.0, replay=lambda x: np.array([-200, 0, 0], np.float32))
    assert denied.verdict == "unknown"


def test_a_network_without_a_graph_is_searched_at_random() -> None:
    class Opaque(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0] * x[:, 1], x[:, 0], x[:, 1]], 1)

    easy = parse_property(boxed(-1, 1) + "(assert (>= Y_0 0.2))")
    assert verify(Opaque(), (2,), easy, 5.0).verdict == "sat"
    impossible = verify(Opaque(), (2,), parse_property(boxed(-1, 1) + "(assert (>= Y_0 1.2))"), 5.0)
    assert impossible.verdict == "unknown"
    assert "multiplies two activations" in impossible.why


def test_the_box_of_one_point() -> None:
    net = network()
    with torch.no_grad():
        value = float(net(torch.tensor([[0.25, 0.25]]))[0, 0])
    for move, verdict in ((-1e-3, "sat"), (1e-3, "unsat")):
        question = parse_property(boxed(0.25, 0.25) + f"(assert (>= Y_0 {value + move:.9f}))")
        assert verify(net, (2,), question, 5.0).verdict == verdict


def test_the_text_is_the_competitions() -> None:
    answer = verify(network(), (2,), parse_property(boxed(0.5, 0.5)), 5.0)
    lines = answer.text().splitlines()
    assert lines[0] == "sat"
    assert lines[1] == "((X_0 0.5)"
    assert [line.split()[0].strip("(") for line in lines[1:]] == ["X_0", "X_1", "Y_0", "Y_1", "Y_2"]
    assert lines[-1].endswith("))")


def test_excess_is_the_most_violated_row() -> None:
    question = parse_property(boxed(-1, 1) + "(assert (or (and (<= Y_0 0) (<= Y_1 1) (>= Y_2 2)) (<= Y_1 5)))")
    excess = Excess(nn.Identity(), question.cases[0].unsafe)
    y = torch.tensor([[1.0, 4.0, 2.5], [-1.0, 0.5, 3.0]], dtype=torch.float64)
    expected = [[part.excess(row) for part in question.cases[0].unsafe] for row in y.numpy()]
    assert excess(y).tolist() == expected == [[3.0, -1.0], [-0.5, -4.5]]


def test_a_property_for_another_network_is_refused() -> None:
    with pytest.raises(StackelbergError, match="speaks of 2 inputs X_i, the network takes 3"):
        verify(nn.Linear(3, 3), (3,), parse_property(boxed(0, 1)), 1.0)
    with pytest.raises(StackelbergError, match="speaks of 3 outputs Y_j, the network gives 5"):
        verify(nn.Linear(2, 5), (2,), parse_property(boxed(0, 1)), 1.0)
