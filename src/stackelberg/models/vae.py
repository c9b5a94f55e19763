"""Variational auto-encoders, and with a critic the VAE-GAN: what they encode, decode, and what they pay."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.shapes import Images, Shape


class Seen(NamedTuple):
    """What a VAE makes of a batch.

    Attributes:
        mean: of the posterior q(z|x) = N(mean, diag exp(log_variance)).
        log_variance: of it.
        logits: of the reconstruction's pixels, at the z that was decoded.
    """

    mean: Float[Tensor, "B L"]
    log_variance: Float[Tensor, "B L"]
    logits: Images


class VAE(nn.Module):
    """A variational auto-encoder of images in [0, 1] (Kingma and Welling 2014), Bernoulli pixels.

    The encoder halves twice by 4x4 convolutions to 2w channels, the decoder mirrors it. With a critic it is a VAE-GAN
    (Larsen et al. 2016): the reconstruction is judged by what a critic sees in it, not pixel by pixel.

    `forward(x)` is the posterior and the reconstruction at its mean in one tensor, [B, 2L + C H W], which `seen` takes
    apart: games and attacks ask for it. For pictures use `reconstruct` and `sample`.

    Args:
        shape: (C, H, W) of an image, both sides multiples of 4.
        latent: L, numbers of a code.
        width: w.
        critic: whether it has one.
    """

    def __init__(self, shape: Shape, latent: int = 20, width: int = 32, critic: bool = False) -> None:
        super().__init__()
        channels, height, breadth = shape
        if height % 4 or breadth % 4:
            raise StackelbergError(
                f"a VAE here needs images whose sides are multiples of 4, got {height}x{breadth}; pad them"
            )
        if latent < 1 or width < 1:
            raise StackelbergError(f"latent and width must be at least 1, got {latent} and {width}")
        self.shape, self.latent, self.width = tuple(shape), latent, width
        self.small = (2 * width, height // 4, breadth // 4)
        inside = 2 * width * (height // 4) * (breadth // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(inside, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, inside),
            nn.ReLU(),
            nn.Unflatten(1, self.small),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )
        self.critic = Critic(shape, width) if critic else None

    def encode(self, x: Images) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
        """(mean, log variance) of q(z|x)."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Float[Tensor, "B L"]) -> Images:
        """Logits of the pixels; their sigmoid is the image."""
        return self.decoder(z)

    def forward(self, x: Images) -> Float[Tensor, "B M"]:
        mean, log_variance = self.encode(x)
        return torch.cat([mean, log_variance, self.decode(mean).flatten(1)], 1)

    def seen(self, answer: Float[Tensor, "B M"]) -> Seen:
        """What `forward` gave, in its parts."""
        mean, log_variance, logits = answer.split([self.latent, self.latent, answer.shape[1] - 2 * self.latent], 1)
        return Seen(mean, log_variance, logits.unflatten(1, self.shape))

    def reconstruct(self, x: Images) -> Images:
        """The image at the posterior's mean: no draw, so equal inputs give equal pictures."""
        return self.decode(self.encode(x)[0]).sigmoid()

    def sample(self, n: int, seed: int = 0) -> Images:
        """n images from the prior z ~ N(0, I)."""
        z = torch.randn(n, self.latent, generator=torch.Generator().manual_seed(seed))
        return self.decode(z.to(next(self.parameters()).device)).sigmoid()

    def distortion(self, logits: Images, target: Images) -> Float[Tensor, " B"]:
        """How far a reconstruction is from a target image, in nats.

        -log p(target | z) of Bernoulli pixels; with a critic half the squared distance of the features that it sees in
        the two, -log N(features(target); features(reconstruction), I) up to a constant (Larsen et al. 2016, eq. 7),
        the features of each image scaled to mean square 1, since a critic could make any distance small or large.
        """
        if self.critic is None:
            return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)
        here, there = (_unit(self.critic.features(image)) for image in (logits.sigmoid(), target))
        return (here - there).square().sum(1) / 2

    def loss(self, seen: Seen, target: Images) -> Float[Tensor, " B"]:
        """The negative evidence lower bound, distortion(target) + KL(q || prior), nats per example."""
        return self.distortion(seen.logits, target) + divergence(seen.mean, seen.log_variance)


class Critic(nn.Module):
    """Tells images from reconstructions and inventions; its middle layer says what matters in an image."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.verdict = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * (height // 4) * (breadth // 4), 1))

    def forward(self, x: Images) -> Float[Tensor, " B"]:
        """The logit that x is an image of the data."""
        return self.verdict(self.features(x))[:, 0]


def _unit(features: Tensor) -> Tensor:
    """Flat features [B, F], each row of mean square 1."""
    flat = features.flatten(1)
    return flat / flat.square().mean(1, keepdim=True).add(1e-6).sqrt()


def divergence(mean: Float[Tensor, "B L"], log_variance: Float[Tensor, "B L"]) -> Float[Tensor, " B"]:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) = sum (mean^2 + exp(lv) - 1 - lv) / 2, in nats."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
