"""Who learns from the data?  One ordinary training, the same for victims, controls and surrogates."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg import games, models
from stackelberg.attacks import untouched
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.threat import Rate, clopper_pearson

_BATCH = 500


def learn(
    train: Dataset, name: str = "small-cnn", width: int | None = 16, epochs: int = 20, seed: int = 0, **recipe: Any
) -> nn.Module:
    """A fresh network after `epochs` of standard training on `train`, in evaluation mode.

    The last network, not the best of a held-out part: a victim does not know what to look for. `recipe` are fields of
    `games.Recipe`; 1 % of the data (at least one example) is held out.
    """
    network = models.build(name, len(train.classes), train.shape, width, seed=seed)
    plan: dict[str, Any] = {
        "held_out": max(1, len(train) // 100), "check_steps": 1, "batch_size": min(64, max(1, len(train) // 4)),
    } | recipe  # fmt: skip
    return games.solve(games.Standard(), network, train, epochs, seed=seed, progress=False, device="cpu", **plan).model


def accuracy(model: nn.Module, data: Dataset) -> Rate:
    """The share of right answers, with its interval."""
    answer = torch.cat([logits(model, data.batch(part)[0]).argmax(1) for part in _parts(len(data))])
    return clopper_pearson(int((answer == data.y).sum()), len(data))


@torch.no_grad()
def logits(model: nn.Module, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
    """What the network answers in evaluation mode, part by part."""
    with untouched(model):
        return torch.cat([model(x[at : at + _BATCH]).float() for at in range(0, len(x), _BATCH)])


def head_of(model: nn.Module) -> nn.Linear:
    """The last linear layer: what comes into it are the features.

    Raises:
        StackelbergError: the network has no linear layer.
    """
    linear = [part for part in model.modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise StackelbergError("the network has no linear layer, so it has no features to look at; pass another model")
    return linear[-1]


def features(model: nn.Module, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
    """phi(x), what comes into the last linear layer, with its gradient in x."""
    seen: list[Tensor] = []
    hook = head_of(model).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        model(x)
    finally:
        hook.remove()
    return seen[-1].flatten(1)


@torch.no_grad()
def all_features(model: nn.Module, data: Dataset) -> tuple[Float[Tensor, "N D"], Int64[Tensor, " N"]]:
    """(phi(x), y) of a whole data set, in evaluation mode."""
    with untouched(model):
        return torch.cat([features(model, data.batch(part)[0]) for part in _parts(len(data))]), data.y


def _parts(count: int) -> list[slice]:
    return [slice(at, min(at + _BATCH, count)) for at in range(0, count, _BATCH)]
