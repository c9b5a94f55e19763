"""Where in a cloud's spectrum is a network touchy?  Its sensitivity, and the adversaries of high and low frequencies.

The basis is always that of the clean cloud (Miao et al. 2024, "Improving 3D robustness: frequency adversarial
training").
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.threat.payoff import cross_entropy
from stackelberg.threat.spectrum import LowBand, spectrum

LOW_WEIGHT = 0.25
"""How much the low-frequency part alone counts beside the whole cloud (AOF, Liu, Zhang and Zhu 2022)."""


def sensitivity(model: nn.Module, x: Float[Tensor, "B P 3"], k: int = 30, batch_size: int = 32) -> Float[Tensor, " P"]:
    """s_f = sqrt(mean over clouds of sum over logits and axes of (U^T J)_f^2): logit units per unit of a coefficient.

    J is the Jacobian of the logits in the points; a move with coefficient c at the frequency f alone changes the
    logits by about s_f |c|. The squares over all f add up to |J|^2.
    """
    total = torch.zeros(x.shape[1], device=x.device)
    with untouched(model):
        for part in x.split(batch_size):
            own = spectrum(part, k)
            for jacobian in _rows(model, part):
                total += own.transform(jacobian).square().sum((0, 2))
    return (total / max(1, len(x))).sqrt()


def _rows(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The gradient of each logit in the points, [B, P, 3] each."""
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        logits = model(point)
        return [
            torch.autograd.grad(logits[:, c].sum(), point, retain_graph=True)[0].detach()
            for c in range(logits.shape[1])
        ]


def high_adversary(
    oracle: Oracle,
    x: Float[Tensor, "B P 3"],
    y: Int64[Tensor, " B"],
    band: LowBand,
    radius: float,
    steps: int,
    noise: Float[Tensor, "B P 3"],
) -> Float[Tensor, "B P 3"]:
    """x + e with e in the high frequencies alone, |e|_2 <= radius a cloud, by PGD on the cross entropy.

    It starts from `noise`, brought into the band at half the radius.
    """
    move = _within(band.rest(noise), radius / 2, fill=True)
    for _ in range(steps):
        gradient, _, _ = oracle.gradient(x + move, lambda logits: cross_entropy(logits, y))
        move = _within(move + 2.5 * radius / steps * _unit(band.rest(gradient)), radius)
    return x + move


def low_adversary(
    oracle: Oracle,
    x: Float[Tensor, "B P 3"],
    y: Int64[Tensor, " B"],
    band: LowBand,
    radius: float,
    steps: int,
    weight: float = LOW_WEIGHT,
) -> Float[Tensor, "B P 3"]:
    """x + e with e in the low frequencies alone, |e|_2 <= radius a cloud, by AOF.

    It ascends (1 - w) CE(x + e) + w CE(low part of x + e): the shape without its roughness must be read wrongly, too,
    so that what is found carries over to other networks.
    """
    shape, move = band.part(x), torch.zeros_like(x)
    twice = torch.cat([y, y])
    share = torch.cat([torch.full((len(x),), 1 - weight), torch.full((len(x),), weight)]).to(x)
    for _ in range(steps):
        both = torch.cat([x + move, shape + move])
        gradient, _, _ = oracle.gradient(both, lambda logits: share * cross_entropy(logits, twice))
        whole, smooth = gradient.chunk(2)
        move = _within(move + 2.5 * radius / steps * _unit(band.part(whole + smooth)), radius)
    return x + move


def _length(move: Tensor) -> Tensor:
    return move.flatten(1).norm(dim=1).clamp(min=torch.finfo(move.dtype).tiny)[:, None, None]


def _unit(move: Tensor) -> Tensor:
    return move / _length(move)


def _within(move: Tensor, radius: float, fill: bool = False) -> Tensor:
    factor = radius / _length(move)
    return move * (factor if fill else factor.clamp(max=1))
