"""Bounds of poisoned training: finite worlds with known errors, both sides, and the terms."""

import math

import numpy as np
import pytest

from stackelberg.bounds import poisoned
from stackelberg.bounds.transport import total_variation
from stackelberg.errors import StackelbergError
from stackelberg.threat import clopper_pearson


@pytest.mark.parametrize("targeted", [True, False])
def test_the_clean_error_of_a_finite_class_is_bounded(targeted: bool) -> None:
    """H predictors on k points, the best on the poisoned set is chosen; a chance term 10 times too small is caught."""
    chance, trials, k, n, hypotheses, confidence = np.random.default_rng(3), 1500, 8, 60, 12, 0.7
    wrong = small = 0
    for _ in range(trials):
        law, label, alpha = chance.dirichlet(np.ones(k)), chance.integers(0, 2, k), float(chance.uniform(0, 0.6))
        label[:2] = (0, 1)
        eta = float(law[label == 1].sum())
        guesses = chance.integers(0, 2, (hypotheses, k + 1))  # point k is the triggered one
        drawn = chance.choice(k, n, p=law)
        hit = (chance.random(n) < alpha) & ((label[drawn] == 1) if targeted else True)
        place = np.where(hit, k, drawn)
        labels = np.where(hit & (not targeted), 1 - label[drawn], label[drawn])
        seen = (guesses[:, place] != labels).mean(1)
        chosen = int(seen.argmin())
        true = float(law @ (guesses[chosen, :k] != label))
        untouched = int(n - hit.sum())
        complexity = math.sqrt(2 * math.log(hypotheses) / max(untouched, 1))
        for part in (1, 10):
            terms = poisoned.clean_error(
                float(seen[chosen]), n, untouched, alpha, complexity / part / (1 if part == 1 else 10), confidence,
                eta, targeted,
            )  # fmt: skip
            value = dict(terms.terms)
            sure = sum(value.values()) - (0.9 * value["chance"] if part == 10 else 0)
            wrong, small = (wrong + (true > sure), small) if part == 1 else (wrong, small + (true > sure))
    assert clopper_pearson(wrong, trials).high <= 1 - confidence
    assert small > wrong


def test_the_factor_is_attained() -> None:
    """A predictor that errs on clean target points only: error_D = error_P / (1 - alpha)."""
    alpha, eta = 0.4, 0.3
    on_poison_law = eta * (1 - alpha)
    assert on_poison_law / (1 - alpha) == pytest.approx(eta)
    assert poisoned.untouched_factor(alpha, eta) * on_poison_law / (1 - alpha * eta) == pytest.approx(eta)
    assert poisoned.untouched_factor(0.0, eta) == 1
    assert math.isinf(poisoned.untouched_factor(1.0, eta))
    assert poisoned.untouched_factor(0.9, targeted=False) == 1


def test_held_out_and_poison_side_by_simulation() -> None:
    """Triggered features on four cells: both bounds hold as often as they say, and do not at a tenth."""
    chance, trials, n, alpha = np.random.default_rng(0), 1500, 80, 0.3
    other, same = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 0.1, 0.2, 0.7])
    answer_is_target = np.array([False, True, False, True])
    true = float(other @ ~answer_is_target)
    clean, eta = 0.2, 0.5  # the clean error, all of it on the target class; triggered samples are right
    law_error = clean * (1 - alpha)
    wrong = dict.fromkeys(("miss", "clean", "small clean"), 0)
    for _ in range(trials):
        a, b = chance.choice(4, n, p=other), chance.choice(4, n, p=same)
        fresh = chance.choice(4, n, p=same)
        on_target = clopper_pearson(int((~answer_is_target[fresh]).sum()), n, 0.8)
        wrong["miss"] += poisoned.trigger_miss(on_target, total_variation(a, b, 0.9)).bound.value < true
        held = clopper_pearson(int(chance.binomial(n, law_error)), n, 0.8)
        found = poisoned.clean_error_held_out(held, alpha)
        wrong["clean"] += found.bound.value < clean
        wrong["small clean"] += found.terms[0][1] + found.terms[1][1] / 10 < clean
    assert clopper_pearson(wrong["miss"], trials).low <= 0.2
    assert clopper_pearson(wrong["clean"], trials).low <= 0.1
    assert clopper_pearson(wrong["small clean"], trials).low > 0.1
    assert poisoned.untouched_factor(alpha, eta) > 1


def test_what_they_say() -> None:
    miss = poisoned.trigger_miss(clopper_pearson(1, 50, 0.8), total_variation(np.arange(4), np.arange(4), 0.9))
    assert miss.bound.confidence == pytest.approx(0.8)
    terms = poisoned.clean_error(0.02, 10_000, 9_700, 0.3, 0.05, eta=0.1)
    assert [name for name, _ in terms.terms] == ["error on the poisoned set", "complexity", "chance"]
    assert terms.bound.value == pytest.approx(sum(value for _, value in terms.terms))
    assert "(complexity)" in str(terms)
    nothing = poisoned.clean_error(0.0, 100, 0, 1.0, 0.0)
    assert nothing.bound.vacuous
    assert poisoned.clean_error_held_out(clopper_pearson(0, 50), 1.0).bound.vacuous
    robust = poisoned.by_robust_error(clopper_pearson(30, 100), 8 / 255)
    assert (robust.bound.kind, robust.bound.confidence) == ("estimate", pytest.approx(0.975))
    with pytest.raises(StackelbergError, match=r"alpha must lie in \[0, 1\]"):
        poisoned.untouched_factor(1.5)
    with pytest.raises(StackelbergError, match=r"untouched in 0..n"):
        poisoned.clean_error(0.1, 10, 20, 0.1, 0.0)
