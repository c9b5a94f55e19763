"""The games in which an equilibrium can be proved: a linear learner, a convex loss, and the sample moved and weighed.

For a linear network and labels s = -1, +1 the margin is m_i = s_i (w.x_i + b), and moving x by delta changes it by at
most ||delta|| ||w||_* (dual norm), against -s_i times any subgradient v of ||.||_* at w. So the follower's best answer
is known in closed form, and the payoff after it is convex in (w, b).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from stackelberg.errors import StackelbergError, unknown
from stackelberg.games.kl import kl_worst_case

LOSSES, FORMS = ("logistic", "hinge"), ("ball", "budget", "price")
Points = Float[Tensor, "N d"]
Theta = Float[Tensor, " d1"]
"""The learner's parameters (w_1, ..., w_d, b), d + 1 numbers."""

_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
_ORDER = {"linf": math.inf, "l2": 2, "l1": 1}


@dataclass(frozen=True)
class ConvexGame:
    """min over theta = (w, b) of the sup over the follower's distributions of E Loss(s (w.x + b)).

    The follower moves the points and then re-weighs them: sup {sum q_i payoff_i : KL(uniform || q) <= gamma}, the
    statistically robust form of Liu et al. 2025. How far it may move them is one of three things:

    - "ball": each point by at most `radius` (W_infinity): payoff_i = Loss(m_i - radius ||w||_*), the norm inside the
      loss, as in adversarial training and in Wasserstein DRO trained with a high price.
    - "budget": `radius` on average (W_1): the norm beside the loss, sup_q sum q_i Loss(m_i) + radius ||w||_*
      (Shafieezadeh-Abadeh, Esfahani and Kuhn 2015).
    - "price": anywhere, at `radius` per unit of distance: Loss(x') - radius * distance, whose sup is Loss(m_i) where
      ||w||_* <= radius, infinite elsewhere.

    In the last two a distance counts with the weight that the point has after re-weighing. Counted before, an adversary
    would move a vanishing share of a point far away and then give it weight: for gamma > 0 that sup is infinite.

    Attributes:
        loss: "logistic", ln(1 + exp(-m)) (two-class cross entropy), or "hinge", max(0, 1 - m).
        norm: of the distance, "linf", "l2" or "l1"; the network's norm is the dual one.
        radius: in input units; for "price" a price, payoff per unit of distance.
        gamma: radius of the KL ball in nats, >= 0.
        form: "ball", "budget" or "price".
        parameter_box: E of the leader's strategy space [-E, E]^(d+1); None for all of R^(d+1), where a least payoff
            need not be attained if the moved classes can be separated.
    """

    loss: str = "logistic"
    norm: str = "linf"
    radius: float = 0.1
    gamma: float = 0.0
    form: str = "ball"
    parameter_box: float | None = None

    def __post_init__(self) -> None:
        for name, known in (("loss", LOSSES), ("form", FORMS), ("norm", tuple(_DUAL))):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        for name in ("radius", "gamma"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise StackelbergError(f"{name} must be a number >= 0, got {getattr(self, name)}")
        if self.parameter_box is not None and not self.parameter_box > 0:
            raise StackelbergError(f"parameter_box must be > 0, got {self.parameter_box}; pass None for no bound")

    @property
    def dual_norm(self) -> str:
        """The norm of w: sup of w.delta over ||delta|| <= 1."""
        return _DUAL[self.norm]

    def size(self, theta: Theta) -> Float[Tensor, ""]:
        """||w||_*, without the bias."""
        return size(theta[:-1], self.dual_norm)

    def losses(self, margins: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Loss(m), elementwise."""
        return F.softplus(-margins) if self.loss == "logistic" else torch.relu(1 - margins)

    def payoffs(self, theta: Theta, x: Points, y: Int64[Tensor, " N"]) -> Float[Tensor, " N"]:
        """What each point pays after the follower's best move (for "budget" without the radius ||w||_* beside it)."""
        inside = self.radius * self.size(theta) if self.form == "ball" else 0.0
        return self.losses(margins(theta, x, y) - inside)

    def value(self, theta: Theta, x: Points, y: Int64[Tensor, " N"]) -> float:
        """The sup over the follower, in closed form: exact up to rounding, infinite where the price is too low."""
        if self.form == "price" and float(self.size(theta)) > self.radius * (1 + 1e-9):
            return math.inf
        payoffs = self.payoffs(theta, x, y)
        beside = self.radius * float(self.size(theta)) if self.form == "budget" else 0.0
        return float((kl_worst_case(payoffs, self.gamma) * payoffs).sum()) + beside


def size(vector: Float[Tensor, " d"], norm: str) -> Float[Tensor, ""]:
    """||vector|| in "linf", "l2" or "l1"."""
    return torch.linalg.vector_norm(vector, ord=_ORDER[norm])


def margins(theta: Theta, x: Points, y: Int64[Tensor, " N"]) -> Float[Tensor, " N"]:
    """s_i (w.x_i + b), s = -1 for class 0 and +1 for class 1."""
    return signs(y).to(x) * (x @ theta[:-1] + theta[-1])


def signs(y: Int64[Tensor, " N"]) -> Int64[Tensor, " N"]:
    """-1 for class 0, +1 for class 1."""
    return 2 * y - 1
