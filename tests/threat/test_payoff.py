"""Payoffs: values by hand, gradients by finite differences, and what leaves them unchanged."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stackelberg.threat.payoff import cross_entropy, dlr, kl, margin, targeted_dlr

PAYOFFS = {"ce": cross_entropy, "cw": margin, "dlr": dlr}


def logits_and_labels(seed: int, classes: int = 6):
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(4, classes, generator=generator)
    return z, torch.randint(0, classes, (4,), generator=generator)


def test_values_by_hand():
    z, y = torch.tensor([[1.0, 3.0, 2.0, 0.0]]), torch.tensor([1])
    assert float(margin(z, y)) == -1
    assert float(dlr(z, y)) == pytest.approx(-1 / (3 - 1))
    assert float(cross_entropy(z, y)) == pytest.approx(float(torch.logsumexp(z, 1)) - 3)
    # (z_t - z_y) / (z_1 - (z_3 + z_4) / 2)
    assert float(targeted_dlr(z, y, torch.tensor([2]))) == pytest.approx(-1 / (3 - 0.5))
    assert float(kl(z, z)) == 0


@pytest.mark.parametrize("name", [*PAYOFFS, "targeted", "kl"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_gradients_agree_with_finite_differences(name, seed):
    z, y = logits_and_labels(seed)
    target = (y + 1) % z.shape[1]
    other = logits_and_labels(seed + 1)[0]
    payoff = {
        **{key: lambda v, key=key: PAYOFFS[key](v, y) for key in PAYOFFS},
        "targeted": lambda v: targeted_dlr(v, y, target),
        "kl": lambda v: kl(v, other),
    }[name]
    z = z.requires_grad_(True)
    (gradient,) = torch.autograd.grad(payoff(z).sum(), z)
    step = 2**-7  # float32 inside: a step that balances rounding and curvature
    with torch.no_grad():
        for k in range(z.shape[1]):
            e = torch.zeros_like(z)
            e[:, k] = step
            slope = (payoff(z + e) - payoff(z - e)) / (2 * step)
            kink = (z[:, :, None] - z[:, None, :]).abs().add(torch.eye(z.shape[1])).amin((1, 2)) < 4 * step
            torch.testing.assert_close(gradient[~kink, k], slope[~kink], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", list(PAYOFFS))
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50), scale=st.floats(0.1, 100))
def test_what_a_payoff_does_not_see(name, seed, shift, scale):
    z, y = logits_and_labels(seed)
    payoff = PAYOFFS[name]
    torch.testing.assert_close(payoff(z + shift, y), payoff(z, y), rtol=1e-3, atol=1e-3)
    order = torch.randperm(z.shape[1], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(payoff(z[:, order], order.argsort()[y]), payoff(z, y))
    if name == "dlr":
        torch.testing.assert_close(payoff(scale * z, y), payoff(z, y), rtol=1e-4, atol=1e-4)
    if name == "cw":
        rounding = 4 * torch.finfo(z.dtype).eps * scale * float(z.abs().max())  # a margin is a difference of logits
        torch.testing.assert_close(payoff(scale * z, y), scale * payoff(z, y), rtol=1e-6, atol=rounding)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 8))
def test_margin_is_positive_exactly_on_errors(seed, classes):
    z, y = logits_and_labels(seed, classes)
    assert torch.equal(margin(z, y) > 0, z.argmax(1) != y)


def test_a_tie_is_the_first_class():
    z, y = torch.full((3, 3), 2.0, requires_grad=True), torch.arange(3)
    value = margin(z, y)
    assert value.tolist()[0] == 0
    assert (value > 0).tolist() == [False, True, True]  # as argmax answers
    assert float(value.detach().max()) < 1e-30
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert slope.diagonal().tolist() == [-1, -1, -1]  # ties are no flat place


def test_ties_of_a_finer_type_are_judged_in_it():
    z = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64)  # equal in float32
    assert float(margin(z, torch.tensor([1]))) == 0
    assert float(margin(z, torch.tensor([0]))) > 0


def test_kl_is_a_divergence_from_the_reference():
    z, other = logits_and_labels(0)[0], logits_and_labels(1)[0]
    p, q = other.softmax(1), z.softmax(1)
    torch.testing.assert_close(kl(z, other), (p * (p / q).log()).sum(1))
    assert (kl(z, other) > 0).all()
