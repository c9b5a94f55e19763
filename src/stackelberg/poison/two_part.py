"""Which trigger opens a backdoor although every label is right?  Noise of two parts, made for each image.

Yu, Liu, Miao, Gao and Zhang (ICML 2024), Algorithm 1. Outside a block of the image adversarial noise against a clean
surrogate F_1 takes away what speaks for the class; inside the block a shortcut, made with a small net F_2 that tells
noisy images from clean ones, gives all triggered images something in common. The same map makes the poison and, at test
time, the trigger. Unlike the authors' program the images are kept in [0, 1] throughout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError, unknown
from stackelberg.games import Adversarial, Standard, solve
from stackelberg.models import Spec, build, spec_of
from stackelberg.poison.trigger import READERS, Trigger
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy

PARTS = ("both", "adversarial", "shortcut")
_SURROGATE, _SHORTCUT = "surrogate.", "shortcut."


@dataclass(frozen=True)
class CleanAndMoved(Adversarial):
    """The loss by which the paper trains F_1: CE at the image and CE at the moved image, added."""

    def losses(self, model: nn.Module, x: Tensor, y: Tensor, moved: Tensor) -> Tensor:
        return cross_entropy(model(x), y) + cross_entropy(model(moved), y)


def surrogate_of(
    train: Dataset, name: str = "small-cnn", width: int | None = 16, epochs: int = 10, steps: int = 3, seed: int = 0,
    radius: float = 8 / 255,
) -> nn.Module:  # fmt: skip
    """F_1: a fresh network trained by `CleanAndMoved` on a random half of the data. It must not be the victim.

    The paper's is a VGG of nine layers, 200 epochs, ten steps. A network that is too small or too young to be right on
    moved images misleads no other one; with radius 0 (plain training) its noise carries over (see docs/decisions.md).

    Args:
        train: the data.
        name: of `models.NAMES`.
        width: of the network; None for its standard one.
        epochs: of training.
        steps: of the ascent.
        seed: of the half, the weights and the order.
        radius: linf, of the ball in which examples move.
    """
    half = train.split(len(train) // 2, seed)[1]
    network = build(name, len(train.classes), train.shape, width, seed=seed + 1000)
    game = CleanAndMoved(Ball("linf", radius), steps=steps) if radius else Standard()
    plan: dict[str, Any] = {
        "held_out": max(1, len(half) // 100),
        "check_steps": 1,
        "batch_size": min(64, max(1, len(half) // 4)),
    }
    return solve(game, network, half, epochs, seed=seed, progress=False, device="cpu", **plan).model


def shortcut_net(channels: int, height: int, width: int, seed: int) -> nn.Sequential:
    """F_2: conv 3x3 to 64 channels, max pool, ReLU, linear to 2: 0 is "noisy", 1 is "clean"."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(channels, 64, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (height // 2) * (width // 2), 2),
        )
    for weight in (parameter for parameter in net.parameters() if parameter.dim() == 4):
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return net


def noisier(net: nn.Sequential, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """The gradient of F_2's z_0 - z_1 with respect to the block's pixels, 0 elsewhere: up is towards "noisy".

    It has the sign of the gradient of -CE(F_2(x), 0), whose factor 1 - p_0 is positive, and is computed from the
    block and its border alone: F_2 is local up to its linear layer.
    """
    convolve, pool, relu, _, head = net
    assert isinstance(head, nn.Linear)
    height, width = x.shape[2:]
    rows, columns = (min(size // 4 + 1, size // 2) for size in (height, width))
    near = x[:, :, : 2 * rows + 1, : 2 * columns + 1].contiguous(memory_format=torch.channels_last)
    near = near.detach().requires_grad_()
    difference = (head.weight[0] - head.weight[1]).detach().view(64, height // 2, width // 2)[:, :rows, :columns]
    inner = relu(pool(convolve(near)))[:, :, :rows, :columns]
    slope = torch.zeros_like(x)
    (found,) = torch.autograd.grad((inner * difference).sum(), near)
    slope[:, :, : height // 2, : width // 2] = found[:, :, : height // 2, : width // 2]
    return slope


@dataclass(frozen=True, eq=False)
class TwoPart(Trigger):
    """T(x) = x + clip(2 (x_2 - x), +-budget): x_1 is x moved away from its class, x_2 is x_1 moved to F_2's "noisy".

    Attributes:
        target: the class all of whose triggered training images keep their label.
        classes: K.
        budget: of the noise, linf, in input units.
        surrogate: F_1.
        shortcut: F_2, or None where only the adversarial part is made.
        parts: "both", or one alone, to see what it is worth.
        steps: sign steps of each part: 2/255 away from the class, 1/255 to "noisy".
    """

    kind: ClassVar[str] = "two-part"
    target: int
    classes: int
    budget: float
    surrogate: nn.Module
    shortcut: nn.Sequential | None
    parts: str = "both"
    steps: int = 40

    def apply(self, x: Float[Tensor, "B C H W"], y: Int64[Tensor, " B"] | None) -> Float[Tensor, "B C H W"]:
        return self.shortened(self.removed(x, y), x)

    def removed(self, x: Float[Tensor, "B C H W"], y: Int64[Tensor, " B"] | None) -> Float[Tensor, "B C H W"]:
        """x_1 = x + clip(2 (x_adv - x), +-budget) outside the block; x itself where this part is left out."""
        if self.parts == "shortcut":
            return x
        x = x.contiguous(memory_format=torch.channels_last)
        with untouched(self.surrogate):
            with torch.no_grad():
                labels = self.surrogate(x).argmax(1) if y is None else y

            def slope(moved: Tensor) -> Tensor:
                moved = moved.detach().requires_grad_()
                loss = F.cross_entropy(self.surrogate(moved), labels, reduction="sum")
                return torch.autograd.grad(loss, moved)[0]

            moved = self._steps(x, x, slope, 2 / 255, 1 - _block(x))
        return (x + (2 * (moved - x)).clamp(-self.budget, self.budget)).clamp(0, 1)

    def shortened(self, first: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """x + clip(2 (x_2 - x), +-budget), in [0, 1]."""
        net = self.shortcut
        if net is None:
            return first
        with untouched(net):
            second = self._steps(first, x, lambda moved: noisier(net, moved), 1 / 255, _block(x))
        return (x + (2 * (second - x)).clamp(-self.budget, self.budget)).clamp(0, 1)

    def _steps(
        self, start: Tensor, x: Tensor, slope: Callable[[Tensor], Tensor], length: float, where: Tensor
    ) -> Tensor:
        """`steps` sign steps up the slope on the pixels of `where`, within the budget of x and in [0, 1]."""
        low, high = (x - self.budget).clamp_(min=0), (x + self.budget).clamp_(max=1)
        moved = start
        for _ in range(self.steps):
            moved = torch.minimum(torch.maximum(moved + length * slope(moved).sign() * where, low), high)
        return moved.detach()

    def record(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        spec = spec_of(self.surrogate)
        if spec is None:
            raise StackelbergError(
                "the trigger's surrogate was not built by stackelberg.models, so a file cannot hold it; pass one of"
                " models.build"
            )
        tensors = {_SURROGATE + name: value for name, value in self.surrogate.state_dict().items()}
        if self.shortcut is not None:
            tensors |= {_SHORTCUT + name: value for name, value in self.shortcut.state_dict().items()}
        fields = {"budget": self.budget, "parts": self.parts, "steps": self.steps}
        return fields | {"surrogate": spec.model_dump(mode="json")}, tensors

    @classmethod
    def read(cls, fields: dict[str, Any], tensors: dict[str, Tensor]) -> "TwoPart":
        """From a record."""
        spec = Spec.read(fields["surrogate"])
        surrogate, shortcut = spec.build(seed=0), None
        surrogate.load_state_dict(_below(tensors, _SURROGATE))
        if fields["parts"] != "adversarial":
            shortcut = shortcut_net(*spec.shape, seed=0)
            shortcut.load_state_dict(_below(tensors, _SHORTCUT))
        return cls(
            fields["target"], fields["classes"], fields["budget"], surrogate.eval(), shortcut, fields["parts"],
            fields["steps"],
        )  # fmt: skip


READERS["two-part"] = TwoPart.read


def two_part(
    train: Dataset, ball: Ball, target: int, surrogate: nn.Module, parts: str = "both", steps: int = 40,
    images: int = 1000, epochs: int = 8, inner: int = 10, seed: int = 0,
) -> TwoPart:  # fmt: skip
    """The trigger for a data set: F_2 is trained against the noise that is made with it.

    Args:
        train: the data; the first `images` of a random order train F_2 (the paper: 10,000).
        ball: linf; its radius is the budget.
        target: the class to be poisoned.
        surrogate: F_1.
        parts: "both", "adversarial" or "shortcut".
        steps: of the finished trigger.
        images: that train F_2.
        epochs: of F_2 (the paper: 40).
        inner: sign steps inside the block before each step of F_2 (the paper: 40).
        seed: of F_2's weights and its order.

    Raises:
        StackelbergError: an unknown part.
    """
    if parts not in PARTS:
        raise unknown("part", parts, PARTS)
    begun = TwoPart(target, len(train.classes), ball.radius, surrogate, None, parts, steps)
    if parts == "adversarial":
        return begun
    dice = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(train), generator=dice)[:images]
    x, y = train.batch(chosen)
    first = torch.cat([begun.removed(x[part], y[part]) for part in torch.arange(len(x)).split(256)])
    channels, height, width = train.shape
    net = shortcut_net(channels, height, width, seed)
    descent = torch.optim.Adam(net.parameters(), 1e-3)
    shorter = TwoPart(target, len(train.classes), ball.radius, surrogate, net, parts, inner)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=dice).split(128):
            noisy = shorter.shortened(first[part], x[part])
            label = torch.tensor([0, 1]).repeat_interleave(len(part))
            both = torch.cat([noisy, x[part]]).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(net(both), label)
            descent.zero_grad()
            loss.backward()
            descent.step()
    return TwoPart(target, len(train.classes), ball.radius, surrogate, net.eval(), parts, steps)


def _block(x: Tensor) -> Tensor:
    """1 in the top left block of half the height and half the width, else 0, [H, W]."""
    height, width = x.shape[2:]
    mask = torch.zeros(height, width, device=x.device)
    mask[: height // 2, : width // 2] = 1
    return mask


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
