"""The oracle: a faster view that answers as the model does, and a model that comes back as it was lent."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackelberg.attacks import PGD, Oracle, suite, untouched
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball
from stackelberg.threat.payoff import margin


def snapshot(net: nn.Module):
    return (
        {name: value.clone() for name, value in net.state_dict().items()},
        {name: module.training for name, module in net.named_modules()},
        {name: (p.requires_grad, None if p.grad is None else p.grad.clone()) for name, p in net.named_parameters()},
    )


def same(a, b) -> bool:
    tensors = all(torch.equal(a[0][k], b[0][k]) for k in a[0]) and a[0].keys() == b[0].keys()
    gradients = all(
        a[2][k][0] == b[2][k][0] and (a[2][k][1] is b[2][k][1] or torch.equal(a[2][k][1], b[2][k][1])) for k in a[2]
    )
    return tensors and a[1] == b[1] and gradients


def lent(net: nn.Module):
    """A net in train mode, one part in eval, one parameter frozen, with gradients."""
    net.train()
    net.get_submodule("norm").eval()
    F.cross_entropy(net(torch.rand(3, 2, 8, 8)), torch.tensor([0, 1, 2])).backward()
    net.get_parameter("head.bias").requires_grad_(False)
    return net


def test_a_lent_model_comes_back_exactly(batched):
    net = lent(batched)
    before = snapshot(net)
    with untouched(net) as model:
        assert not any(module.training for module in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        model.train()
        model(torch.rand(8, 2, 8, 8))  # even if somebody runs it in train mode
        model.eval()
        assert not torch.equal(net.get_buffer("norm.running_mean"), before[0]["norm.running_mean"])
    assert same(before, snapshot(net))


def test_it_comes_back_after_an_error_too(batched):
    net = lent(batched)
    before = snapshot(net)
    with pytest.raises(RuntimeError, match="on the way"), untouched(net):
        raise RuntimeError("on the way")
    assert same(before, snapshot(net))


def test_the_float32_view_is_the_model(batched):
    x = torch.rand(5, 2, 8, 8)
    with untouched(batched):
        oracle = Oracle(batched, "float32")
        torch.testing.assert_close(oracle.logits(x), oracle.exact(x))
        gradient, value, logits = oracle.gradient(x, lambda z: margin(z, torch.arange(5) % 4))
        point = x.clone().requires_grad_(True)
        truth = margin(batched(point), torch.arange(5) % 4)
        (slope,) = torch.autograd.grad(truth.sum(), point)
    torch.testing.assert_close(gradient, slope)
    torch.testing.assert_close(value, truth.detach())
    torch.testing.assert_close(logits, batched(x).detach())


def test_the_bfloat16_view_is_near(batched):
    x = torch.rand(5, 2, 8, 8)
    with untouched(batched):
        oracle = Oracle(batched, "bfloat16")
        truth = oracle.exact(x)
        off = (oracle.logits(x) - truth).abs().max()
    assert oracle.precision == "bfloat16"
    assert 0 < off < 0.05 * truth.abs().max()


def test_refresh_follows_the_parameters(batched):
    x = torch.rand(5, 2, 8, 8)
    oracle = Oracle(batched, "float32")
    before = oracle.logits(x)
    with torch.no_grad():
        batched.conv.weight.mul_(2)
        batched.norm.running_var.mul_(3)
        batched.norm.weight.add_(1)
    torch.testing.assert_close(oracle.logits(x), before)
    oracle.refresh()
    torch.testing.assert_close(oracle.logits(x), batched(x).detach())


def test_a_shared_layer_is_not_folded():
    layer = nn.Conv2d(3, 3, 1)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm, self.head = layer, nn.BatchNorm2d(3), nn.Linear(12, 3)

        def forward(self, x):
            return self.head(self.norm(self.layer(self.norm(self.layer(x)))).flatten(1))

    net = Twice().train()
    net(torch.rand(9, 3, 2, 2))
    x = torch.rand(4, 3, 2, 2)
    with untouched(net):
        torch.testing.assert_close(Oracle(net, "float32").logits(x), net(x))


def test_a_model_that_cannot_be_traced_is_asked_itself():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(x) if x.mean() > 0 else -self.head(x)

    net, x = Branching(), torch.rand(4, 6)
    with untouched(net):
        torch.testing.assert_close(Oracle(net).logits(x), net(x))


def test_a_view_that_errs_is_given_up():
    """This net looks at the 20th binary digit of its input, which bfloat16 does not have."""

    class Fine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(1, 3, 4)

        def forward(self, x):
            return self.head((x * 2.0**20).remainder(2.0)).flatten(1)

    net, x = Fine(), torch.rand(6, 1, 4, 4)
    with untouched(net):
        oracle = Oracle(net, "bfloat16")
        torch.testing.assert_close(oracle.logits(x), net(x))
    assert oracle.precision == "float32"


def test_a_last_softmax_is_taken_off(linear):
    net = nn.Sequential(linear(3, 6), nn.Softmax(1))
    x = torch.rand(4, 6, dtype=torch.float64)
    with untouched(net):
        oracle = Oracle(net)
        torch.testing.assert_close(oracle.logits(x), net[0](x).float())
        assert oracle.mends == {"softmax"}
        torch.testing.assert_close(oracle.exact(x), net(x).float())


def test_probabilities_of_another_making_are_answered_by_their_logarithms_in_float64(linear):
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear(3, 6).float()

        def forward(self, x):
            e = (60 * self.net(x)).exp() if x.dtype is torch.float64 else (60 * self.net(x).clamp(max=1)).exp()
            return e / e.sum(1, keepdim=True)

    net = ByHand()
    x = 0.5 + 0.1 * torch.rand(4, 6)
    with untouched(net):
        oracle = Oracle(net)
        off = oracle.logits(x) - 60 * net.net(x)
        torch.testing.assert_close(off, off[:, :1].expand(-1, 3), rtol=0, atol=1e-3)
        assert oracle.mends == {"probabilities"}
        torch.testing.assert_close(oracle.exact(x), net(x).float())


def test_a_model_without_gradient_gets_one_sentence(linear):
    net = linear(3, 6)

    class Cut(nn.Module):
        def forward(self, x):
            return net(x.detach())

    with pytest.raises(
        StackelbergError, match="do not depend differentiably on its input, so a gradient attack cannot run"
    ):
        Oracle(Cut()).gradient(torch.rand(2, 6, dtype=torch.float64), lambda z: z[:, 0])


def test_everything_asked_is_counted(batched):
    x = torch.rand(5, 2, 8, 8)
    with untouched(batched):
        oracle = Oracle(batched, "float32", view="fast")
        oracle.exact(x)
        oracle.logits(x)
        oracle.gradient(x, lambda z: z[:, 0])
    assert (oracle.forwards, oracle.backwards) == (15, 5)


def test_the_view_is_a_copy(batched):
    before = copy.deepcopy(batched.state_dict())
    oracle = Oracle(batched, "bfloat16")
    oracle.gradient(torch.rand(2, 2, 8, 8), lambda z: z[:, 0])
    assert all(torch.equal(before[k], v) for k, v in batched.state_dict().items())
    assert all(p.grad is None for p in batched.parameters())


def test_an_operation_without_a_derivative_is_said_in_one_sentence() -> None:
    class Jumps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.gammainc(x.flatten(1)[:, :3] + 1, torch.ones(()))

    x = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    y = Jumps()(x).argmax(1)  # all right, so that there is something to climb
    with pytest.raises(StackelbergError, match=r"attacks\.Square"):
        PGD(Ball("linf", 0.1), steps=2)(Jumps(), x, y)
    result = suite(Ball("linf", 0.1), "fast", patience=200).run(Jumps(), x, y)
    assert result.robust <= result.clean_right
