"""Which claims can be made about these examples?  Broken where an attack succeeds, proved where a method proves it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg import attacks
from stackelberg.attacks.suite import STANDING
from stackelberg.certify.branch import complete
from stackelberg.certify.certificate import Certificate
from stackelberg.certify.document import Claim, example_digest, packed
from stackelberg.certify.duality import dual
from stackelberg.certify.interval import interval
from stackelberg.certify.linear import alpha_crown, crown
from stackelberg.certify.lipschitz import lipschitz
from stackelberg.certify.milp import exact
from stackelberg.certify.zonotope import zonotope
from stackelberg.errors import unknown
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin

CHUNK = 50
"""Examples attacked and proved together."""

Tell = Callable[[int, str], None]
"""Told how many examples are done, and a line of words."""


@dataclass(frozen=True)
class Method:
    """A method of proof: (model, x, y, ball, seconds per example) -> the certificate, and points to try if it has any.

    Attributes:
        prove: the method.
        what: it is, in a line.
    """

    prove: Callable[[nn.Module, Tensor, Tensor, Ball, float], tuple[Certificate, Tensor | None]]
    what: str


def _plain(prove: Callable[[nn.Module, Tensor, Tensor, Ball], Certificate], what: str) -> Method:
    return Method(lambda model, x, y, ball, seconds: (prove(model, x, y, ball), None), what)


METHODS: dict[str, Method] = {
    "ibp": _plain(interval, "interval bound propagation"),
    "lipschitz": _plain(lipschitz, "a global Lipschitz bound"),
    "zonotope": _plain(zonotope, "affine forms, forward"),
    "crown": _plain(crown, "linear bounds, backward"),
    "alpha-crown": _plain(alpha_crown, "linear bounds with optimised slopes"),
    "complete": Method(lambda m, x, y, ball, s: (complete(m, x, y, ball, s), None), "branch and bound"),
    "dual": Method(lambda m, x, y, ball, s: (dual(m, x, y, ball, s), None), "linear programs, split by signs"),
    "milp": Method(exact, "mixed-integer programming"),
}
"""The methods of deterministic proof by the names that certificates bear."""


def claims(
    model: nn.Module,
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " B"],
    index: tuple[int, ...],
    ball: Ball,
    method: str,
    seconds: float = 30.0,
    seed: int = 0,
    tell: Tell | None = None,
) -> tuple[Claim, ...]:
    """One claim per example: "broken" by the fast attack suite, else "proved" by `method`, else "open".

    Args:
        model: logits [B, K]; comes back as it was given.
        x: inputs in [ball.low, ball.high].
        y: labels.
        index: of the examples in their data set.
        ball: the threat.
        method: a name in `METHODS`.
        seconds: per example, for the methods that search.
        seed: of the attacks.
        tell: see `Tell`.

    Raises:
        StackelbergError: an unknown method, or inputs outside the box.
        Unsupported: the method knows no rule for this network or ball.
    """
    if method not in METHODS:
        raise unknown("method", method, [*METHODS, "smoothing"])
    say, made = tell or (lambda done, words: None), []
    for places in torch.arange(len(x)).split(CHUNK):
        rows = places.to(x.device)
        say(len(made), "attacking")
        made += _chunk(model, x[rows], y[rows], [index[i] for i in places.tolist()], ball, method, seconds, seed, say)
    say(len(made), "done")
    return tuple(made)


def _chunk(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    index: list[int],
    ball: Ball,
    method: str,
    seconds: float,
    seed: int,
    say: Tell,
) -> list[Claim]:
    found = attacks.suite(ball, "fast", seed, patience=500).run(model, x, y)
    points, broken = found.x_adv, found.broken_by != STANDING
    bound = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    left = (~broken).nonzero()[:, 0]
    if len(left):
        say(0, f"{len(left)} of {len(x)} stand, proving by {method}")
        proof, tried = METHODS[method].prove(model, x[left], y[left], ball, seconds)
        bound[left] = proof.margin
        if tried is not None:
            fell = left[errs(model, tried, x[left], y[left], ball)]
            points[fell] = tried[torch.isin(left, fell)]
            broken[fell] = True
    return _written(model, x, y, index, points, broken, bound)


def _written(
    model: nn.Module, x: Tensor, y: Tensor, index: list[int], points: Tensor, broken: Tensor, bound: Tensor
) -> list[Claim]:
    at_point = gaps(model, points, y)
    written = []
    for i, place in enumerate(index):
        verdict = "broken" if broken[i] else "proved" if bound[i] > 0 else "open"
        value = float(at_point[i] if verdict == "broken" else bound[i])
        written.append(
            Claim(
                index=place, example=example_digest(x[i]), label=int(y[i]), verdict=verdict,
                margin=value if math.isfinite(value) else None,
                point=packed(points[i]) if verdict == "broken" else None,
            )
        )  # fmt: skip
    return written


def gaps(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """min over k != y of z_y - z_k as the network computes it [B]; a logit that is NaN counts as -inf."""
    with attacks.untouched(model), torch.no_grad():
        return -margin(model(x), y).nan_to_num(nan=torch.inf)


def errs(model: nn.Module, moved: Tensor, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """Whether each point lies in ball and box, and the network, as it is, errs there [B]."""
    return ball.contains(moved, x) & (gaps(model, moved, y) < 0)


def within(seconds: float) -> Callable[[], float]:
    """A clock that counts down: the seconds that are left, at least zero."""
    end = time.monotonic() + seconds
    return lambda: max(0.0, end - time.monotonic())
