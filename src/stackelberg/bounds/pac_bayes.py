"""How wrong is a network that was drawn?  PAC-Bayes with a prior that half of the data has trained.

The sample falls at random into A and B, n = |B|. The prior P = N(w_A, Sigma) knows A only: w_A is trained on A, and
Sigma is diagonal, for every tensor the square of `scale` times the root mean square of w_A there. The posterior Q =
N(w, Sigma) may know everything: w starts at w_A and goes on on A and B. For a fixed scale, with probability 1 - delta,

    for all Q at once:  kl(R_B(Q) || R(Q)) <= (KL(Q || P) + ln(2 sqrt n / delta)) / n,   KL = |w - w_A|^2 / (2 Sigma)
                                                            (Seeger 2002; Maurer 2004)
    for h drawn once:   kl(R_B(h) || R(h)) <= (ln q(h) / p(h) + ln(2 sqrt n / delta)) / n     also over the draw
                                                            (Rivasplata et al. 2020, theorem 1)

Accounts: delta / 2 for the theorem, shared out equally among the scales tried, since the scale is chosen by B; and
delta / 2 for R_B(Q), which is measured by independent draws of (network, batch of B), numbers in [0, 1], by Chernoff's
bound kl(mean || R_B(Q)) <= ln(2 / delta) / draws. w and the scale are chosen with other draws than it is measured with.
For one network nothing is estimated: its errors on B are counted, and the theorem has all of delta.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stackelberg.bounds.binary_kl import chernoff_upper, upper_by_seen
from stackelberg.bounds.bound import Bound, of_rate
from stackelberg.bounds.checking import check_delta, check_samples
from stackelberg.bounds.fitting import answers, device_of, fit, fresh, in_mode
from stackelberg.data import Dataset

SCALES = (0.03, 0.1, 0.2)
LEAST_STEPS = 500
"""Of the prior's training, on however few examples."""


@dataclass(frozen=True, eq=False)
class PacBayes:
    """What a posterior is and promises.

    Attributes:
        bound: of the mean error of networks drawn from Q.
        single: of the error of `network`.
        network: the one that was drawn.
        mean_error: R_B(Q) as measured.
        divergence: KL(Q || P), nats.
        scale: that was chosen.
        n: |B|.
    """

    bound: Bound
    single: Bound
    network: nn.Module
    mean_error: float
    divergence: float
    scale: float
    n: int


def kl_bound(seen: float, information: float, n: int, delta: float) -> float:
    """sup {u : kl(seen || u) <= (information + ln(2 sqrt n / delta)) / n}.

    >>> round(kl_bound(0.02, 100.0, 5000, 0.05), 4)
    0.0638
    """
    check_delta(delta)
    check_samples(n)
    return upper_by_seen(seen, max(0.0, information + math.log(2 * math.sqrt(n) / delta)) / n)


def pac_bayes(
    model: nn.Module,
    train: Dataset,
    delta: float = 0.05,
    n: int | None = None,
    epochs: int = 3,
    draws: int = 600,
    batch: int = 32,
    scales: tuple[float, ...] = SCALES,
    seed: int = 0,
) -> PacBayes:
    """Train a prior and a posterior of the model's structure on its training set, and bound the posterior's error.

    Args:
        model: whose structure is taken; its weights are not, as they know all of the data.
        train: the sample.
        delta: the chance that a bound fails, of each.
        n: examples of the sample that are used, at random; all if None.
        epochs: of the prior's training on half of them; more where the half is small, for 500 steps.
        draws: of (network, batch) to measure R_B(Q) with.
        batch: examples of B for each draw.
        scales: of the noise that are tried.
        seed: of the split, the weights and the draws.

    Raises:
        StackelbergError: delta outside (0, 1), or fewer than four examples.
    """
    check_delta(delta)
    check_samples(len(train), 4)
    chance = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=chance)[: len(train) if n is None else n]
    half = len(order) // 2
    first, second = train.take(order[:half]), train.take(order[half:])
    prior, passes = fresh(model, seed), max(epochs, math.ceil(LEAST_STEPS * 32 / len(first)))
    fit(prior, first, first.y, passes, rate=2e-3, batch_size=32, seed=seed)
    prior.eval().requires_grad_(False)
    after = copy.deepcopy(prior).requires_grad_(True)
    fit(after, train.take(order), train.y[order], 1, rate=2e-5, seed=seed + 1, training=False)
    posterior = after.eval().requires_grad_(False)
    spread = [p.square().mean().sqrt() for p in prior.parameters()]
    promised, count = [], len(second)
    for mean in (prior, posterior):
        for scale in scales:
            seen = _mean_error(mean, spread, scale, second, 40, batch, chance)
            divergence = _divergence(mean, prior, spread, scale)
            promised.append((kl_bound(seen, divergence, count, delta / 2 / len(scales)), divergence, scale, mean))
    _, divergence, scale, centre = min(promised, key=lambda one: one[0])
    seen = _mean_error(centre, spread, scale, second, draws, batch, chance)
    upper = chernoff_upper(seen, draws, 1 - delta / 2)
    value = kl_bound(upper, divergence, count, delta / 2 / len(scales))
    drawn, ratio = _drawn(centre, prior, spread, scale, chance)
    own = kl_bound(answers(drawn, second).error, ratio, count, delta / len(scales))
    split = f"the {len(order)} training examples are independent draws; half of them trained the prior"
    mean = f"mean error of networks drawn round one trained on half the data, noise {scale:g} of the weights"
    return PacBayes(
        bound=_bound("PAC-Bayes", value, delta, mean, split, "Maurer 2004; prior as in Dziugaite et al. 2021"),
        single=_bound("PAC-Bayes, one draw", own, delta, "error of one network drawn so", split,
                      "Rivasplata, Kuzborskij, Szepesvari and Shawe-Taylor 2020, theorem 1"),
        network=drawn, mean_error=seen, divergence=divergence, scale=scale, n=count,
    )  # fmt: skip


def _bound(name: str, value: float, delta: float, holds_for: str, split: str, source: str) -> Bound:
    said = (split, "speaks of a network of this structure trained for the bound, not of the given weights")
    return of_rate(name, value, delta, holds_for, said, source)


def _divergence(mean: nn.Module, prior: nn.Module, spread: list[Tensor], scale: float) -> float:
    """KL(Q || P) of two normal laws with the same deviations: half the squared distance in units of them."""
    total = 0.0
    for p, q, size in zip(mean.parameters(), prior.parameters(), spread, strict=True):
        if float(size) > 0:
            total += float(((p - q).double() / (scale * size)).square().sum()) / 2
    return total


def _noise(like: Tensor, chance: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=chance, dtype=torch.float32).to(like)


def _mean_error(
    mean: nn.Module, spread: list[Tensor], scale: float, data: Dataset, draws: int, batch: int, chance: torch.Generator
) -> float:
    """The mean share of wrong examples over independent draws of (network, batch with replacement)."""
    device, drawn = device_of(mean), copy.deepcopy(mean)
    wrong = 0
    with in_mode(drawn, False), torch.no_grad():
        for _ in range(draws):
            for p, centre, size in zip(drawn.parameters(), mean.parameters(), spread, strict=True):
                torch.add(centre, scale * size * _noise(p, chance), out=p)
            x, y = data.batch(torch.randint(len(data), (batch,), generator=chance))
            wrong += int((drawn(x.to(device)).argmax(1).cpu() != y.cpu()).sum())
    return wrong / (draws * batch)


def _drawn(
    mean: nn.Module, prior: nn.Module, spread: list[Tensor], scale: float, chance: torch.Generator
) -> tuple[nn.Module, float]:
    """(a network h drawn from Q, ln q(h) / p(h))."""
    drawn, ratio = copy.deepcopy(mean), 0.0
    with torch.no_grad():
        for p, centre, other, size in zip(
            drawn.parameters(), mean.parameters(), prior.parameters(), spread, strict=True
        ):
            if float(size) > 0:
                p.add_(scale * size * _noise(p, chance))
                deviation = scale * float(size)
                far, near = (p - other).double(), (p - centre).double()
                ratio += float((far.square() - near.square()).sum()) / (2 * deviation**2)
    return drawn.eval(), ratio
