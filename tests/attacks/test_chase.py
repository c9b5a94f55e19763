"""Minimal-norm attacks: on linear nets the distance is known, for every norm, and each of them must reach it."""

import pytest
import torch

from stackelberg.attacks import APGD, FAB, CarliniWagner, DeepFool, minimal_radius, nearest
from stackelberg.attacks.boundary import to_boundary
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin

MAKERS = {
    "fab": lambda ball: FAB(ball, 20),
    "fab-nearest-of-all": lambda ball: FAB(ball, 20, targeted=False),
    "deepfool": lambda ball: DeepFool(ball, overshoot=1e-4),
    "carlini-wagner": lambda ball: CarliniWagner(ball, steps=150, searches=9),
}
BALLS = {"linf": Ball("linf", 0.5), "l2": Ball("l2", 0.5), "l1": Ball("l1", 0.5)}


def truth(net, x, y, norm, target=None):
    """The exact distance: of the nearest of the classes' half-spaces, box included; for a target of an intersection."""
    logits, best = net(x).detach(), torch.full((len(x),), torch.inf, dtype=x.dtype)
    for k in range(logits.shape[1]):
        slope = (net.weight[k] - net.weight[y]).detach()
        gap = logits[:, k] - logits.gather(1, y[:, None])[:, 0]
        step = to_boundary(slope.view_as(x), gap, x, BALLS[norm])
        reached = (gap + (slope.view_as(x) * step).sum(1)).abs() < 1e-9
        distance = BALLS[norm].distance(step, torch.zeros_like(step))
        best = torch.where(reached & (y != k) & (distance < best), distance, best)
    return best


def linear_case(linear, classes=4):
    net = linear(classes, 12)
    x = torch.rand(40, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return net, x, net(x).argmax(1)


@pytest.mark.parametrize("norm", list(BALLS))
@pytest.mark.parametrize("name", list(MAKERS))
def test_on_a_linear_net_the_nearest_error_is_found(linear, name, norm):
    if name == "carlini-wagner" and norm != "l2":
        return
    net, x, y = linear_case(linear)
    found, radius = nearest(net, x, y, norm, maker=MAKERS[name])
    exact = truth(net, x, y, norm)
    assert (margin(net(found), y) > 0).all()
    torch.testing.assert_close(radius, BALLS[norm].distance(found, x))
    assert (radius >= exact - 1e-9).all()
    slack = 1.05 if name == "carlini-wagner" else 1.01
    # DeepFool may meet another class than the nearest; descent by Adam comes close
    assert (radius <= slack * exact + 1e-4).double().mean() >= (1.0 if name.startswith("fab") else 0.8)


@pytest.mark.parametrize("name", ["fab", "deepfool", "carlini-wagner"])
def test_a_target_is_what_is_reached(linear, name):
    net, x, y = linear_case(linear)
    target = (y + 1) % 4
    found, radius = nearest(net, x, y, "l2", target, maker=MAKERS[name])
    reached = radius.isfinite()
    assert reached.double().mean() > 0.9
    assert torch.equal(net(found[reached]).argmax(1), target[reached])
    assert (radius >= truth(net, x, y, "l2") - 1e-9).all()


def test_on_a_real_net_fab_is_nearer_than_a_search_over_radii(digits):
    net, x, y = digits
    radius = minimal_radius(net, x, y, "linf", maker=lambda ball: FAB(ball, 50))
    for tried in (0.03, 0.06, 0.1):
        fell = net(APGD(Ball("linf", tried), 50, loss="cw")(net, x, y)).argmax(1) != y
        assert (radius[fell] <= tried * 1.05).double().mean() > 0.95
        assert int((radius <= tried).sum()) >= int(fell.sum()) - 2


def test_what_is_wrong_has_radius_zero_and_what_cannot_fall_has_none(linear):
    net = linear(2, 5)
    with torch.no_grad():
        net.bias[0] = 100.0
    x = torch.rand(4, 5, dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1])
    found, radius = nearest(net, x, y, "l2")
    assert radius.tolist() == [torch.inf, torch.inf, 0.0, 0.0]
    assert torch.equal(found, x)


def test_no_examples_are_no_error(linear):
    net, x, y = linear_case(linear)
    assert minimal_radius(net, x[:0], y[:0], "linf").shape == (0,)


@pytest.mark.parametrize("maker", [FAB, DeepFool])
def test_l0_is_refused_by_name(maker):
    with pytest.raises(StackelbergError, match=r"is defined for linf, l2 and l1, got norm 'l0'; use attacks.JSMA"):
        maker(Ball("l0", 5))


def test_carlini_wagner_is_for_l2():
    with pytest.raises(StackelbergError, match="carlini-wagner is defined for l2, got norm 'linf'"):
        CarliniWagner(Ball("linf", 0.1))


def test_the_scale_of_the_logits_does_not_matter_to_carlini_and_wagner(linear):
    net, x, y = linear_case(linear)
    plain = minimal_radius(net, x, y, "l2", maker=MAKERS["carlini-wagner"])
    with torch.no_grad():
        net.weight.mul_(1000)
    torch.testing.assert_close(
        minimal_radius(net, x, y, "l2", maker=MAKERS["carlini-wagner"]), plain, rtol=1e-3, atol=0
    )
