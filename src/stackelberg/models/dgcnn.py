"""DGCNN: each point looks at its nearest neighbours, in space and then in features (Wang et al. 2019)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackelberg.models.point_norm import at_least_float, full_precision, normed_by, point_norm, rising
from stackelberg.models.shapes import Inputs, Logits
from stackelberg.threat.clouds import neighbours

SLOPE = 0.2
"""Of the leaky ReLUs, as published."""


class EdgeConv(nn.Module):
    """max over the k nearest j of leaky(norm(W (x_j - x_i) + V x_i)) for each point i.

    W (x_j - x_i) + V x_i = a_j + c_i with a = W x and c = (V - W) x, so both products are over points, not over edges.
    Norm and leaky ReLU are monotone in each channel, so the maximum comes first; the norm's statistics over all edges
    follow from the sums of a over each neighbourhood. The same numbers as edge by edge, up to rounding.

    Args:
        before: features of a point.
        after: features that come out.
        k: neighbours, the point itself among them; all points where there are fewer.
        branches: sets of batch norms.
    """

    def __init__(self, before: int, after: int, k: int, branches: int) -> None:
        super().__init__()
        self.k = k
        self.neighbour = nn.Linear(before, after, bias=False)
        self.centre = nn.Linear(before, after, bias=False)
        self.norm = point_norm(after, branches)

    def forward(self, x: Tensor) -> Tensor:
        places = neighbours(x, min(self.k, x.shape[1]), ordered=False)
        theirs, k = self.neighbour(x), places.shape[2]
        own = self.centre(x) - theirs
        best = _best_neighbour(theirs * rising(self.norm), places)
        chosen = theirs.gather(1, best) + own
        mean, variance = theirs.new_zeros(()), theirs.new_zeros(())
        if self.training:
            mean, variance = _edge_statistics(theirs, own, places)
        return F.leaky_relu(normed_by(self.norm, chosen, mean, variance, x.shape[0] * x.shape[1] * k), SLOPE)


def _best_neighbour(values: Tensor, places: Tensor) -> Tensor:
    """argmax over j in places[b, p] of values[b, j, c]: [B, P, C]. The k values of a channel lie side by side."""
    batch, count, k = places.shape
    rows = values.transpose(1, 2)
    flat = places.view(batch, 1, count * k).expand(-1, rows.shape[1], -1)
    which = rows.gather(2, flat).view(batch, -1, count, k).argmax(3)
    return places.gather(2, which.transpose(1, 2))


def _edge_statistics(theirs: Tensor, own: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [C] of theirs_j + own_i over all edges (i, j)."""
    k = places.shape[2]
    joined = torch.zeros(*places.shape[:2], theirs.shape[1], dtype=theirs.dtype, device=theirs.device)
    joined.scatter_(2, places, 1.0)
    middle = (theirs.detach() + own.detach()).mean((0, 1)) / 2  # near both means: sums of squares lose less
    a, c = theirs - middle, own - middle
    around = torch.bmm(joined, a)
    mean = around.mean((0, 1)) / k + c.mean((0, 1))
    degree = joined.sum(1)[:, :, None]
    square = ((degree * a.square()).mean((0, 1)) + 2 * (c * around).mean((0, 1))) / k + c.square().mean((0, 1))
    return mean + 2 * middle, square - mean.square()


class DGCNN(nn.Module):
    """Edge convolutions w, w, 2w, 4w on dynamic graphs; fc 16w of all; largest and mean over points; fc 8w, 4w, K.

    The graph of each layer joins the k points nearest in that layer's features. Any number of points may be given;
    their order does not matter. The classifier drops out half of its features twice, as published.

    Args:
        classes: K.
        shape: (P, 3) of a cloud; P is not used.
        width: w, 64 by default, as published.
        branches: sets of batch norms; more than one for training with clouds of several kinds.
        k: neighbours, 20 as published.
    """

    def __init__(self, classes: int, shape: tuple[int, ...], width: int = 64, branches: int = 1, k: int = 20) -> None:
        super().__init__()
        sizes = [shape[-1], width, width, 2 * width, 4 * width]
        self.edges = nn.ModuleList(EdgeConv(a, b, k, branches) for a, b in pairwise(sizes))
        self.joined = nn.Linear(8 * width, 16 * width, bias=False)
        self.joined_norm = point_norm(16 * width, branches)
        self.head = nn.Sequential(
            nn.Linear(32 * width, 8 * width, bias=False),
            point_norm(8 * width, branches),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.5),
            nn.Linear(8 * width, 4 * width),
            point_norm(4 * width, branches),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.5),
        )
        self.classifier = nn.Linear(4 * width, classes)

    def features(self, x: Inputs) -> Inputs:
        """The 4w features before the last layer, [B, 4w]; in float32 also where lower precision is the rule."""
        with full_precision(x):
            x, layers = at_least_float(x), []
            for edge in self.edges:
                x = edge(x)
                layers.append(x)
            rows = self.joined_norm(self.joined(torch.cat(layers, 2).flatten(0, 1)))
            joined = F.leaky_relu(rows, SLOPE).view(x.shape[0], x.shape[1], -1)
            return self.head(torch.cat([joined.amax(1), joined.mean(1)], 1))

    def forward(self, x: Inputs) -> Logits:
        return self.classifier(self.features(x))
