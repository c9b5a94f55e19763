"""PointNet: every point through the same network, then the largest of each feature (Qi, Su, Mo and Guibas 2017)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from stackelberg.models.point_norm import at_least_float, full_precision, normed_by, point_norm, rising
from stackelberg.models.shapes import Inputs, Logits


def pointwise(sizes: list[int], branches: int) -> nn.Sequential:
    """fc, batch norm, ReLU for each step of `sizes`, over rows [N, C]."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, bias=False), point_norm(after, branches), nn.ReLU()]
    return nn.Sequential(*layers)


class Largest(nn.Module):
    """relu(max over points of norm(W x_p)): [B, P, before] to [B, after].

    Norm and ReLU are monotone in each channel, so the maximum comes first and both act on one row a cloud. The norm's
    statistics over all rows are W mean(x) and diag(W cov(x) W^T): the numbers of fc, norm, ReLU, max one after another,
    up to rounding, without their [B P, after] intermediate values, which are most of the network's time.
    """

    def __init__(self, before: int, after: int, branches: int) -> None:
        super().__init__()
        self.linear = nn.Linear(before, after, bias=False)
        self.norm = point_norm(after, branches)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.linear.weight
        place = torch.matmul(weight * rising(self.norm)[:, None], x.transpose(1, 2)).argmax(2)  # [B, after]
        clouds = torch.arange(len(x), device=x.device)[:, None]
        chosen = (x[clouds, place] * weight).sum(2)
        rows = x.flatten(0, 1)
        middle = rows.mean(0)
        apart = rows - middle
        spread = apart.T @ apart / len(rows)
        return torch.relu(normed_by(self.norm, chosen, weight @ middle, ((weight @ spread) * weight).sum(1), len(rows)))


class Alignment(nn.Module):
    """T-Net: a matrix [C, C] from the cloud itself, near the identity, that turns every point's C features.

    Args:
        channels: C.
        width: w; point features w, 2w, 16w, then fc 8w, 4w.
        branches: sets of batch norms.
    """

    eye: Tensor

    def __init__(self, channels: int, width: int, branches: int) -> None:
        super().__init__()
        self.channels = channels
        self.points = pointwise([channels, width, 2 * width], branches)
        self.pooled = Largest(2 * width, 16 * width, branches)
        self.head = pointwise([16 * width, 8 * width, 4 * width], branches)
        self.matrix = nn.Linear(4 * width, channels**2)
        nn.init.zeros_(self.matrix.weight)
        nn.init.zeros_(self.matrix.bias)
        self.register_buffer("eye", torch.eye(channels), persistent=False)

    def forward(self, x: Inputs) -> Inputs:
        features = self.points(x.flatten(0, 1)).view(x.shape[0], x.shape[1], -1)
        turn = self.matrix(self.head(self.pooled(features))).view(-1, self.channels, self.channels) + self.eye
        return torch.bmm(x, turn)


class PointNet(nn.Module):
    """Alignment of the points, fc w w, alignment of the features, fc w 2w 16w, largest over points, fc 8w 4w K.

    Any number of points may be given; their order does not matter. The classifier drops out 0.3 of its last features.

    Args:
        classes: K.
        shape: (P, 3) of a cloud; P is not used.
        width: w, 64 by default, as published.
        branches: sets of batch norms; more than one for training with clouds of several kinds.
    """

    def __init__(self, classes: int, shape: tuple[int, ...], width: int = 64, branches: int = 1) -> None:
        super().__init__()
        self.align_points = Alignment(shape[-1], width, branches)
        self.first = pointwise([shape[-1], width, width], branches)
        self.align_features = Alignment(width, width, branches)
        self.second = pointwise([width, width, 2 * width], branches)
        self.pooled = Largest(2 * width, 16 * width, branches)
        self.head = nn.Sequential(*pointwise([16 * width, 8 * width, 4 * width], branches), nn.Dropout(0.3))
        self.classifier = nn.Linear(4 * width, classes)

    def features(self, x: Inputs) -> Inputs:
        """The 4w features before the last layer, [B, 4w]; in float32 also where lower precision is the rule."""
        with full_precision(x):
            x = at_least_float(x)
            batch, count = x.shape[0], x.shape[1]
            rows = self.first(self.align_points(x).flatten(0, 1))
            rows = self.second(self.align_features(rows.view(batch, count, -1)).flatten(0, 1))
            return self.head(self.pooled(rows.view(batch, count, -1)))

    def forward(self, x: Inputs) -> Logits:
        return self.classifier(self.features(x))
