"""What if a network says itself how fast it can move?  Then a margin is a certificate, at no cost.

A module declares `steepness`, L with |z_k(x) - z_k(x')| <= L ||x - x'||_inf for every logit, proved where its class is
written, and `rounding(size)`, how far a computed logit may lie from the exact one (`models.DistanceNet`).
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.region import reach
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball


@runtime_checkable
class Steep(Protocol):
    """What a network must declare."""

    @property
    def steepness(self) -> float: ...

    def rounding(self, size: float) -> float: ...


def steepness(model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " B"], ball: Ball) -> Certificate:
    """margin_i = min over k != y_i of (z_y - z_k)(x_i) - 2 L radius - rounding <= the true minimum over the ball.

    With L as declared; for l2 and l1 since ||d||_inf <= ||d||_2 <= ||d||_1. The declaration is tried first (see
    `check_steepness`): that may refute it and cannot prove it.

    Raises:
        Unsupported: the network declares nothing, or the norm is l0.
        StackelbergError: the network moves faster than it declares.
    """
    if not isinstance(model, Steep):
        raise Unsupported(
            f"{type(model).__name__} declares no steepness, so its margins prove nothing; use ibp or crown"
        )
    if ball.norm == "l0":
        raise Unsupported("a steepness in linf says nothing about few large changes; use linf, l2 or l1")
    if not len(x):
        return Certificate("steepness", ball, x.new_zeros(0, dtype=torch.float64))
    with untouched(model), torch.no_grad():
        check_steepness(model, x, ball)
        logits = model(x).double()
        slack = 2 * model.steepness * reach(ball) + 4 * model.rounding(max(abs(ball.low), abs(ball.high)))
    gaps = logits.gather(1, y[:, None]) - logits - slack
    return Certificate("steepness", ball, gaps.scatter(1, y[:, None], torch.inf).amin(1))


def check_steepness(model: nn.Module, x: Float[Tensor, " B *shape"], ball: Ball) -> None:
    """Try to catch the network moving faster than it declares.

    Between each example and the next one of the batch, the point halfway between them, and the ends of a step of the
    ball's radius along the sign of the gradient of one logit less another.

    Raises:
        StackelbergError: it was caught; both numbers are named.
    """
    assert isinstance(model, Steep)
    following, radius = x.roll(1, 0), min(max(ball.radius, 1e-3), ball.high - ball.low)
    with torch.enable_grad():
        start = x.detach().requires_grad_(True)
        logits = model(start)
        (slope,) = torch.autograd.grad((logits[:, 0] - logits[:, -1]).sum(), start)
    steps = [(x + sign * radius * slope.sign()).clamp(ball.low, ball.high) for sign in (1, -1)]
    answers = logits.detach()
    slack = 2 * model.rounding(max(abs(ball.low), abs(ball.high)))
    for other in (following, (x + following) / 2, *steps):
        moved = (model(other) - answers).abs().amax(1).double()
        allowed = model.steepness * (other - x).flatten(1).abs().amax(1).double() * (1 + 1e-6) + slack
        if bool((moved > allowed).any()):
            worst = int((moved - allowed).argmax())
            raise StackelbergError(
                f"the network declares steepness {model.steepness:g}, but at example {worst} a logit moves by"
                f" {float(moved[worst]):g} where the input moves by"
                f" {float((other[worst] - x[worst]).abs().max()):g}; correct what it declares"
            )
