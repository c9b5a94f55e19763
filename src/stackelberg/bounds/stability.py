"""How much does the network depend on one example?  Stability bounds of the expected gap after T steps of SGD.

All speak of E [loss on the distribution - loss on the sample] over the N examples and the algorithm's own chance, for a
loss whose gradient in the weights is at most L long and beta-Lipschitz.

    uniform, convex       2 L^2 sum_t a_t / N                                    a_t <= 2 / beta, loss convex
    uniform, non-convex   (1 + 1/(beta c)) / (N - 1) (2 c L^2)^(1/(beta c + 1)) (B T)^(beta c/(beta c + 1))
                                                                                 a_t <= c / t, loss in [0, 1]
                          (Hardt, Recht and Singer 2016, theorems 3.7 and 3.8; B examples a step)
    on average, convex    (2 L / N) (a s T + sqrt(2 a r T + a^3 beta s^2 T^2)) + 2 a L L_wx radius T
                          one pass, T <= N, a <= 1 / beta; s^2 the variance of the gradient at its worst along the path,
                          r the risk at the start above its infimum
    along the path        (2 L / N) sum_t a_t g_t prod_{u > t} e_u + L sum_t a_t k prod_{u > t} e_u
                          g_t the mean norm of one example's gradient at step t, e_u how much step u stretches
                          (1 if convex and a_u <= 2 / beta, else 1 + a_u beta_u), k = 2 L_wx radius

With B examples a step the probability that one of the first t_0 steps sees the exchanged example is at most B t_0 / N,
and such a step adds 2 a L / B, so the growth per step stays as for B = 1 and only T becomes B T.

The last two: the runs with example i and with its copy differ first by the steps that see it. Such a step adds at most
a_t (|g(z_i)| + |g(z_i')|) times its share of the batch; its probability is 1/N a draw; z_i and z_i' are exchangeable,
so both norms have the mean g_t; and other steps stretch by e_u (Hardt et al., lemma 3.6). In one pass E |g| <= s +
E |grad R|, and sum_t E |grad R|^2 <= 2 r / a + a beta s^2 T by the descent lemma: the published O((a s L T +
L sqrt(a r T)) / N) of Kuzborskij and Lampert 2018. The robust loss max over the ball is no longer smooth: its
gradients at w and w' differ by up to beta |w - w'| + 2 L_wx radius, with L_wx the Lipschitz constant in x of the
gradient in w, so every step adds a_t k, which no N makes small (Xiao et al. 2022; Wang, Liu and Gao 2025).
"""

import math

from stackelberg.bounds.checking import check_samples
from stackelberg.errors import StackelbergError


def uniform_convex(lipschitz: float, rates: float, samples: int) -> float:
    """2 L^2 sum_t a_t / N; `rates` is the sum of the learning rates.

    >>> uniform_convex(1.0, 5.0, 100)
    0.1
    """
    check_samples(samples)
    return 2 * lipschitz**2 * rates / samples


def uniform_nonconvex(lipschitz: float, smoothness: float, c: float, steps: int, samples: int, batch: int = 1) -> float:
    """Hardt's bound for a_t <= c / t and a loss in [0, 1].

    >>> round(uniform_nonconvex(1.0, 1.0, 1.0, 100, 1001), 6)
    0.028284
    """
    check_samples(samples, 2)
    power, seen = smoothness * c, batch * max(steps, 1)
    if lipschitz == 0 or c == 0:
        return 0.0
    if power < 1e-9:  # the limit: no stretching
        return 2 * c * lipschitz**2 * (1 + math.log(seen)) / (samples - 1)
    scale = (2 * c * lipschitz**2) ** (1 / (power + 1)) * seen ** (power / (power + 1))
    return (1 + 1 / power) / (samples - 1) * scale


def on_average(
    lipschitz: float,
    smoothness: float,
    rate: float,
    noise: float,
    risk: float,
    steps: int,
    samples: int,
    mixed: float = 0.0,
    radius: float = 0.0,
) -> float:
    """The bound for one pass over a convex loss, with the term of an adversary in a ball of that radius.

    Args:
        lipschitz: L.
        smoothness: beta.
        rate: a, the learning rate.
        noise: s, the standard deviation of one example's gradient.
        risk: r, of the start, above the least.
        steps: T.
        samples: N.
        mixed: L_wx, in gradient units per input unit.
        radius: of the adversary, input units.

    Raises:
        StackelbergError: more steps than examples, or a > 1 / beta.
    """
    check_samples(samples)
    if steps > samples:
        raise StackelbergError(f"steps must be at most N = {samples}, one pass, got {steps}; use `along` for more")
    if rate * smoothness > 1 + 1e-12:
        raise StackelbergError(f"rate must be at most 1 / beta = {1 / smoothness:g}, got {rate:g}")
    wander = math.sqrt(2 * rate * risk * steps + rate**3 * smoothness * noise**2 * steps**2)
    own = 2 * lipschitz / samples * (rate * noise * steps + wander)
    return own + 2 * rate * lipschitz * mixed * radius * steps


def along(
    lipschitz: float,
    rates: list[float],
    gradients: list[float],
    stretches: list[float],
    samples: int,
    kink: float = 0.0,
) -> list[float]:
    """The path bound after each of T steps.

    Args:
        lipschitz: L, of the loss whose gap is bounded.
        rates: a_t.
        gradients: g_t.
        stretches: e_t >= 1.
        samples: N.
        kink: k, what the adversary's answer adds to a difference of gradients.
    """
    check_samples(samples)
    apart, values = 0.0, []
    for rate, gradient, stretch in zip(rates, gradients, stretches, strict=True):
        apart = min(stretch * apart + 2 * rate * gradient / samples + rate * kink, 1e300)
        values.append(lipschitz * apart)
    return values
