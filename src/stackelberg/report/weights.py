"""How does the network fare when its weights are changed?  By chance, by an adversary, by flipped bits."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from stackelberg.attacks import PGD, untouched
from stackelberg.attacks.bit_flips import BITS, BitFlips, worst_flips
from stackelberg.attacks.parameters import ParameterAttack
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.report.weight_records import WeightRobustness, WeightRow
from stackelberg.threat import Ball, clopper_pearson
from stackelberg.threat.weight_ball import WeightBall

BATCH = 250
KNOWN = 500
"""At most so many examples are the attacker's; at most so many are measured."""
TRIALS = 5
FLIPS = (1, 100)
CHOSEN = 5
"""Bits that an adversary flips one after the other."""
ATTACK = PGD(Ball("linf", 0.1), steps=20, payoff="cw")


def weight_robustness(
    model: nn.Module, data: Dataset, ball: Ball, weights: WeightBall, *, seed: int = 0, steps: int = 60
) -> WeightRobustness:
    """The rows of a report about changed weights, on a random half of the examples; the attacker knows the others.

    Rows: as it is; random changes on the rim of `weights`; the adversary who wants the accuracy, and the one who wants
    the robustness and keeps the accuracy; and for each format stored, random bits and chosen bits flipped. Bits are not
    bounded by `weights`.

    Args:
        model: logits [B, K]; comes back as it was.
        data: at least four examples, as audited.
        ball: of the examples.
        weights: how far the weights may move.
        seed: of all random numbers.
        steps: of the parameter attack's second phase; a third as many of its first.

    Raises:
        StackelbergError: fewer than four examples, or a model without parameters.
    """
    if len(data) < 4:
        raise StackelbergError(f"robustness to changed weights needs at least 4 examples, got {len(data)}")
    if not any(p.is_floating_point() for p in model.parameters()):
        raise StackelbergError(
            "this model has no parameters that could change (it is a function, or an exported program that holds its"
            " weights as constants); leave --weights-eps out"
        )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    half = min(KNOWN, len(data) // 2)
    known, asked = data.take(order[:half]), data.take(order[half : 2 * half])
    if data.text:
        raise StackelbergError(
            f"{data.name} holds texts, which changed weights embed elsewhere; leave --weights-eps out"
        )
    device = next(model.parameters()).device
    x, y = (part.to(device) for part in asked.batch(slice(None)))
    kx, ky = (part.to(device) for part in known.batch(slice(None)))
    pgd = replace(ATTACK, ball=ball, seed=seed)

    def row(
        change: str, changed: Sequence[nn.Module] | Sequence[Callable[[], nn.Module]], **about: object
    ) -> WeightRow:
        return _row(change, changed, x, y, pgd, about)

    attack = ParameterAttack(
        weights, ball, first=steps // 3, second=steps, inner=5, batch_size=min(128, half), seed=seed
    )
    accuracy = replace(attack, ball=ball.with_radius(0), first=steps, second=0, until=0.0)
    rows = [
        row("none", [model]),
        row("random", [lambda s=s: _randomly(model, weights, seed + s) for s in range(TRIALS)]),
        row("adversarial, accuracy", [lambda: accuracy(model, known).model]),
        row("adversarial, robustness", [lambda: attack(model, known).model]),
    ]
    for format in BITS:
        rows.append(row("stored", [lambda f=format: BitFlips(f, 0)(model)], format=format, flips=0))
        for flips in FLIPS:
            makers = [lambda f=format, c=flips, s=s: BitFlips(f, c, seed + s)(model) for s in range(TRIALS)]
            rows.append(row("random bits", makers, format=format, flips=flips))
        chosen = [lambda f=format: worst_flips(model, kx, ky, f, CHOSEN)[0]]
        rows.append(row("chosen bits", chosen, format=format, flips=CHOSEN))
    return WeightRobustness(
        norm=weights.norm, size=weights.size, attack=pgd.name, n=len(y), known=half, rows=tuple(rows)
    )


def _randomly(model: nn.Module, weights: WeightBall, seed: int) -> nn.Module:
    with untouched(model):
        changed = copy.deepcopy(model).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in changed.parameters():
            if p.is_floating_point():
                p.copy_(weights.sample(p, draw))
    return changed


def _row(
    change: str, changed: Sequence[nn.Module | Callable[[], nn.Module]], x: Tensor, y: Tensor, pgd: PGD, about: dict
) -> WeightRow:
    """The row of some trials: modules, or what makes them, one in memory at a time."""
    worst, least, total = None, len(y) + 1, 0
    for one in changed:
        model = one if isinstance(one, nn.Module) else one()
        right = int(_right(model, x, y).sum())
        total += right
        if right < least:
            worst, least = model, right
    assert worst is not None
    robust = int(_stands(worst, x, y, pgd).sum())
    return WeightRow(
        change=change,
        trials=len(changed),
        clean=clopper_pearson(least, len(y)),
        clean_mean=total / len(y) / len(changed),
        robust=clopper_pearson(robust, len(y)),
        **about,
    )


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Where the model is right; logits that are no numbers are wrong."""
    with untouched(model), torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(BATCH)])
    return (logits.argmax(1) == y) & logits.isfinite().all(1)


def _stands(model: nn.Module, x: Tensor, y: Tensor, pgd: PGD) -> Tensor:
    """Where it is right unmoved and under the attack."""
    right = _right(model, x, y)
    places = right.nonzero()[:, 0]
    if len(places):
        moved = torch.cat(
            [pgd(model, a, b) for a, b in zip(x[places].split(BATCH), y[places].split(BATCH), strict=True)]
        )
        right[places] = _right(model, moved, y[places])
    return right
