"""What can be said of a network trained on data that somebody poisoned?  Term by term, over the share poisoned.

Clean side (backdoor). Of the target class, of mass eta, a random share alpha is poisoned. The N' untouched samples are
then independent draws of a law from which the clean one differs by a density of at most
c = (1 - alpha eta) / (1 - alpha), so with probability 1 - delta, for every F of the class (derived; papers.md D9),

    error_D(F) <= c (N / N') error_P(F) + c (2 Rad_{N'} + sqrt(ln(1 / delta) / (2 N')))

error_P the error on all N poisoned samples, N / N' near 1 / (1 - alpha eta), so the first factor is near
1 / (1 - alpha). Where the poisoned samples are drawn from all classes alike (availability), c = 1 and the first factor
is N / N'. Nothing is left as alpha goes to 1.

Poison side. For every feature map g with F = h(g), T the trigger and t the target,

    P(F(x + T) != t | other classes) <= P(F(x + T) != t | class t) + TV(law of g(x + T) | other, same | t)

Where *all* data are moved, within an linf radius (availability at rate 1), the clean point lies in the ball around the
poisoned one: error_D(F) <= the robust error of F on the poison law (Tao et al. 2021, theorem 1).
"""

import math
from dataclasses import dataclass

from stackelberg.bounds.bound import Bound
from stackelberg.bounds.transport import Moved
from stackelberg.errors import StackelbergError
from stackelberg.threat import Rate

SOURCE = "Yu et al., ICML 2024 (backdoor bound), with constants derived"


@dataclass(frozen=True)
class Terms:
    """A bound as a sum, each term by its name.

    Attributes:
        bound: the sum.
        terms: (name, value), in the order of the formula.
    """

    bound: Bound
    terms: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return f"{self.bound} = " + " + ".join(f"{value:.4g} ({name})" for name, value in self.terms)


def untouched_factor(alpha: float, eta: float = 1.0, targeted: bool = True) -> float:
    """c: how much denser than the untouched samples' law the clean law can be.

    Args:
        alpha: share of the target class that is poisoned (all classes alike: of the data), in [0, 1).
        eta: mass of the target class, in (0, 1].
        targeted: whether only the target class is poisoned.
    """
    if not 0 <= alpha <= 1 or not 0 < eta <= 1:
        raise StackelbergError(f"alpha must lie in [0, 1] and eta in (0, 1], got {alpha} and {eta}")
    if not targeted:
        return 1.0
    return math.inf if alpha == 1 else (1 - alpha * eta) / (1 - alpha)


def clean_error(
    poisoned_error: float, n: int, untouched: int, alpha: float, rademacher: float, confidence: float = 0.95,
    eta: float = 1.0, targeted: bool = True,
) -> Terms:  # fmt: skip
    """error_D(F), for every F of a class of functions trained on the poisoned set.

    Args:
        poisoned_error: share of the n poisoned training samples that F gets wrong, by the labels in the set.
        n: samples, poisoned and untouched.
        untouched: N', how many are untouched (random; it is observed by the poisoner, or bounded below by the owner).
        alpha: see `untouched_factor`.
        rademacher: an upper bound of the Rademacher complexity of the class's 0-1 loss at N' samples.
        confidence: 1 - delta.
        eta: mass of the target class.
        targeted: whether only the target class is poisoned; then each of its samples with probability alpha.
    """
    _check(poisoned_error, n, untouched, confidence)
    if not rademacher >= 0:
        raise StackelbergError(f"a Rademacher complexity must be >= 0, got {rademacher}")
    factor = untouched_factor(alpha, eta, targeted)
    if untouched == 0 or math.isinf(factor):
        terms = (("error on the poisoned set", math.inf),)
    else:
        chance = math.sqrt(math.log(1 / (1 - confidence)) / (2 * untouched))
        terms = (
            ("error on the poisoned set", factor * n / untouched * poisoned_error),
            ("complexity", factor * 2 * rademacher),
            ("chance", factor * chance),
        )
    return _summed(
        "backdoor, clean error" if targeted else "availability, clean error", terms, confidence, "clean error",
        ("each sample of the poisoned classes is poisoned with probability alpha, independently of what it shows",
         "the Rademacher complexity is an upper bound for the class that training chooses from"),
    )  # fmt: skip


def clean_error_held_out(
    held_out: Rate, alpha: float, name: str = "backdoor, clean error, held out", confidence: float | None = None
) -> Terms:
    """error_D(F) <= error on the poison law / (1 - alpha), with the error's upper end by held-out poisoned samples.

    No complexity enters: F was not trained on them. 1 - alpha is the mass of the poison law under each clean point
    that stays clean, for target-class and for uniform poisons alike.

    Args:
        held_out: wrong among samples of the poison law; the upper end of its interval is used.
        alpha: share of the target class, or of all data, that is poisoned.
        name: of the bound.
        confidence: that the upper end holds; (1 + held_out.confidence) / 2 when None: it is one of two sides.
    """
    if not 0 <= alpha <= 1:
        raise StackelbergError(f"alpha must lie in [0, 1], got {alpha}")
    scale = math.inf if alpha == 1 else 1 / (1 - alpha)
    terms = (
        ("held-out error on the poison law", scale * held_out.value if held_out.value else 0.0),
        ("its interval", scale * (held_out.high - held_out.value)),
    )
    sure = (1 + held_out.confidence) / 2 if confidence is None else confidence
    return _summed(
        name, terms, sure, "clean error",
        ("each sample of the poisoned classes is poisoned with probability alpha, independently of what it shows",
         "the held-out samples were drawn with the poisoned ones and not trained on"),
    )  # fmt: skip


def trigger_miss(on_target: Rate, features: Moved) -> Terms:
    """P(F(x + T) != t | other classes): how often the backdoor fails, at most.

    Confidence: both parts hold at once with at least what the two leave.

    Args:
        on_target: F(x + T) != t among samples of the target class, with its interval.
        features: total variation of g(x + T) between the other classes and the target, with its upper bound.
    """
    sure = 1 - (1 - on_target.confidence) / 2 - (1 - features.confidence)
    terms = (
        ("triggered target class not taken for the target", on_target.value),
        ("its interval", on_target.high - on_target.value),
        ("total variation of the triggered features", features.value),
        ("its interval", features.upper - features.value),
    )
    return _summed(
        "backdoor, poison error", terms, max(sure, 1e-12), "share of triggered other samples not sent to the target",
        ("F is a function of the features whose total variation was taken",
         "all samples are independent of the network"),
    )  # fmt: skip


def by_robust_error(robust: Rate, radius: float) -> Terms:
    """error_D(F) <= robust error of F, within the poison's radius, on the poison law: every clean point is in the ball.

    Args:
        robust: an upper bound by certified or attacked examples of held-out *poisoned* samples; with attacks alone the
            value is an estimate.
        radius: of the poison, linf, input units.
    """
    terms = (("robust error on the poison law", robust.value), ("its interval", robust.high - robust.value))
    return _summed(
        "availability, by robust error", terms, (1 + robust.confidence) / 2, "clean error",
        (f"every sample was moved by at most {radius:g} in linf and keeps its label",
         "the robust error is certified; where it was only attacked it may be larger"),
        estimate=True,
    )  # fmt: skip


def _summed(
    name: str, terms: tuple[tuple[str, float], ...], confidence: float, holds_for: str, assumptions: tuple[str, ...],
    estimate: bool = False,
) -> Terms:  # fmt: skip
    value = sum(value for _, value in terms)
    bound = Bound(
        name, value, confidence, holds_for, assumptions, vacuous=value >= 1, kind="estimate" if estimate else "theorem",
        source=SOURCE,
    )  # fmt: skip
    return Terms(bound, terms)


def _check(error: float, n: int, untouched: int, confidence: float) -> None:
    if not 0 <= error <= 1 or not 0 <= untouched <= n or n < 1 or not 0 < confidence < 1:
        raise StackelbergError(
            f"the error must lie in [0, 1], untouched in 0..n and confidence in (0, 1), got {error}, {untouched} of {n}"
            f" and {confidence}"
        )
