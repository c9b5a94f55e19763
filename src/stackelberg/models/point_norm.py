"""Batch norm for points, with further sets of statistics for clouds of another kind (AdvProp, Xie et al. 2020).

Adversarial and clean inputs have other means and variances; one batch norm for both fits neither. So a network may
hold several of each norm, one per kind of input, and share all other weights. Evaluation uses the first, the clean one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stackelberg.models.shapes import Inputs


class BranchedNorm(nn.Module):
    """One batch norm per branch over [N, C]; `branch` says which one works.

    Attributes:
        norms: the batch norms; the first is for clean inputs.
        branch: the place of the one in use.
    """

    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels) for _ in range(branches))
        self.branch = 0

    @property
    def weight(self) -> Tensor:
        """The slopes of the norm in use, [C]."""
        return self.current.weight

    @property
    def current(self) -> nn.BatchNorm1d:
        """The norm in use."""
        norm = self.norms[self.branch]
        assert isinstance(norm, nn.BatchNorm1d)
        return norm

    def forward(self, x: Inputs) -> Inputs:
        return self.norms[self.branch](x)


PointNorm = nn.BatchNorm1d | BranchedNorm


def point_norm(channels: int, branches: int) -> PointNorm:
    """A plain batch norm over [N, C], or a branched one where there are several branches."""
    return nn.BatchNorm1d(channels) if branches == 1 else BranchedNorm(channels, branches)


def branches_of(model: nn.Module) -> int:
    """How many sets of norms a network has; 1 for one without branches."""
    return min((len(m.norms) for m in model.modules() if isinstance(m, BranchedNorm)), default=1)


@contextmanager
def on_branch(model: nn.Module, branch: int) -> Iterator[None]:
    """The network's norms of one branch inside, the ones before again after; nothing happens without branches."""
    norms = [module for module in model.modules() if isinstance(module, BranchedNorm)]
    before = [norm.branch for norm in norms]
    for norm in norms:
        norm.branch = branch
    try:
        yield
    finally:
        for norm, old in zip(norms, before, strict=True):
            norm.branch = old


def rising(norm: PointNorm) -> Tensor:
    """+1 for each channel that the norm lets rise, -1 for one that it turns round, [C]: where its largest is sought."""
    return torch.where(norm.weight.signbit(), -1.0, 1.0)


def normed_by(norm: PointNorm, chosen: Tensor, mean: Tensor, variance: Tensor, count: int) -> Tensor:
    """What batch norm makes of the numbers `chosen` [..., C] out of `count` rows whose statistics [C] are known.

    So the statistics can be those of all rows where only a few of them go on. In evaluation the running ones are used.
    """
    own = norm.current if isinstance(norm, BranchedNorm) else norm
    if own.training and own.running_mean is not None and own.running_var is not None:
        assert own.num_batches_tracked is not None
        with torch.no_grad():
            share = 0.1 if own.momentum is None else own.momentum
            own.running_mean.lerp_(mean.detach(), share)
            own.running_var.lerp_(variance.detach() * count / max(1, count - 1), share)
            own.num_batches_tracked += 1
    elif own.running_mean is not None and own.running_var is not None:
        mean, variance = own.running_mean, own.running_var
    return (chosen - mean) * (torch.rsqrt(variance + own.eps) * own.weight) + own.bias


def at_least_float(x: Tensor) -> Tensor:
    """x in float32, or as it is where it has more bits."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def full_precision(x: Tensor) -> torch.autocast:
    """No autocast inside: a coordinate near 1 keeps 3 decimals of 8 bits, and variances as differences fewer still."""
    return torch.autocast(x.device.type, enabled=False)
