"""How wrong is this very network?  The bound that needs only examples it has never seen."""

from scipy.special import betaincinv

from stackelberg.bounds.bound import ERROR, Bound, of_rate
from stackelberg.bounds.checking import check_delta, check_samples
from stackelberg.errors import StackelbergError

UNSEEN = "the test examples are independent draws of the distribution, and were used neither to train nor to choose"


def upper_rate(hits: int, n: int, delta: float) -> float:
    """The largest rate p with P(Binomial(n, p) <= hits) >= delta: one-sided, exact (Clopper and Pearson 1934).

    >>> round(upper_rate(0, 100, 0.05), 4)
    0.0295
    """
    check_delta(delta)
    check_samples(n)
    if not 0 <= hits <= n:
        raise StackelbergError(f"hits must lie between 0 and n = {n}, got {hits}")
    return 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - delta))


def hold_out(wrong: int, n: int, delta: float = 0.05) -> Bound:
    """The error of the network, from `wrong` of n test examples.

    >>> round(hold_out(wrong=3, n=1000).value, 4)
    0.0077
    """
    value = upper_rate(wrong, n, delta)
    return of_rate(
        name="hold-out",
        value=value,
        delta=delta,
        holds_for=ERROR,
        assumptions=(UNSEEN,),
        source="Clopper and Pearson 1934, one-sided",
    )


def robust_hold_out(threat: str, n: int, not_proved: int, broken: int | None, delta: float = 0.05) -> tuple[Bound, ...]:
    """The robust error through the bracket: certified from above; and what is known of it by attacks alone.

    Args:
        threat: in words, for example "linf 0.1".
        n: test examples asked.
        not_proved: of them are wrong, or not certified to stand.
        broken: of them are wrong, or were moved over the border by some attack; None for not attacked.
        delta: of each bound.
    """
    proved = upper_rate(not_proved, n, delta)
    bounds = [
        of_rate(
            name="hold-out, robust, certified",
            value=proved,
            delta=delta,
            holds_for=f"robust error on the data's distribution, {threat}",
            assumptions=(UNSEEN,),
            source="Clopper and Pearson 1934, one-sided, of examples without a certificate",
        )
    ]
    if broken is not None:
        attacked = upper_rate(broken, n, delta)
        bounds.append(
            of_rate(
                name="hold-out, robust, attacked",
                value=attacked,
                delta=delta,
                holds_for=f"robust error on the data's distribution, {threat}",
                assumptions=(UNSEEN, "estimated: no attack is stronger than those made; a stronger one may refute it"),
                kind="estimate",
                source="Clopper and Pearson 1934, one-sided, of examples that some attack broke",
            )
        )
    return tuple(bounds)
