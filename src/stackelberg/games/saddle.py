"""Where does a convex game end?  In a Nash equilibrium: two programs find it, and a third computation believes neither.

The learner's program is min over theta of the payoff after the follower's best answer. The adversary's is written for
it alone, with forces alpha_i (its weight q_i times minus the loss's slope): by Fenchel's duality, for a given sample
the learner's best answer is worth sum q_i h(alpha_i / q_i), h the entropy of (a, 1 - a) for the logistic loss and a
itself for the hinge, where the forces balance on the moved points: sum alpha_i s_i (x_i', 1) = 0.
"""

import math
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.optimize import linprog, minimize
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.games.convex import ConvexGame, Points, Theta, margins, signs, size

FAR = 1e-9
"""Share of each point's weight that is moved far away where only the mean distance is bounded."""


@dataclass(frozen=True)
class Distribution:
    """What the adversary plays: a finite distribution on labelled points.

    Attributes:
        x: points [M, d].
        y: their classes, 0 or 1.
        weight: their probabilities, sum 1.
        origin: the example of the sample from which each was moved.
        distance: the mean distance moved, in input units, by the weights.
        divergence: KL(uniform || weights by origin), in nats.
    """

    x: Float[Tensor, "M d"]
    y: Int64[Tensor, " M"]
    weight: Float[Tensor, " M"]
    origin: Int64[Tensor, " M"]
    distance: float
    divergence: float


@dataclass(frozen=True)
class Nash:
    """A pair of strategies from which neither player gains by leaving, up to the regrets.

    min max = max min for these games, so each of the two programs gives the game's value; the regrets are computed by
    neither. upper - lower = learner_regret + adversary_regret bounds the distance of both from the true value.

    Attributes:
        theta: (w, b), the learner's strategy.
        worst: the adversary's.
        primal: the learner's program's optimum.
        dual: the adversary's program's optimum.
        upper: the exact sup of the payoff against `theta`, in closed form: no adversary gets more.
        lower: the least loss any theta has on `worst`, less the price of its distance: no learner pays less.
        learner_regret: what the learner would gain by leaving `theta`, the adversary staying.
        adversary_regret: what the adversary would gain by leaving `worst`.
    """

    theta: Theta
    worst: Distribution
    primal: float
    dual: float
    upper: float
    lower: float
    learner_regret: float
    adversary_regret: float

    @property
    def gap(self) -> float:
        """primal - dual, of the two programs."""
        return self.primal - self.dual


def nash(game: ConvexGame, x: Points, y: Int64[Tensor, " N"]) -> Nash:
    """The Nash equilibrium of a convex game on the sample (x, y), classes 0 and 1; in float64.

    Theta* solves the learner's program, the worst distribution the adversary's. Its points lie at x_i - s_i r v, one
    direction v for all, ||v|| = 1. In the "ball" form r is the radius. In the other two the sup is only approached:
    a share of 1e-9 of each point's weight is moved far enough for the mean distance, which costs about as much regret.

    Raises:
        StackelbergError: cvxpy is missing, the classes are not 0 and 1, or a program has no solution.
    """
    cp = _cvxpy()
    x = x.detach().double().cpu()
    y = y.detach().cpu()
    if len(y) < 2 or set(y.unique().tolist()) != {0, 1}:
        raise StackelbergError(f"a convex game needs examples of classes 0 and 1, got classes {y.unique().tolist()}")
    unit = float(x.std()) or 1.0  # the programs see x in units of its spread, so that their numbers are near 1
    scaled = replace(game, radius=game.radius * unit if game.form == "price" else game.radius / unit)
    box = None if game.parameter_box is None else game.parameter_box * np.append(np.full(x.shape[1], unit), 1.0)
    theta, primal = _learner(cp, scaled, (x / unit).numpy(), signs(y).numpy(), box)
    q, push, dual = _adversary(cp, scaled, (x / unit).numpy(), signs(y).numpy(), box)
    theta = _allowed(game, torch.from_numpy(np.append(theta[:-1] / unit, theta[-1])))
    worst = _distribution(game, x, y, torch.from_numpy(q), unit * torch.from_numpy(push))
    paid = game.radius * worst.distance if game.form == "price" else 0.0
    upper, now = game.value(theta, x, y), _loss_on(game, theta, worst) - paid
    lower = best_loss(game, worst, theta) - paid
    return Nash(theta, worst, primal, dual, upper, lower, now - lower, upper - now)


def best_loss(game: ConvexGame, on: Distribution, start: Theta) -> float:
    """min over theta of E Loss on a fixed distribution: a linear program (hinge), L-BFGS-B (logistic loss)."""
    features = torch.cat([on.x, torch.ones(len(on.x), 1, dtype=torch.float64)], 1)
    signed = signs(on.y).double()[:, None] * features
    box = (-game.parameter_box, game.parameter_box) if game.parameter_box is not None else (None, None)
    if game.loss == "hinge":
        count, dims = signed.shape
        scale = signed.abs().amax(1, keepdim=True).clamp(min=1)  # far points: rows of the size of the others
        matrix = np.hstack([-(signed / scale).numpy(), -np.eye(count)])
        cost = np.concatenate([np.zeros(dims), (on.weight * scale[:, 0]).numpy()])
        solved = linprog(
            cost, A_ub=matrix, b_ub=-(1 / scale[:, 0]).numpy(), bounds=[box] * dims + [(0, None)] * count,
            method="highs", options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        return float(solved.fun)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signed @ torch.from_numpy(theta)
        slope = -on.weight * torch.sigmoid(-margin)
        return float((on.weight * game.losses(margin)).sum()), (signed.T @ slope).numpy()

    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-12}
    found = [
        minimize(loss, first, jac=True, method="L-BFGS-B", bounds=[box] * len(first), options=options).fun
        for first in (start.numpy(), 0.5 * start.numpy())
    ]
    return float(min(found))


def _loss_on(game: ConvexGame, theta: Theta, on: Distribution) -> float:
    return float((on.weight * game.losses(margins(theta, on.x, on.y))).sum())


def _cvxpy() -> ModuleType:
    try:
        import cvxpy
    except ImportError:
        raise StackelbergError(
            "convex games are solved by cvxpy, which is not installed; install stackelberg[convex]"
        ) from None
    return cvxpy


def _norm(cp: Any, vector: Any, norm: str) -> Any:
    return cp.norm(vector, {"linf": "inf", "l2": 2, "l1": 1}[norm])


def _learner(
    cp: Any, game: ConvexGame, x: np.ndarray, s: np.ndarray, box: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """min over (w, b): mean payoff, or by the KL ball's dual  eta + kappa (gamma - 1) + mean kappa ln(kappa/(eta - l)).

    (theta, optimum).
    """
    n, d = x.shape
    w, b = cp.Variable(d), cp.Variable()
    length = _norm(cp, w, game.dual_norm)
    pulled = cp.multiply(-s, x @ w + b) + (game.radius * length if game.form == "ball" else 0)  # minus the margin
    losses = cp.logistic(pulled) if game.loss == "logistic" else cp.pos(1 + pulled)
    limits = [] if box is None else [cp.abs(cp.hstack([w, b])) <= box]
    if game.form == "price":
        limits.append(length <= game.radius)
    if game.gamma > 0:
        eta, kappa, above = cp.Variable(), cp.Variable(nonneg=True), cp.Variable(n)
        limits.append(above <= eta - losses)
        payoff = eta + kappa * (game.gamma - 1) + cp.sum(cp.rel_entr(kappa, above)) / n
    else:
        payoff = cp.sum(losses) / n
    value = _solved(cp, cp.Minimize(payoff + (game.radius * length if game.form == "budget" else 0)), limits)
    return np.append(w.value, b.value), value


def _adversary(
    cp: Any, game: ConvexGame, x: np.ndarray, s: np.ndarray, box: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """max over weights q, forces alpha and push u of  sum q_i h(alpha_i / q_i) - E ||what does not balance||_1.

    The push u = sum alpha_i s_i (x_i - x_i') is what moving the points contributes: ||u|| is at most radius * sum alpha
    ("ball"), at most the radius ("budget"), or costs radius * ||u|| ("price"). (q, u, optimum).
    """
    n, d = x.shape
    alpha, push = cp.Variable(n, nonneg=True), cp.Variable(d)  # alpha and q in units of 1 / n: numbers near 1
    limits = []
    q: Any = np.ones(n)
    if game.gamma > 0:
        q = cp.Variable(n, nonneg=True)
        limits += [cp.sum(q) == n, -cp.sum(cp.log(q)) / n <= game.gamma]
    limits.append(alpha <= q)
    value = cp.sum(alpha) / n
    if game.loss == "logistic":
        value = -(cp.sum(cp.rel_entr(alpha, q)) + cp.sum(cp.rel_entr(q - alpha, q))) / n
    unbalanced = cp.hstack([(s[:, None] * x).T @ alpha / n - push, s @ alpha / n])
    if box is None:
        limits.append(unbalanced == 0)
    else:
        value -= cp.norm(cp.multiply(box, unbalanced), 1)
    length = _norm(cp, push, game.norm)
    if game.form == "price":
        value -= game.radius * length
    else:
        limits.append(length <= game.radius * (cp.sum(alpha) / n if game.form == "ball" else 1))
    optimum = _solved(cp, cp.Maximize(value), limits)
    return (q.value if game.gamma > 0 else q) / n, push.value, optimum


def _solved(cp: Any, goal: Any, limits: list[Any]) -> float:
    problem = cp.Problem(goal, limits)
    with warnings.catch_warnings():  # more is asked than the solver always reaches; the regrets tell how far it came
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        for tolerance in (1e-9, 1e-8, 1e-7):
            with suppress(cp.error.SolverError):
                problem.solve(solver="CLARABEL", tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
                break
    if problem.status not in ("optimal", "optimal_inaccurate"):
        raise StackelbergError(
            f"the convex program is {problem.status}; bound the learner by parameter_box, where a solution exists"
        )
    return float(problem.value)


def _allowed(game: ConvexGame, theta: Theta) -> Theta:
    """Theta inside its strategy space, from which a solver strays by its tolerance."""
    if game.parameter_box is not None:
        theta = theta.clamp(-game.parameter_box, game.parameter_box)
    length = float(game.size(theta))
    if game.form == "price" and length > game.radius:
        theta = torch.cat([theta[:-1] * (game.radius / length), theta[-1:]])
    return theta


def _distribution(
    game: ConvexGame, x: Points, y: Int64[Tensor, " N"], q: Float[Tensor, " N"], push: Float[Tensor, " d"]
) -> Distribution:
    """The adversary's strategy from its program: weights inside the KL ball, points moved along one direction."""
    q = q.clamp(min=1e-300) / q.clamp(min=1e-300).sum()
    divergence = float(-(q * len(q)).log().mean())
    if divergence > game.gamma:  # by the solver's tolerance; the divergence is convex and 0 at the uniform weights
        q = q + (1 - game.gamma / divergence) * (1 / len(q) - q)
        divergence = float(-(q * len(q)).log().mean())
    length = float(size(push, game.norm))
    along = -signs(y).double()[:, None] * (push / length if length > 0 else push)
    origin = torch.arange(len(q))
    if game.form == "ball":
        return Distribution(x + game.radius * along, y, q, origin, game.radius if length > 0 else 0.0, divergence)
    mean = game.radius if game.form == "budget" and length > 0 else length
    far = x + (mean / FAR) * along
    return Distribution(
        torch.cat([x, far]), torch.cat([y, y]), torch.cat([(1 - FAR) * q, FAR * q]), torch.cat([origin, origin]),
        mean, max(0.0, divergence),
    )  # fmt: skip


def is_equilibrium(found: Nash, tolerance: float = 1e-6) -> bool:
    """Whether the programs agree and neither player gains more than `tolerance` by leaving."""
    gains = (abs(found.gap), found.learner_regret, found.adversary_regret)
    return all(math.isfinite(gain) and gain <= tolerance for gain in gains)
