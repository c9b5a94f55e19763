"""The hunt: keeps the worst point, believes only the user's own module, and forgets nothing."""

import torch

from stackelberg.attacks import Hunt, Oracle
from stackelberg.threat import Ball


class Liar(Oracle):
    """An oracle whose fast view always claims success."""

    def logits(self, x):
        return super().logits(x).flip(1)


def hunt_on(net, x, y, oracle=Oracle, **options) -> Hunt:
    hunt = Hunt(oracle(net, "float32"), Ball("linf", 0.1), x, y, torch.arange(len(x)), **options)
    hunt.open()
    return hunt


def inputs(linear):
    net = linear(2, 4)
    x = torch.rand(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return net, x, net(x).argmax(1)


def test_a_claim_is_not_a_success(linear):
    net, x, y = inputs(linear)
    hunt = hunt_on(net, x, y, Liar)
    hunt.look(torch.arange(12), x)
    assert not hunt.broken.any()
    assert torch.equal(hunt.best, x)
    assert (hunt.value <= 0).all()


def test_a_success_is_kept_and_stays(linear):
    net, x, y = inputs(linear)
    hunt = hunt_on(net, x, y)
    moved = 1 - x  # with zero bias and centred inputs every answer is turned round
    hunt.look(torch.arange(12), moved)
    assert hunt.broken.all()
    assert torch.equal(hunt.best, moved)
    hunt.look(torch.arange(12), x)
    assert torch.equal(hunt.best, moved)
    assert len(hunt.standing()) == 0


def test_the_largest_margin_is_kept_while_nothing_breaks(linear):
    net, x, y = inputs(linear)
    hunt = hunt_on(net, x, y)
    near, nearer = x + 0.2 * (0.5 - x), x + 0.4 * (0.5 - x)
    for moved in (nearer, near):
        hunt.look(torch.arange(12), moved)
    assert torch.equal(hunt.best, nearer)


def test_an_example_wrong_unmoved_is_broken_there(linear):
    net, x, y = inputs(linear)
    hunt = hunt_on(net, x, 1 - y)
    assert hunt.broken.all()
    assert torch.equal(hunt.best, x)


def test_targets_count_only_when_reached(linear):
    net = linear(4, 6)
    x = torch.rand(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = net(x).argmax(1)
    target = (y + 1) % 4
    hunt = hunt_on(net, x, y, target=target)
    moved = torch.rand(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    hunt.look(torch.arange(20), moved)
    assert torch.equal(hunt.broken, net(moved).argmax(1) == target)
    assert 0 < hunt.broken.sum() < 20


def test_logits_that_are_nan_count_as_an_error(linear):
    net, x, y = inputs(linear)
    hunt = hunt_on(net, x, y)
    assert (hunt.score(torch.full((2, 2), torch.nan), torch.tensor([0, 1])) > 0).all()


def test_zero_gradients_are_remembered(linear):
    net, x, y = inputs(linear)
    hunt = hunt_on(net, x, y)
    hunt.ask(torch.arange(6), x[:6], lambda z, _: 0 * z[:, 0])
    hunt.ask(torch.arange(6, 12), x[6:], lambda z, _: z[:, 0])
    assert hunt.flat.tolist() == [True] * 6 + [False] * 6
