"""Can chosen training images make a network misread one chosen test image?  Targeted poison with true labels.

- gradient-matching (Geiping et al. 2021, "Witches' Brew"): the poison's training gradient is turned towards the
  gradient that would teach the wish, so the network that trains on it learns the wish on the way. For fine-tuning of
  all layers and for training from scratch.
- feature-collision (Shafahi et al. 2018), in a ball: every poison's features go to the target's.
- bullseye (Aghakhani et al. 2021): only the mean of the poisons' features does. Both for a new head on known features.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.attacks.attack import check_inputs
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError, unknown
from stackelberg.models import check_output
from stackelberg.poison.asking import check_images, class_number, grey_levels, poisoned_count
from stackelberg.poison.learner import features, logits
from stackelberg.poison.stealth import Stealth, stealth
from stackelberg.poison.trigger import BOX
from stackelberg.threat import Ball

TARGETED = ("gradient-matching", "bullseye", "feature-collision")


@dataclass(frozen=True, eq=False)
class Targeted:
    """A training set with poison aimed at one image.

    Attributes:
        data: of the same schema, labels unchanged.
        index: places of the poisoned examples, rising; all of class `wish`.
        image: the target, [1, C, H, W] in [0, 1].
        wish: the class it shall get.
        method: one of `TARGETED`.
        loss: what the poison reached: 1 - cosine of the gradients, or the relative squared distance of the features.
        stealth: of the poisoned images.
    """

    data: Dataset
    index: Int64[Tensor, " P"]
    image: Float[Tensor, "1 C H W"]
    wish: int
    method: str
    loss: float
    stealth: Stealth

    def hit(self, model: nn.Module) -> bool:
        """Whether a model gives the target image the wished class."""
        with untouched(model), torch.no_grad():
            return int(model(self.image).argmax(1)) == self.wish


def targeted(
    train: Dataset,
    model: nn.Module,
    image: Float[Tensor, "1 C H W"],
    wish: int | str,
    ball: Ball | None = None,
    method: str = "gradient-matching",
    *,
    rate: float = 0.01,
    steps: int = 200,
    restarts: int = 1,
    seed: int = 0,
) -> Targeted:
    """Poison images of class `wish`, within a ball and with their true labels, so that `image` will be given to it.

    >>> import stackelberg as sb
    >>> train = sb.data.load("digits", "train")
    >>> net = sb.models.build("mlp", classes=10, shape=train.shape, width=8, seed=0)
    >>> image = train.batch(slice(0, 1))[0]
    >>> wish = (int(net(image).argmax(1)) + 1) % 10
    >>> found = sb.poison.targeted(train, net, image, wish, rate=0.005, steps=5)
    >>> set(found.data.y[found.index].tolist()) == {wish}
    True

    Args:
        train: on which the victim trains or fine-tunes.
        model: a network like the victim's, trained on clean data: the poisoner's view of it.
        image: the target, [1, C, H, W] in [0, 1].
        wish: the class it shall get, number or name; must not be the model's present answer.
        ball: linf; 16/255 when None.
        method: one of `TARGETED`.
        rate: poisoned share of the training set, in (0, 1).
        steps: of Adam on the gradient's signs, falling by 10 at 3/8, 5/8 and 7/8 of them.
        restarts: from random noise; the one with the smallest loss is kept.
        seed: of the chosen images and the noise.

    Raises:
        StackelbergError: one class only, a class that does not exist, a rate outside (0, 1) or above what the class
            has, a radius below one grey level, an image outside [0, 1], or one that is already of the wished class.
    """
    if method not in TARGETED:
        raise unknown("targeted poison", method, TARGETED)
    check_images(train)
    label = class_number(train, wish)
    count = poisoned_count(train, rate, label)
    budget = (grey_levels(ball) if ball is not None else 16) / 255
    if tuple(image.shape) != (1, *train.shape):
        raise StackelbergError(
            f"the target must be one image of shape {[1, *train.shape]}, got {list(image.shape)}; pass x[i : i + 1]"
        )
    check_inputs(image, BOX)
    check_output(model, image, len(train.classes))
    if int(logits(model, image).argmax(1)) == label:
        raise StackelbergError(
            f"the target is already given to class {train.classes[label]!r}, so there is nothing to gain; wish another"
        )
    dice = torch.Generator().manual_seed(seed)
    pool = (train.y == label).nonzero()[:, 0]
    chosen = pool[torch.randperm(len(pool), generator=dice)[:count]].sort().values
    x, y = train.batch(chosen)
    with _steady(model):
        aim = _aligned(model, image, label, y) if method == "gradient-matching" else _near(model, image, method)
        best, least = x, float("inf")
        for _ in range(restarts):
            moved, loss = _descend(x, aim, budget, steps, dice)
            if loss < least:
                best, least = moved, loss
    pixels = train.x.clone()
    pixels[chosen] = (best * 255).round().to(torch.uint8)
    data = replace(train, x=pixels, name=f"{train.name}, {method}")
    return Targeted(data, chosen, image, label, method, least, stealth(train.x[chosen], pixels[chosen]))


def _descend(x: Tensor, aim: "Aim", budget: float, steps: int, dice: torch.Generator) -> tuple[Tensor, float]:
    """Signed Adam on the noise, in the ball and in [0, 1]; (last images, their loss)."""
    low, high = (x - budget).clamp_(min=0), (x + budget).clamp_(max=1)
    start = x + budget * (2 * torch.rand(x.shape, generator=dice) - 1)
    moved = torch.minimum(torch.maximum(start, low), high).requires_grad_()
    adam = torch.optim.Adam([moved], lr=0.1 * budget)
    falls = torch.optim.lr_scheduler.MultiStepLR(adam, [int(steps * part) for part in (3 / 8, 5 / 8, 7 / 8)], 0.1)
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(aim(moved), moved)
        moved.grad = gradient.sign()
        adam.step()
        falls.step()
        with torch.no_grad():
            moved.copy_(torch.minimum(torch.maximum(moved, low), high))
    return moved.detach(), float(aim(moved).detach())


class Aim:
    """What the poison makes small: a function of the poisoned images."""

    def __call__(self, x: Tensor) -> Tensor:
        """The loss, a number with gradient in x."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class _Aligned(Aim):
    model: nn.Module
    parameters: list[nn.Parameter]
    wanted: Float[Tensor, " D"]
    y: Int64[Tensor, " P"]

    def __call__(self, x: Tensor) -> Tensor:
        """1 - cos(gradient of the poison's loss, gradient of the wish), Geiping et al. 2021, eq. 3."""
        loss = F.cross_entropy(self.model(x), self.y)
        taught = torch.autograd.grad(loss, self.parameters, create_graph=True)
        return 1 - F.cosine_similarity(torch.cat([part.flatten() for part in taught]), self.wanted, dim=0)


@dataclass(frozen=True, eq=False)
class _Near(Aim):
    model: nn.Module
    wanted: Float[Tensor, "1 D"]
    mean: bool

    def __call__(self, x: Tensor) -> Tensor:
        """||mean_j phi(x_j) - phi(target)||^2 / ||phi(target)||^2, or the mean of the squares (feature collision)."""
        phi = features(self.model, x)
        away = (phi.mean(0, keepdim=True) if self.mean else phi) - self.wanted
        return (away**2).sum(1).mean() / (self.wanted**2).sum().clamp(min=1e-12)


def _aligned(model: nn.Module, image: Tensor, label: int, y: Tensor) -> Aim:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise StackelbergError("the model has no parameter that learns, so no gradient to match; pass a trained one")
    wish = F.cross_entropy(model(image), torch.tensor([label]))
    wanted = torch.cat([part.flatten() for part in torch.autograd.grad(wish, parameters)])
    return _Aligned(model, parameters, wanted, y)


def _near(model: nn.Module, image: Tensor, method: str) -> Aim:
    with torch.no_grad():
        return _Near(model, features(model, image), method == "bullseye")


class _steady:
    """Evaluation mode inside, every part's own mode after; gradients of parameters stay possible."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.modes = [(part, part.training) for part in self.model.modules()]
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        for part, mode in self.modes:
            part.training = mode


def new_head(model: nn.Module, data: Dataset, epochs: int = 60, rate: float = 1e-2, decay: float = 1e-4) -> nn.Module:
    """Transfer learning: a copy of `model`, its features frozen, its head trained anew on `data` by Adam on all of it.

    Raises:
        StackelbergError: the network has no linear layer.
    """
    import copy

    from stackelberg.poison.learner import all_features, head_of

    victim = copy.deepcopy(model).eval()
    head = head_of(victim)
    phi, y = all_features(victim, data)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    adam = torch.optim.Adam(head.parameters(), rate, weight_decay=decay)
    for _ in range(epochs):
        loss = F.cross_entropy(head(phi), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return victim
