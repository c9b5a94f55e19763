"""What can be said of any network in l2?  That its smoothed version keeps its answer, with high probability.

The smoothed classifier answers g(x) = argmax_c P(f(x + sigma Z) = c), Z standard normal. If its first class has
probability at least p > 1/2, then g is constant within l2 distance sigma Phi^-1(p) (Cohen, Rosenfeld and Kolter 2019,
theorem 1 with p_B = 1 - p). The p is a lower confidence bound from samples, so this is a statement *about g*, not about
f, and it may be wrong with probability alpha for each example: never to be added to proofs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.attacks.attack import check_labels
from stackelberg.attacks.oracle import Oracle
from stackelberg.errors import StackelbergError
from stackelberg.threat import chance, clopper_pearson

ABSTAIN = -1
BLOCK = 64
"""Noise vectors that one counter of the generator stands for."""

_TOGETHER = 4096  # noisy inputs sent forward at a time, at most about this many


@dataclass(frozen=True, eq=False)
class SmoothedCertificate:
    """With probability >= `confidence`, for each example alone: g(x') = predicted for ||x' - x||_2 < radius.

    Attributes:
        sigma: standard deviation of the noise, in input units.
        samples: noise vectors per example behind the estimate.
        confidence: 1 - alpha.
        predicted: g(x) [B], or ABSTAIN where the samples do not tell.
        radius: l2, in input units [B]; 0 where abstaining.
        right: whether predicted is the label [B].
    """

    sigma: float
    samples: int
    confidence: float
    predicted: Int64[Tensor, " B"]
    radius: Float64[Tensor, " B"]
    right: Bool[Tensor, " B"]

    def holds_within(self, radius: float) -> Bool[Tensor, " B"]:
        """Where the right label is kept at this l2 radius, each with probability >= `confidence` [B]."""
        return self.right & (self.radius > radius)


def smooth(
    model: nn.Module,
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " B"],
    sigma: float,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 0.001,
    seed: int = 0,
) -> SmoothedCertificate:
    """Cohen et al. 2019, CERTIFY: the class by a vote of n0 samples, its probability by n others.

    radius = sigma Phi^-1(p), p the one-sided Clopper-Pearson bound of level alpha; p <= 1/2 abstains. The noise is not
    clipped to the box of valid inputs. It is drawn from each example's own counter (see `chance`; the normal law is
    replaced by 2^23 equally likely quantiles of it), so an example's certificate does not depend on its batch.

    >>> import torch
    >>> net = torch.nn.Flatten()  # two pixels are the two logits
    >>> x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])
    >>> vote = smooth(net, x, y, sigma=0.25, n=1000)  # the boundary is 0.5 / sqrt 2 away
    >>> vote.predicted.tolist(), 0 < float(vote.radius[0]) < 0.5 / 2**0.5
    ([0], True)

    Args:
        model: logits [B, K] from inputs; comes back as it was given.
        x: inputs.
        y: labels.
        sigma: standard deviation of the noise, in input units.
        n0: samples for the vote.
        n: samples for the estimate.
        alpha: probability of a wrong statement, per example.
        seed: of the noise.

    Raises:
        StackelbergError: sigma, n0, n or alpha outside its range, or labels outside the model's classes.
    """
    _refuse(sigma, n0, n, alpha)
    with untouched(model):
        oracle = Oracle(model, "float32")
        check_labels(oracle, x, y)
        keys = chance.example_keys(x, seed)
        first = counts(oracle, x, sigma, n0, chance.fold(keys, 0)).argmax(1)
        hits = counts(oracle, x, sigma, n, chance.fold(keys, 1)).gather(1, first[:, None])[:, 0]
    low = torch.tensor([lower_bound(int(k), n, alpha) for k in hits], dtype=torch.float64, device=x.device)
    sure = low > 0.5
    radius = torch.where(sure, sigma * torch.special.ndtri(low), 0.0)
    predicted = torch.where(sure, first, ABSTAIN)
    return SmoothedCertificate(sigma, n, 1 - alpha, predicted, radius, predicted == y)


def lower_bound(hits: int, n: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson bound: P(bound > p) <= alpha for every p."""
    return clopper_pearson(hits, n, 1 - 2 * alpha).low


def counts(
    oracle: Oracle, x: Float[Tensor, " B *shape"], sigma: float, n: int, keys: Int64[Tensor, " B"]
) -> Int64[Tensor, "B K"]:
    """How often each class is answered at x + sigma Z over `n` draws of Z, by each example's key."""
    shape, parts = tuple(x.shape[1:]), []
    for rows in torch.arange(len(x), device=x.device).split(_TOGETHER // BLOCK):
        votes: Tensor | int = 0
        for draws, block in _blocks(n):
            noise = chance.normal(chance.fold(keys[rows], block), (BLOCK, *shape))[:, :draws]
            logits = oracle.exact((x[rows, None] + sigma * noise).flatten(0, 1))
            chosen = nn.functional.one_hot(logits.argmax(1), logits.shape[1])
            votes = votes + chosen.view(len(rows), draws, logits.shape[1]).sum(1)
        parts.append(votes)
    return torch.cat(parts) if parts else torch.zeros(0, 2, dtype=torch.long, device=x.device)


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    """(draws, counter): n draws in blocks."""
    for block, start in enumerate(range(0, n, BLOCK)):
        yield min(BLOCK, n - start), block


def _refuse(sigma: float, n0: int, n: int, alpha: float) -> None:
    if not 0 < sigma < float("inf"):
        raise StackelbergError(f"sigma must be a number > 0 in input units, got {sigma}; for images try 0.25")
    if n0 < 1 or n < 1:
        raise StackelbergError(f"n0 and n must be at least 1, got {n0} and {n}; usual are 100 and 10000")
    if not 0 < alpha < 0.5:
        raise StackelbergError(f"alpha must lie in (0, 0.5), got {alpha}; usual is 0.001")
