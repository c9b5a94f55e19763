"""k-winners-take-all, a defence by broken gradients: the suite sees it, and finds what the gradients do not show."""

import torch
from torch import Tensor, nn

from stackelberg import games, models
from stackelberg.attacks import PGD, masking, suite
from stackelberg.data import load
from stackelberg.threat import Ball


class KWinners(nn.Module):
    """The largest tenth of the activations, the others 0 (Xiao, Zhong and Zheng 2020): jumps where the order turns."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(flat.shape[1] // 10, dim=1).values[:, -1:]
        return (flat * (flat >= least)).view_as(x)


def with_winners(network: nn.Module) -> nn.Module:
    """The network, k winners in the place of every ReLU."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU):
            network.set_submodule(name, KWinners())
    return network


def test_what_the_gradients_do_not_show_is_found() -> None:
    train = load("digits", "train")
    start = with_winners(models.build("small-cnn", 10, train.shape, 16, seed=0))
    net = games.solve(games.Standard(), start, train, 20, learning_rate=3e-3, progress=False).model.eval()
    x, y = load("digits", "test").take(120).batch(slice(None))
    ball = Ball("linf", 0.1)
    found = suite(ball, "fast").run(net, x, y)
    moved = PGD(ball, 50)(net, x, y)
    with torch.no_grad():
        by_gradients = int((net(moved).argmax(1) == y).sum())
    assert found.clean_right > 90
    assert masking.fires("black-box-beats-gradients", found.signs), found.signs
    assert found.robust < by_gradients / 3, (found.robust, by_gradients)
