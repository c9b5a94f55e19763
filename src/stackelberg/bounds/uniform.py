"""How wrong can any network of this structure be?  The uniform bound, by counting the labellings it can realise.

Bartlett, Harvey, Liaw and Mehrabian 2019 (JMLR 20): layer by layer, given the signs of all units before, the inputs of
a piecewise linear unit of layer i are polynomials of degree at most i in the W_i parameters met so far, so by Warren's
theorem the N k_i of them have at most 2 (2 e N k_i i / W_i)^(W_i) sign patterns (W_i <= N k_i). With the outputs
z_b - z_a, a < b, as the last layer's units, which decide the label,

    ln growth(N) <= sum_i min(N k_i ln 2, ln 2 + W_i ln(2 e N k_i i / W_i)),     growth(N) <= 2^N of right and wrong
    d_VC <= L + (sum_i W_i) log2(4 e R log2(2 e R)),     R = sum_i k_i i         (their theorem 7, one breakpoint)

sum_i W_i <= W L is the product of parameters and depth. And for every network of the structure at once

    error <= training error + sqrt(2 ln growth(N) / N) + sqrt(ln(1 / delta) / (2 N))

with probability 1 - delta (Mohri, Rostamizadeh and Talwalkar 2018, corollary 3.9).
"""

import math
from dataclasses import dataclass

from torch import nn

from stackelberg.bounds.bound import DRAWN, ERROR, Bound, of_rate
from stackelberg.bounds.checking import check_delta, check_samples
from stackelberg.certify.certificate import Unsupported
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.maps import Pick, Pooled, Reshape, Same, Scale
from stackelberg.certify.nodes import Activation, Affine, width

SOURCE = "Bartlett, Harvey, Liaw and Mehrabian 2019, theorem 7; Mohri et al. 2018, corollary 3.9"


@dataclass(frozen=True)
class Architecture:
    """What the count depends on.

    Attributes:
        units: k_i, piecewise linear units of each layer; last the differences of outputs.
        parameters: W_i, parameters in all layers up to i.
        degrees: of the units' inputs as polynomials in the parameters; i in a chain.
    """

    units: tuple[int, ...]
    parameters: tuple[int, ...]
    degrees: tuple[int, ...]


def log_growth(architecture: Architecture, samples: int) -> float:
    """ln of a bound of how many ways of being right and wrong on N points the networks have; at most N ln 2.

    >>> log_growth(Architecture((1,), (2,), (1,)), 1000) == math.log(2) + 2 * math.log(1000 * math.e)
    True
    """
    total = 0.0
    for units, parameters, degree in zip(
        architecture.units, architecture.parameters, architecture.degrees, strict=True
    ):
        every = samples * units * math.log(2)
        if 0 < parameters <= samples * units:
            warren = math.log(2) + parameters * math.log(2 * math.e * samples * units * degree / parameters)
            every = min(every, warren)
        total += every
    return min(total, samples * math.log(2))


def vc_dimension(architecture: Architecture) -> float:
    """An upper bound of the VC dimension of the sets on which such a network is wrong."""
    reach = sum(units * degree for units, degree in zip(architecture.units, architecture.degrees, strict=True))
    inner = max(16.0, 2 * math.e * reach)
    return len(architecture.units) + sum(architecture.parameters) * math.log2(2 * inner * math.log2(inner))


def uniform_gap(log_growth: float, samples: int, delta: float) -> float:
    """sqrt(2 ln growth / N) + sqrt(ln(1 / delta) / (2 N))."""
    return math.sqrt(2 * log_growth / samples) + math.sqrt(math.log(1 / delta) / (2 * samples))


def samples_needed(architecture: Architecture, gap: float, delta: float) -> int:
    """The least power of two N at which the bound is at most `gap`."""
    samples = 1
    while uniform_gap(log_growth(architecture, samples), samples, delta) > gap:
        samples *= 2
    return samples


def architecture_of(model: nn.Module, shape: tuple[int, ...]) -> Architecture:
    """Layers of a piecewise linear network: activations with as many before them, on the longest path, form one.

    The degree grows at affine maps with parameters; batch norm is folded into the map before it. W_i is cumulated where
    the network is a chain whose affine maps are its modules in order; else every W_i is W.

    Raises:
        Unsupported: the network has no graph, or an activation that is not piecewise linear.
    """
    graph = graph_of(model, shape)
    level, degree = [0] * len(graph.nodes), [0] * len(graph.nodes)
    units: dict[int, int] = {}
    degrees: dict[int, int] = {}
    for place, node in enumerate(graph.nodes):
        if isinstance(node, Affine):
            level[place] = max(level[i] for i in node.inputs)
            degree[place] = max(degree[i] for i in node.inputs) + (not _adds_nothing(graph, node))
        elif isinstance(node, Activation):
            if not node.piecewise:
                raise Unsupported(f"the count needs piecewise linear activations, this network has {node.kind}")
            level[place], degree[place] = level[node.input] + 1, degree[node.input]
            units[level[place]] = units.get(level[place], 0) + width(node)
            degrees[level[place]] = max(degrees.get(level[place], 0), degree[place])
    classes, last = width(graph.nodes[-1]), max(level) + 1
    units[last], degrees[last] = classes * (classes - 1) // 2, degree[-1]
    order = sorted(units)
    counts = _cumulative(model)
    chain = all(len(node.inputs) == 1 for node in graph.nodes if isinstance(node, Affine))
    if not (chain and len(counts) == degree[-1]):
        counts = [sum(p.numel() for p in model.parameters())] * degree[-1]
    return Architecture(
        tuple(units[i] for i in order),
        tuple(counts[degrees[i] - 1] if degrees[i] else 0 for i in order),
        tuple(degrees[i] for i in order),
    )


def _adds_nothing(graph: Graph, node: Affine) -> bool:
    """No parameters of its own, or the scale of a batch norm that belongs to the affine map before it."""
    if all(isinstance(m, Reshape | Pick | Same | Pooled) for m in node.maps):
        return True
    before = graph.nodes[node.inputs[0]]
    users = sum(node.inputs[0] in getattr(other, "inputs", ()) for other in graph.nodes)
    return all(isinstance(m, Scale) for m in node.maps) and isinstance(before, Affine) and users == 1


def _cumulative(model: nn.Module) -> list[int]:
    """Parameters up to each linear layer or convolution; what belongs to no such layer counts with the one before."""
    counts: list[int] = []
    for part in model.modules():
        own = sum(p.numel() for p in part.parameters(recurse=False))
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
            counts.append(own + (counts[-1] if counts else 0))
        elif own and counts:
            counts[-1] += own
        elif own:
            return []
    return counts


def vc(model: nn.Module, shape: tuple[int, ...], samples: int, train_error: float, delta: float = 0.05) -> Bound:
    """The error of the network by the uniform bound.

    >>> vc(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2), samples=10**6, train_error=0.0).vacuous
    False

    Raises:
        StackelbergError: delta outside (0, 1), or no sample.
        Unsupported: see `architecture_of`.
    """
    check_delta(delta)
    check_samples(samples)
    architecture = architecture_of(model, shape)
    value = train_error + uniform_gap(log_growth(architecture, samples), samples, delta)
    return of_rate(
        name="uniform, VC",
        value=value,
        delta=delta,
        holds_for=ERROR,
        assumptions=(
            DRAWN,
            f"for every network of this structure; d_VC is at most {vc_dimension(architecture):.3g}, and"
            f" {samples_needed(architecture, 0.1, delta):.3g} examples would bring the gap below 0.1",
        ),
        source=SOURCE,
    )
