"""Which networks are known by name?  A network from its name, and the record that builds it again."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from stackelberg.errors import StackelbergError, unknown
from stackelberg.models.dgcnn import DGCNN
from stackelberg.models.distance_net import DistanceNet
from stackelberg.models.lenet import LeNet5, NormalizedLeNet
from stackelberg.models.mlp import MLP
from stackelberg.models.normalized import Normalized
from stackelberg.models.pointnet import PointNet
from stackelberg.models.preact import PreActResNet18, WideResNet28
from stackelberg.models.resnet import ResNet18
from stackelberg.models.small_cnn import SmallCNN
from stackelberg.models.text_transformer import TextTransformer
from stackelberg.models.vgg import VGG16
from stackelberg.models.vit import ViT

_FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "distance-net": DistanceNet,
    "lenet-bn": NormalizedLeNet,
    "lenet5": LeNet5,
    "mlp": MLP,
    "preact-resnet18": PreActResNet18,
    "resnet18": ResNet18,
    "small-cnn": SmallCNN,
    "vgg16": VGG16,
    "vit": ViT,
    "wrn-28-10": WideResNet28,
}
_CLOUDS: dict[str, Callable[..., nn.Module]] = {
    "dgcnn": DGCNN,
    "dgcnn-3bn": partial(DGCNN, branches=3),
    "pointnet": PointNet,
    "pointnet-3bn": partial(PointNet, branches=3),
}
_TEXTS: dict[str, Callable[..., nn.Module]] = {"text-transformer": TextTransformer}
IMAGE_NAMES = tuple(sorted(_FAMILIES))
"""The networks for images."""
CLOUD_NAMES = tuple(sorted(_CLOUDS))
"""The networks for clouds of points."""
TEXT_NAMES = tuple(sorted(_TEXTS))
"""The networks for texts."""
NAMES = tuple(sorted(_FAMILIES | _CLOUDS | _TEXTS))
_KINDS = {
    3: ("images (C, H, W)", _FAMILIES),
    2: ("clouds (P, 3)", _CLOUDS),
    1: ("texts (T,)", _TEXTS),
}
"""By the dimensions of an example what it is, and the networks for it."""

_Count = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """All that is needed to build a network's structure again; its weights lie in a safetensors file.

    Attributes:
        name: one of `NAMES`.
        classes: K, how many logits.
        shape: (C, H, W) of an image; or (P, 3) of a cloud, where the network takes any P; or (T,) of a text.
        width: the family's measure of size; None for its standard one.
        mean: of each channel, in input units, subtracted first; None for no normalisation.
        std: of each channel, in input units, divided by; None for no normalisation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    classes: _Count
    shape: tuple[_Count, _Count, _Count] | tuple[_Count, _Count] | tuple[_Count]
    width: _Count | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _one_mean_and_std_per_channel(self) -> "Spec":
        given = [len(numbers) for numbers in (self.mean, self.std) if numbers is not None]
        if len(self.shape) < 3 and given:
            raise ValueError("mean and std are for images; a cloud comes in its own units, a text in bytes")
        if given not in ([], [self.shape[0]] * 2):
            raise ValueError(
                f"mean and std must both have {self.shape[0]} numbers (one a channel), or neither be given"
            )
        return self

    @classmethod
    def read(cls, fields: Mapping[str, Any], source: str = "model") -> "Spec":
        """A record from its fields, as `run.json` holds them.

        Raises:
            StackelbergError: a field is missing, unknown or out of range, or the name is not in `NAMES`.
        """
        try:
            spec = cls.model_validate(dict(fields))
        except ValidationError as error:
            first = error.errors()[0]
            place = "".join(f"{part}: " for part in first["loc"] if "[" not in str(part))  # not which of two types
            value = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
            raise StackelbergError(f"{source}: {place}{first['msg'].removeprefix('Value error, ')}{value}") from error
        if spec.name not in NAMES:
            raise unknown("model", spec.name, NAMES)
        takes = next(words for words, names in _KINDS.values() if spec.name in names)
        given, fitting = _KINDS[len(spec.shape)]
        if given != takes or (len(spec.shape) == 2 and spec.shape[1] != 3):
            raise StackelbergError(
                f"{source}: the network {spec.name} takes {takes}, got examples of the shape {list(spec.shape)}; for"
                f" these pass another, for example {', '.join(sorted(fitting)[:3])}"
            )
        return spec

    def build(self, seed: int | None = None) -> nn.Module:
        """The network with fresh weights, from `seed` (None: from torch's global generator), in training mode."""
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            net = self._family()
        if self.mean is not None and self.std is not None:
            net = Normalized(net, self.mean, self.std)
        object.__setattr__(net, "spec", self)
        return net

    def outline(self) -> nn.Module:
        """The network without numbers: names and shapes of its weights, and no memory for them."""
        with torch.device("meta"):
            net = self._family()
            return net if self.mean is None or self.std is None else Normalized(net, self.mean, self.std)

    def _family(self) -> nn.Module:
        size = {} if self.width is None else {"width": self.width}
        try:
            return (_FAMILIES | _CLOUDS | _TEXTS)[self.name](self.classes, self.shape, **size)
        except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # torch's words for too large a tensor
            raise StackelbergError(
                f"a network {self.name} of width {self.width or 'as usual'} for {self.classes} classes of"
                f" {list(self.shape)} cannot be built ({str(error).splitlines()[0]}); pass smaller sizes"
            ) from error


def build(
    name: str,
    classes: int,
    shape: Sequence[int],
    width: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """A network by name, with fresh weights, for images in [0, 1], clouds in their own units, or texts.

    >>> net = build("mlp", classes=10, shape=(1, 28, 28), width=8, seed=0)
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])

    Args:
        name: one of `NAMES`.
        classes: K, how many logits.
        shape: (C, H, W) of an image, or (P, 3) of a cloud of P points, or (T,) of a text of T bytes.
        width: the family's measure of size (see its class); None for its standard one.
        mean: of each channel, in input units; with `std` the network begins with `Normalized`.
        std: of each channel, in input units.
        seed: of the weights; None draws them from torch's global generator.

    Raises:
        StackelbergError: the name is unknown, or an argument out of range.
    """
    fields = {"name": name, "classes": classes, "shape": tuple(shape), "width": width, "mean": mean, "std": std}
    return Spec.read(fields).build(seed)


def spec_of(model: nn.Module) -> Spec | None:
    """The record with which `model` was built here, or None for a network of the user's own."""
    spec = getattr(model, "spec", None)
    return spec if isinstance(spec, Spec) else None
