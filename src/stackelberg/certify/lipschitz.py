"""How fast can the answer change?  A global Lipschitz bound: one number per pair of classes, for every input at once.

If |(z_y - z_k)(x) - (z_y - z_k)(x')| <= L_yk ||x - x'||, the label y is kept within (z_y - z_k)(x) / L_yk (Hein and
Andriushchenko 2017; Tsuzuku, Sato and Sugiyama 2018, proposition 1). Cheap once L is known, and loose on networks that
were not trained for it.
"""

import math

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float, Float64, Int64
from scipy.sparse import csr_array
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.enclosure import SLACK, enclosure, matrices
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.nodes import Activation, Affine, width
from stackelberg.certify.region import input_region, reach
from stackelberg.threat import Ball

GRAM = 4096
"""The largest Gram matrix whose largest eigenvalue a Cholesky factor proves; beyond it norms of rows and columns."""

_ENTRIES = 1 << 28  # of a layer's matrix on its way to being sparse
_STEEPEST = {"relu": 1.0, "leaky": 1.0, "sigmoid": 0.25, "tanh": 1.0}


@torch.no_grad()
def lipschitz(model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"], ball: Ball) -> Certificate:
    """margin_i = min over k != y_i of (z_y - z_k)(x_i) - L_yk radius - rounding <= the true minimum over the ball.

    L by `slopes`. The rounding of the network as it runs is taken off at x and over the ball (see `enclosure`).

    >>> import torch
    >>> net = torch.nn.Flatten()  # two pixels are the two logits
    >>> x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])
    >>> round(float(lipschitz(net, x, y, Ball("linf", 0.1)).margin[0]), 4)
    0.3

    Raises:
        Unsupported: a norm other than linf and l2, an operation without a rule, or a layer too large.
    """
    if ball.norm not in ("linf", "l2"):
        raise Unsupported(f"Lipschitz bounds are known for linf and l2, got the norm {ball.norm}; use ibp")
    if not len(x):
        return Certificate("lipschitz", ball, x.new_zeros(0, dtype=torch.float64))
    graph = graph_of(model, tuple(x.shape[1:]))
    logits, region = graph.forward(x), input_region(x, ball)
    if logits.dim() != 2:
        raise Unsupported(f"bounds need logits [B, K], this network returns shape {tuple(logits.shape)}")
    error = enclosure(graph, region.low, region.high).error[-1]
    steep = torch.from_numpy(slopes(graph, ball.norm)).to(x.device)
    gaps = logits.gather(1, y[:, None]) - logits - steep[y] * reach(ball)
    gaps = gaps - error - error.gather(1, y[:, None]) - SLACK * logits.abs().amax(1, keepdim=True)
    return Certificate("lipschitz", ball, gaps.scatter(1, y[:, None], torch.inf).amin(1))


def slopes(graph: Graph, norm: str) -> Float64[np.ndarray, "K K"]:
    """L [y, k] with |(z_y - z_k)(x) - (z_y - z_k)(x')| <= L_yk ||x - x'|| for all x, x'; linf or l2.

    l2: the product of the layers' spectral norms, each a proved upper bound; where paths meet (a residual sum) their
    products are added; the last layer counts by its differences of rows. linf: coordinates one by one,
    r_out = |W| r_in from r = 1, which is never above the product of the layers' norms.
    """
    last = graph.nodes[-1]
    if not isinstance(last, Affine):
        raise Unsupported("Lipschitz bounds need a network that ends in an affine layer; take the last activation off")
    reached = _coordinates(graph) if norm == "linf" else _norms(graph)
    total = np.zeros((width(last), width(last)))
    for matrix, place in zip(_explicit(graph, last), last.inputs, strict=True):
        rows = np.asarray(matrix.todense())
        for label, row in enumerate(rows):
            apart = row - rows
            if norm == "linf":
                total[label] += np.abs(apart) @ reached[place]
            else:
                total[label] += np.linalg.norm(apart, axis=1) * reached[place]
    return total * (1 + 1e-9)


def _coordinates(graph: Graph) -> list[np.ndarray]:
    """How far each coordinate of each node moves when the inputs move by one, [n]."""
    reached = [torch.ones(1, *graph.shape, dtype=torch.float64)]
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            reached.append(node.magnitude([reached[i].to(node.constant.device) for i in node.inputs]))
        elif isinstance(node, Activation):
            reached.append(reached[node.input] * _STEEPEST[node.kind])
    return [one.flatten().cpu().numpy() for one in reached]


def _norms(graph: Graph) -> list[float]:
    """How far each node moves, in l2, when the input moves by one."""
    reached = [1.0]
    for node in graph.nodes[1:-1]:
        if isinstance(node, Affine):
            parts = zip(_explicit(graph, node), node.inputs, strict=True)
            reached.append(sum(spectral_bound(matrix) * reached[place] for matrix, place in parts))
        elif isinstance(node, Activation):
            reached.append(reached[node.input] * _STEEPEST[node.kind])
    return reached


def _explicit(graph: Graph, node: Affine) -> list[csr_array]:
    for place in node.inputs:
        if width(graph.nodes[place]) * width(node) > _ENTRIES:
            raise Unsupported(
                f"Lipschitz bounds write layers out as matrices, and one of this network has {width(node)} x"
                f" {width(graph.nodes[place])} entries; use crown"
            )
    return matrices(graph, node)


def spectral_bound(matrix: csr_array) -> float:
    """An upper bound of the largest singular value, proved and close.

    Power iterations approach the norm from below, so they prove nothing. Their answer s is only a guess: G = A A^T (the
    smaller Gram matrix, n x n) has no eigenvalue above mu = (1 + 1e-4) s^2 if mu I - G has a Cholesky factor, up to the
    rounding of the factor, n^2 mu 2^-52 at most (Rump 2006, Verification of positive definiteness), and of
    G. Large matrices: ||A||_2 <= sqrt(||A||_1 ||A||_inf).
    """
    magnitude = abs(matrix)
    crude = math.sqrt(float(magnitude.sum(0).max()) * float(magnitude.sum(1).max()))
    entries = np.asarray(matrix.data)
    if crude == 0 or not np.isfinite(entries).all():
        return crude
    low, high = sorted(matrix.shape)  # pyright: ignore[reportArgumentType]  # of scipy's types
    if low > GRAM or _is_monomial(matrix):
        return crude * (1 + 1e-12)
    wide = matrix if matrix.shape[0] == low else matrix.T  # pyright: ignore[reportOptionalSubscript]
    gram = np.asarray((wide @ wide.T).todense())
    mu = _guess(gram) * (1 + 1e-4)
    slack = 2.0**-50 * (low**2 * mu + high * float((entries**2).sum()))
    for _ in range(8):
        if mu >= crude**2:
            break
        try:
            scipy.linalg.cholesky(mu * np.eye(low) - gram, lower=True, overwrite_a=True, check_finite=False)
        except scipy.linalg.LinAlgError:
            mu *= 1.05
        else:
            return min(crude, math.sqrt(mu + slack)) * (1 + 1e-12)
    return crude * (1 + 1e-12)


def _is_monomial(matrix: csr_array) -> bool:
    """At most one entry in every row and column, as in a scaling: row and column norms are then exact."""
    counts = [np.diff(form.indptr).max(initial=0) for form in (matrix.tocsr(), matrix.tocsc())]
    return int(max(counts)) <= 1


def _guess(gram: np.ndarray) -> float:
    """About the largest eigenvalue of the Gram matrix."""
    if len(gram) < 64:
        return float(np.linalg.eigvalsh(gram)[-1])
    start = np.random.default_rng(0).standard_normal(len(gram))
    return float(eigsh(gram, k=1, v0=start, return_eigenvectors=False)[0])
