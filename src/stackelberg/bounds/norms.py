"""How large are this network's weights, measured so that they bound its error?  Spectral, Frobenius and path norms.

A chain of affine maps and (leaky) ReLUs is read with batch norm folded in, every convolution as a matrix, and every
bias as the column of a unit that carries the constant 1: A_i = [[W_i, b_i], [0, 1]], the last without the new row. With
x = (input, 1) and complexities of the network's class on the sample (upper bounds):

    spectral   loss class: 4 / N^(3/2) + 18 ln(N) sqrt(R) / N,  R = 4 ||X||_F^2 ln(2 w^2) v^2 (sum_i r_i^(2/3))^3,
               v = prod_i ||A_i||_2 / gamma, r_i = ||A_i^T||_{2,1} / ||A_i||_2, w the largest width
               (Bartlett, Foster and Telgarsky 2017: theorem 3.3, lemma A.5 with alpha = 1/N; reference matrices 0)
    Golowich   one output: (sqrt(2 ln 2 L) + 1) v sqrt(sum_i ||x_i||^2) / N,  v = prod_i ||A_i||_F / gamma
               (Golowich, Rakhlin and Shamir 2018, theorem 1)
    path       one output: 2 v sqrt((L + 1 + ln D) max_j sum_i x_ij^2) / N,  v = the sum over paths to an output of
               the product of |weights|, over gamma: the l1 norms of rows after rescaling units (Neyshabur, Tomioka and
               Srebro 2015, theorem 5; Golowich et al. 2018, theorem 2)

The error: with R_gamma the share of training examples with a margin below gamma,

    error <= R_gamma + 2 Rad (loss class)  or  R_gamma + 4 K Rad (one output),   + 3 sqrt(ln(2 / delta') / (2 N))

(Mohri et al. 2018, theorems 3.3 and 9.2). v and each r_i are rounded up to powers of two, and delta is shared out among
all powers, since the norms are known only after the training: power j gets delta / (1.5 (|j| + 1) (|j| + 2)).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import block_array, csr_array
from torch import Tensor, nn

from stackelberg.bounds.bound import DRAWN, ERROR, Bound, of_rate
from stackelberg.bounds.checking import check_delta, check_samples
from stackelberg.bounds.fitting import Answers
from stackelberg.certify.certificate import Unsupported
from stackelberg.certify.enclosure import matrices, shift
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.lipschitz import spectral_bound
from stackelberg.certify.nodes import Activation, Affine, width
from stackelberg.data import Dataset

_ENTRIES = 1 << 28  # of a layer's matrix on its way to being sparse


@dataclass(frozen=True)
class Norms:
    """Norms of the matrices A_i of a network.

    Attributes:
        spectral: ||A_i||_2, proved upper bounds, of each layer.
        two_one: the sum of the l2 norms of the rows of A_i, of each layer.
        frobenius: ||A_i||_F of each layer; of the last its largest row.
        path: the largest sum over paths to one output of products of |weights|.
        width: the largest number of units of a layer, input included.
        inputs: D, coordinates of x with its constant.
        classes: K.
    """

    spectral: tuple[float, ...]
    two_one: tuple[float, ...]
    frobenius: tuple[float, ...]
    path: float
    width: int
    inputs: int
    classes: int

    @property
    def depth(self) -> int:
        """L, affine layers."""
        return len(self.spectral)


@dataclass(frozen=True)
class Sizes:
    """How large the N inputs are, with their constants.

    Attributes:
        squares: sum_i ||x_i||^2.
        column: max_j sum_i x_ij^2.
        n: N.
    """

    squares: float
    column: float
    n: int


def sizes(data: Dataset) -> Sizes:
    """The sizes of a data set's inputs as a network takes them."""
    columns = torch.zeros(math.prod(data.shape), dtype=torch.float64)
    for start in range(0, len(data), 1024):
        x, _ = data.batch(slice(start, start + 1024))
        columns += x.flatten(1).double().square().sum(0).cpu()
    n = len(data)
    return Sizes(float(columns.sum()) + n, max(float(columns.max()), float(n)), n)


def norms_of(model: nn.Module, shape: tuple[int, ...]) -> Norms:
    """The norms of a network that is a chain of linear layers, convolutions, batch norms and (leaky) ReLUs.

    Raises:
        Unsupported: the network has no graph, its paths meet, an activation is no (leaky) ReLU, or a layer is too
            large to be written as a matrix.
    """
    graph = graph_of(model, shape)
    layers = _chain(graph)
    spectral, two_one, frobenius = [], [], []
    for place, (matrix, bias) in enumerate(layers):
        last = place == len(layers) - 1
        rows = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel() + bias**2)
        spectral.append(spectral_bound(_augmented(matrix, bias, last)))
        two_one.append(float(rows.sum()) + (0 if last else 1))
        frobenius.append(float(rows.max()) if last else math.sqrt(float((rows**2).sum()) + 1))
    inputs = math.prod(shape) + 1
    widest = max([inputs, *(len(bias) + 1 for _, bias in layers)])
    return Norms(
        tuple(spectral), tuple(two_one), tuple(frobenius), _path_norm(graph), widest, inputs, len(layers[-1][1])
    )


def _chain(graph: Graph) -> list[tuple[csr_array, np.ndarray]]:
    """(W_i, b_i) in order; affine maps that follow each other, as a batch norm or a rearrangement, are one."""
    layers: list[tuple[csr_array, np.ndarray]] = []
    for place, node in enumerate(graph.nodes[1:], 1):
        if node.inputs != (place - 1,):  # pyright: ignore[reportAttributeAccessIssue]  # only the first is no step
            raise Unsupported("norm-based bounds need a chain of layers, in this network paths meet")
        if isinstance(node, Activation):
            if not node.piecewise:
                raise Unsupported(f"norm-based bounds need homogeneous activations, this network has {node.kind}")
        elif isinstance(node, Affine):
            if width(node) * width(graph.nodes[place - 1]) > _ENTRIES:
                raise Unsupported(f"norms write layers out as matrices, one of this network has {width(node)} rows")
            matrix, bias = matrices(graph, node)[0], shift(node)
            if isinstance(graph.nodes[place - 1], Affine):
                before, shifted = layers.pop()
                matrix, bias = csr_array(matrix @ before), matrix @ shifted + bias
            layers.append((matrix, bias))
    if not layers or not isinstance(graph.nodes[-1], Affine):
        raise Unsupported("norm-based bounds need a network that ends in an affine layer")
    return layers


def _augmented(matrix: csr_array, bias: np.ndarray, last: bool) -> csr_array:
    """[[W, b], [0, 1]], the last layer's without the row of the constant."""
    top = [matrix, csr_array(bias[:, None])]
    rows = [top] if last else [top, [None, csr_array(np.ones((1, 1)))]]
    return csr_array(block_array(rows, format="csr"))


def _path_norm(graph: Graph) -> float:
    """The network with |weights| and |biases|, at the input of ones."""
    value: Tensor = torch.ones(1, *graph.shape, dtype=torch.float64)
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            value = node.magnitude([value.to(node.constant.device)]) + node.constant.abs()
    return float(value.max())


def spectral_complexity(v: float, ratios: tuple[float, ...], width: int, sizes: Sizes) -> float:
    """Rad of the ramp loss over networks with product of spectral norms over gamma <= v and ratios <= r_i."""
    through = 2 * math.sqrt(sizes.squares * math.log(2 * width**2)) * v * sum(r ** (2 / 3) for r in ratios) ** 1.5
    return 4 / sizes.n**1.5 + 18 * math.log(sizes.n) * through / sizes.n


def frobenius_complexity(v: float, depth: int, sizes: Sizes) -> float:
    """Rad of one output over networks with product of Frobenius norms <= v."""
    return (math.sqrt(2 * math.log(2) * depth) + 1) * v * math.sqrt(sizes.squares) / sizes.n


def path_complexity(v: float, depth: int, inputs: int, sizes: Sizes) -> float:
    """Rad of one output over networks with path norm <= v."""
    return 2 * v * math.sqrt((depth + 1 + math.log(inputs)) * sizes.column) / sizes.n


def power_above(value: float) -> tuple[float, float]:
    """(the least power of two >= value, what ln(1 / delta) grows by for it)."""
    j = math.ceil(math.log2(value)) if value > 0 else -1000
    return 2.0**j, math.log(1.5 * (abs(j) + 1) * (abs(j) + 2))


def norm_bounds(norms: Norms, sizes: Sizes, found: Answers, delta: float = 0.05) -> tuple[Bound, Bound, Bound]:
    """The error by the spectral, the Frobenius and the path norm, each at the margin gamma that serves it best.

    Args:
        norms: of the network.
        sizes: of its training inputs.
        found: its answers on them.
        delta: of each bound.

    Raises:
        StackelbergError: delta outside (0, 1), or fewer than two examples.
    """
    check_delta(delta)
    check_samples(sizes.n, 2)
    product = math.prod(norms.spectral)
    ratios, prices = zip(
        *(power_above(max(1.0, b / s)) if s > 0 else (1.0, 0.0) for b, s in _pairs(norms)), strict=True
    )

    def spectral(v: float) -> float:
        return 2 * spectral_complexity(v, ratios, norms.width, sizes)

    def frobenius(v: float) -> float:
        return 4 * norms.classes * frobenius_complexity(v, norms.depth, sizes)

    def path(v: float) -> float:
        return 4 * norms.classes * path_complexity(v, norms.depth, norms.inputs, sizes)

    said = (
        ("norms, spectral", spectral, product, sum(prices), "Bartlett, Foster and Telgarsky 2017, theorem 3.3"),
        ("norms, Frobenius", frobenius, math.prod(norms.frobenius), 0.0, "Golowich et al. 2018, theorem 1"),
        ("norms, path", path, norms.path, 0.0, "Neyshabur et al. 2015, theorem 5; Golowich et al. 2018, theorem 2"),
    )
    bounds = [
        _best(name, complexity, norm, price, source, sizes.n, found, delta)
        for name, complexity, norm, price, source in said
    ]
    return bounds[0], bounds[1], bounds[2]


def _pairs(norms: Norms) -> list[tuple[float, float]]:
    return list(zip(norms.two_one, norms.spectral, strict=True))


def _best(
    name: str, complexity: Callable[[float], float], norm: float, price: float, source: str, n: int, found: Answers,
    delta: float,
) -> Bound:  # fmt: skip
    """The bound at the best margin: gamma is free, as a network over gamma has a norm over gamma."""
    margins = np.sort(found.margins.numpy())
    largest = max(float(margins[-1]), 1e-12)
    value, at = math.inf, largest
    for gamma in largest * 2.0 ** np.arange(0.0, -20.0, -1.0):
        v, more = power_above(norm / gamma)
        share = float(np.searchsorted(margins, gamma, side="left")) / n
        slack = 3 * math.sqrt((math.log(2 / delta) + price + more) / (2 * n))
        total = share + complexity(v) + slack
        if total < value:
            value, at = total, float(gamma)
    return of_rate(
        name=name,
        value=value,
        delta=delta,
        holds_for=ERROR,
        assumptions=(
            DRAWN,
            f"at the margin {at:.3g}, with the norm {norm:.3g}",
        ),
        source=source,
    )
