"""A network from its name, and the record from which the same network is built again."""

from collections.abc import Callable, Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from stackelberg.errors import unknown
from stackelberg.models.normalized import Normalized
from stackelberg.models.resnet import ResNet18
from stackelberg.models.small import MLP, SmallCNN

_FAMILIES: dict[str, Callable[..., nn.Module]] = {"small-cnn": SmallCNN, "mlp": MLP, "resnet18": ResNet18}
NAMES = tuple(sorted(_FAMILIES))


class Spec(BaseModel):
    """All that `build` needs to build a network's structure again (its weights lie in a safetensors file)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    classes: int
    shape: tuple[int, int, int]
    width: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def build(self, seed: int | None = None) -> nn.Module:
        """The network, with fresh weights from `seed` (None: from torch's generator)."""
        if self.name not in _FAMILIES:
            raise unknown("model", self.name, _FAMILIES)
        width = {} if self.width is None else {"width": self.width}
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            net = _FAMILIES[self.name](self.classes, self.shape, **width)
        if self.mean is not None and self.std is not None:
            net = Normalized(net, self.mean, self.std)
        object.__setattr__(net, "spec", self)
        return net


def build(
    name: str,
    classes: int,
    shape: tuple[int, int, int],
    width: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """A network by name for images [C, H, W] in [0, 1], with fresh weights."""
    spec = Spec(
        name=name, classes=classes, shape=shape, width=width,
        mean=None if mean is None else tuple(mean), std=None if std is None else tuple(std),
    )  # fmt: skip
    return spec.build(seed)


def spec_of(model: nn.Module) -> Spec | None:
    """The record with which `model` was built here, or None for a network of the user's own."""
    spec = getattr(model, "spec", None)
    return spec if isinstance(spec, Spec) else None
