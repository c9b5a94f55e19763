"""Expressive power: the published figures, each step of the proof, copies, and exact errors."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from stackelberg.bounds import Boxed, Expressed, expressive, search_expressed
from stackelberg.bounds.boxed import error_on_segment, random_boxed, repeated, train_boxed
from stackelberg.bounds.expressive import copies, log_risk_needed, risk_needed, terms
from stackelberg.errors import StackelbergError
from stackelberg.exhibits.width_and_samples import Law, laws

LAWS = laws()


@pytest.mark.parametrize(("width", "accuracy"), [(20, 0.2322), (200, 0.8066), (20_000, 0.8068)])
def test_the_accuracy_of_the_acceptance_table(width: int, accuracy: float) -> None:
    assert 1 - sum(terms(width, 10**6, Expressed(1, 0.25, 2), 0.05, "biased")) == pytest.approx(accuracy, abs=1e-4)


def test_the_plain_form_by_hand_and_both_forms_beside() -> None:
    share, complexity, chance = terms(100, 10_000, Expressed(2, 0.25, 1))
    assert share == pytest.approx(math.exp(-50 * 0.25 / 2) / math.log(2))
    assert complexity == pytest.approx(8 * 100 * 2 / (50 * 0.25 * 100))
    assert chance == pytest.approx(math.sqrt(math.log(20) / 20_000))
    robust = terms(100, 10_000, Expressed(2, 0.25, 1, radius=0.1))
    assert robust[1] == pytest.approx(4 * (2 * 100 * 2 + 0.1 * 100) / (50 * 0.25 * 100))
    # the biased form pays a neuron a copy for a class that holds the plain one
    assert sum(terms(100, 10_000, Expressed(2, 0.25, 1), form="biased")) > share + complexity + chance


def test_width_helps_and_does_no_harm() -> None:
    values = [sum(terms(w, 10**5, Expressed(2, 0.25, 1))) for w in (2, 8, 32, 128, 512, 2048, 10**6)]
    assert all(b <= a for a, b in pairwise(values))
    assert values[-1] < values[0] / 2
    assert sum(terms(1, 10**5, Expressed(2, 0.25, 1))) == math.inf


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_narrow_network_expresses_its_law(law: Law) -> None:
    x, y = law.draw(5000, 0)
    assert law.narrow.width == law.expressed.width
    assert law.narrow.largest <= 1
    margin = float(law.narrow.worst(x, y, law.expressed.radius).min())
    assert law.expressed.margin - 1e-9 <= margin <= law.expressed.margin + 0.01
    assert law.error(law.narrow) == 0


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_copies_fit_into_the_box_and_add_up(law: Law) -> None:
    x, y = law.draw(100, 1)
    for width in (law.expressed.width, 11, 40):
        often, many = copies(width, law.expressed), repeated(law.narrow, width)
        assert many.width == width
        assert many.largest <= 1
        torch.testing.assert_close(many(x), often * law.narrow(x))
        risk = many.risk(x, y, law.expressed.radius)
        assert risk <= risk_needed(width, law.expressed)
        assert many.log_risk(x, y, law.expressed.radius) == pytest.approx(math.log(risk))
        assert log_risk_needed(width, law.expressed) == pytest.approx(math.log(risk_needed(width, law.expressed)))


def test_risks_below_the_smallest_float_are_still_compared() -> None:
    law = LAWS[2]
    x, y = law.draw(100, 1)
    many = repeated(law.narrow, 8000)
    assert many.risk(x, y) == 0
    assert -1700 < many.log_risk(x, y) <= log_risk_needed(8000, law.expressed) + 1e-9
    assert log_risk_needed(8000, law.expressed) == pytest.approx(-1600)


def test_copies_carry_an_output_bias() -> None:
    narrow = Boxed(
        torch.ones(1, 2).double(), torch.zeros(1).double(), torch.ones(1).double(), torch.tensor(-0.5).double()
    )
    expressed, x = Expressed(1, 0.25, 2), torch.rand(50, 2).double()
    for width in (2, 7, 20):
        many = repeated(narrow, width)
        assert (many.width, many.largest <= 1) == (width, True)
        torch.testing.assert_close(many(x), copies(width, expressed, "biased") * narrow(x))
    with pytest.raises(StackelbergError, match="width must be at least 2"):
        repeated(narrow, 1)


def test_the_share_of_small_margins_is_bounded_and_nearly_reached() -> None:
    """An adversary of the proof: as many examples at margin g as the risk allows, the others free of cost."""
    for scale in (0.5, 2.0, 10.0, 50.0):
        share = math.log1p(math.exp(-scale)) / math.log1p(math.exp(-scale / 2))
        bound = math.exp(-scale / 2) / math.log(2)
        assert 0.1 * bound < share <= bound


def test_the_complexity_of_the_class_lies_under_its_bound_but_not_under_a_tenth() -> None:
    """All inputs at the corner (1, ..., 1): the sup over the class is W (d + 1) |sum of signs|, exactly."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (20_000, 100))
    for width, d in ((4, 1), (50, 2)):
        found = width * (d + 1) * float(np.abs(signs.mean(1)).mean())
        bound = 2 * width * (d + 1) / math.sqrt(100)
        assert 0.1 * bound < found <= bound
        corner = Boxed(
            torch.ones(width, d).double(),
            torch.ones(width).double(),
            torch.ones(width).double(),
            torch.zeros(()).double(),
        )
        assert float(corner(torch.ones(1, d).double())) == width * (d + 1)
        assert float(corner.steepness) == width * d  # the robust part: r W d E |mean of signs|


def test_no_network_of_the_class_is_beyond_its_margin_bound() -> None:
    """error <= share of margins <= g + (2 / g) Rad + chance, for all at once: the worst of many networks, often."""
    law, n, g = LAWS[0], 2000, 1.5
    nets = [random_boxed(4, 1, seed) for seed in range(100)]
    errors = np.array([law.error(net) for net in nets])
    bound = 2 / g * 2 * 4 * 2 / math.sqrt(n) + math.sqrt(math.log(20) / (2 * n))
    failures = 0
    for trial in range(30):
        x, y = law.draw(n, trial)
        shares = np.array([float((net.worst(x, y) <= g).double().mean()) for net in nets])
        failures += bool((errors > shares + bound).any())
    assert failures == 0


@pytest.mark.parametrize("law", LAWS[:3], ids=lambda law: law.name)
def test_exact_errors_equal_those_of_many_points(law: Law) -> None:
    for seed in range(5):
        net = random_boxed(6, law.expressed.dimension, seed)
        x, y = law.draw(200_000, seed)
        assert float((net.worst(x, y) <= 0).double().mean()) == pytest.approx(law.error(net), abs=0.006)


def test_a_segment_by_hand() -> None:
    net = Boxed(*(torch.tensor(v).double() for v in ([[1.0], [0.0]], [0.0, 0.5], [1.0, -1.0], 0.0)))  # x - 1/2
    ends = torch.zeros(1).double(), torch.ones(1).double()
    assert error_on_segment(net, *ends, 1.0) == pytest.approx(0.5)
    assert error_on_segment(net, *ends, -1.0, radius=0.2) == pytest.approx(0.7)


def test_the_search_finds_a_narrow_network_or_says_none() -> None:
    x, y = LAWS[0].draw(300, 0)
    found = search_expressed(x, y, widths=(2, 3), tries=2, steps=200)
    assert found is not None
    expressed, net = found
    assert not expressed.sure
    assert net.largest <= 1
    assert float((y * net(x)).min()) == pytest.approx(expressed.margin)
    assert expressed.width / expressed.margin < 3 * 2 / 0.25
    coins = torch.ones(40, 1).double() * 0.5, torch.tensor([1.0, -1.0] * 20).double()
    assert search_expressed(*coins, widths=(2,), tries=1, steps=20) is None


def test_training_stays_in_the_box_and_reaches_the_risk_that_is_asked() -> None:
    law = LAWS[0]
    x, y = law.draw(500, 0)
    net = train_boxed(random_boxed(40, 1, 0), x, y, 500, 0.1, 256, sharp=0.4)
    assert net.largest <= 1
    assert net.risk(x, y) <= risk_needed(40, law.expressed)
    bound = expressive(40, 10**6, law.expressed, net.risk(x, y))
    assert law.error(net) <= bound.value < 1
    assert (bound.kind, bound.vacuous) == ("theorem", False)


def test_a_badly_trained_network_gets_no_bound() -> None:
    bound = expressive(40, 10**6, Expressed(2, 0.25, 1), risk=0.6)
    assert (bound.value, bound.vacuous) == (math.inf, True)
    assert "not met: the empirical risk is 0.6" in " ".join(bound.assumptions)


def test_what_was_found_on_a_sample_is_an_estimate() -> None:
    bound = expressive(40, 10**6, Expressed(2, 0.25, 1, sure=False), risk=1e-9)
    assert bound.kind == "estimate"
    assert "estimated: that width 2 expresses" in " ".join(bound.assumptions)
    assert expressive(40, 10**6, Expressed(2, 0.25, 1, 0.05), 1e-9).holds_for.startswith("robust")


def test_bad_input_is_named() -> None:
    with pytest.raises(StackelbergError, match="margin > 0"):
        Expressed(2, 0.0, 1)
    with pytest.raises(StackelbergError, match="unknown form 'biassed': did you mean 'biased'"):
        copies(4, Expressed(2, 0.1, 1), "biassed")
    with pytest.raises(StackelbergError, match="delta"):
        terms(4, 10, Expressed(2, 0.1, 1), 1.0)
