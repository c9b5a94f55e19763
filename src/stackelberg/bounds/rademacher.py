"""How well does a network of this structure learn labels that mean nothing?  Rademacher complexity, from below.

With signs s_i = +-1 by fair coins, the complexity of the 0-1 loss on n examples is

    Rad_n = E sup over networks of (1/n) sum_i s_i 1{network wrong at (x_i, y_i)},     at most 1/2

(each example is asked for its own label where s_i = -1, and for another where s_i = +1). Training on such labels, as
Zhang et al. 2017 do, finds *some* network, so what it reaches is below the supremum: a lower estimate. The theorem

    error <= training error + 2 Rad_n + 3 sqrt(ln(2 / delta) / (2 n))

(Bartlett and Mendelson 2002; Mohri et al. 2018, theorem 3.3) therefore says at least so much as the number here: where
2 Rad_n is near 1 it says nothing. It is never a guarantee.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from stackelberg.bounds.bound import ERROR, Bound, of_rate
from stackelberg.bounds.checking import check_delta, check_samples
from stackelberg.bounds.fitting import answers, fit, fresh
from stackelberg.data import Dataset


@dataclass(frozen=True)
class RandomLabels:
    """What a training on random labels reached.

    Attributes:
        complexity: (1/n) sum_i s_i 1{wrong at i}, a draw of a lower estimate of Rad_n.
        fitted: share of the asked labels that the network gives.
        n: examples.
        epochs: passes over them.
    """

    complexity: float
    fitted: float
    n: int
    epochs: int


def random_labels(
    model: nn.Module,
    data: Dataset,
    n: int = 500,
    epochs: int = 40,
    seed: int = 0,
    stop: float = 0.995,
    batch_size: int = 64,
    rate: float = 1e-3,
) -> RandomLabels:
    """Train a fresh network of the same structure on labels by coins; the first n examples by the seed.

    Stops between blocks of five epochs as soon as the share `stop` of the labels is fitted.

    Raises:
        StackelbergError: fewer than two examples.
    """
    check_samples(min(n, len(data)), 2)
    chance = torch.Generator().manual_seed(seed)
    few = data.take(torch.randperm(len(data), generator=chance)[:n])
    n, classes = len(few), len(few.classes)
    other = (few.y + torch.randint(1, max(2, classes), (n,), generator=chance)) % classes
    coin = torch.randint(0, 2, (n,), generator=chance).bool()
    asked = torch.where(coin, other, few.y)
    twin, done, fitted = fresh(model, seed), 0, 0.0
    wanted = Dataset(few.x, asked, few.classes, few.name)
    while done < epochs and fitted < stop:
        block = min(5, epochs - done)
        fit(twin, few, asked, block, rate, batch_size, seed + done)
        done += block
        fitted = 1 - answers(twin, wanted).error
    wrong = answers(twin, few).margins <= 0
    sign = torch.where(coin, 1.0, -1.0)
    return RandomLabels(float((sign * wrong).mean()), fitted, n, done)


def rademacher_gap(complexity: float, n: int, delta: float) -> float:
    """2 Rad + 3 sqrt(ln(2 / delta) / (2 n)), for the complexity on the sample itself."""
    return 2 * complexity + 3 * math.sqrt(math.log(2 / delta) / (2 * n))


def rademacher(found: RandomLabels, train_error: float, delta: float = 0.05) -> Bound:
    """The error by the complexity that was found; an estimate, from below, of what the theorem gives for n examples."""
    check_delta(delta)
    value = train_error + rademacher_gap(found.complexity, found.n, delta)
    return of_rate(
        name="uniform, Rademacher by random labels",
        value=value,
        delta=delta,
        holds_for=ERROR,
        assumptions=(
            f"estimated: the Rademacher complexity on {found.n} training examples, from below, by one training of"
            f" {found.epochs} epochs that gave {100 * found.fitted:.1f} % of the random labels; the true one is larger",
            f"speaks of networks trained on {found.n} examples; on more the complexity is smaller",
        ),
        kind="estimate",
        source="Bartlett and Mendelson 2002; random labels as in Zhang et al. 2017",
    )
