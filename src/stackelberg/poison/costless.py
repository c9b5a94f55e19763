"""The poisons that need no network: class-wise patches, class-wise convolutions, and noise as the control."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from stackelberg.attacks.pgd import sparse_coordinates
from stackelberg.errors import StackelbergError
from stackelberg.poison.poisoner import Images, Labels, Poisoner, Setting
from stackelberg.threat import chance


@dataclass(frozen=True, eq=False)
class Patches(Poisoner):
    """x' = the boundary point of the ball in the direction of centre_y + spread * normal, constant on square patches.

    Attributes:
        centres: of the classes, one number a patch and channel.
        spread: standard deviation within a class, that between classes being 1.
    """

    centres: Float[Tensor, "K C h w"] = field(default_factory=lambda: torch.zeros(1, 1, 1, 1))
    spread: float = 0.5

    def moved(self, x: Images, y: Labels, keys: Int64[Tensor, " B"]) -> Images:
        centres = self.centres.to(x.device)
        drawn = centres[y] + self.spread * chance.normal(keys, tuple(centres.shape[1:]))
        field = F.interpolate(drawn, size=x.shape[2:], mode="nearest")
        step = 1.0 if self.ball.norm == "l0" else self.ball.radius
        coordinates = x[0].numel() if self.ball.norm == "l1" else sparse_coordinates(self.ball, x)
        return self.ball.project(x + step * self.ball.ascent(field, x, coordinates), x)


@dataclass(frozen=True)
class LSP:
    """Linearly separable perturbations (Yu, Zhang, Chen, Yin and Liu 2022): Gaussian clusters, one a class, in patches.

    Attributes:
        patch: side of a patch in pixels; 8 in the paper.
        spread: within a class.
    """

    patch: int = 8
    spread: float = 0.5

    def __post_init__(self) -> None:
        if self.patch < 1 or self.spread < 0:
            raise StackelbergError(f"patch must be >= 1 and spread >= 0, got {self.patch} and {self.spread}")

    def __call__(self, setting: Setting) -> Patches:
        train = setting.train
        channels, height, breadth = train.shape
        size = (len(train.classes), channels, -(-height // self.patch), -(-breadth // self.patch))
        centres = torch.randn(size, generator=torch.Generator().manual_seed(setting.seed))
        return Patches(setting.ball, len(train.classes), setting.seed, centres, self.spread)


@dataclass(frozen=True, eq=False)
class Convolved(Poisoner):
    """x' = x convolved with the kernel of its class, divided by its largest pixel.

    Attributes:
        kernels: one a class, applied to every channel.
    """

    kernels: Float[Tensor, "K k k"] = field(default_factory=lambda: torch.ones(1, 1, 1))

    def moved(self, x: Images, y: Labels, keys: Int64[Tensor, " B"]) -> Images:
        batch, channels, height, breadth = x.shape
        kernels = self.kernels.to(x.device)[y].repeat_interleave(channels, 0)[:, None]
        flat = x.reshape(1, batch * channels, height, breadth)
        wide = F.conv2d(flat, kernels, padding=kernels.shape[-1] // 2, groups=batch * channels).view_as(x)
        wide = wide / wide.flatten(1).amax(1).clamp(min=1e-6).view(-1, 1, 1, 1)
        return self.ball.project(wide, x) if self.bounded else wide


@dataclass(frozen=True)
class CUDA:
    """Convolution-based unlearnable data (Sadasivan, Soltanolkotabi and Feizi 2023): a random blur for each class.

    A kernel is 1 at a random place and uniform in [0, blur] elsewhere. The published poison is in no ball: here the
    result is projected on it, unless `bounded` is False.

    Attributes:
        size: side of a kernel, odd; 3 in the paper for 32x32 images.
        blur: largest entry beside the 1; 0.3 in the paper.
        bounded: whether the ball holds.
    """

    size: int = 3
    blur: float = 0.3
    bounded: bool = True

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0 or not self.blur >= 0:
            raise StackelbergError(f"size must be odd and blur >= 0, got {self.size} and {self.blur}")

    def __call__(self, setting: Setting) -> Convolved:
        classes = len(setting.train.classes)
        draw = torch.Generator().manual_seed(setting.seed)
        kernels = self.blur * torch.rand(classes, self.size, self.size, generator=draw)
        places = torch.randint(self.size**2, (classes, 1), generator=draw)
        kernels.view(classes, -1).scatter_(1, places, 1.0)
        return Convolved(setting.ball, classes, setting.seed, kernels, bounded=self.bounded)


@dataclass(frozen=True, eq=False)
class Sampled(Poisoner):
    """x' = a random point of ball and box, from the example's own key."""

    def moved(self, x: Images, y: Labels, keys: Int64[Tensor, " B"]) -> Images:
        return self.ball.sample(x, keys)


@dataclass(frozen=True)
class Noise:
    """Random noise of the ball: no poison, the control of every other."""

    def __call__(self, setting: Setting) -> Sampled:
        return Sampled(setting.ball, len(setting.train.classes), setting.seed)
