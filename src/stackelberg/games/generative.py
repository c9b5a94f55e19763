"""How is a generative model trained?  A small loop: the follower answers, the leader takes a step, seeded."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stackelberg.attacks import Oracle, untouched
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.games.game import Game, Play
from stackelberg.games.reconstruction import Reconstruction
from stackelberg.models.vae import VAE, divergence
from stackelberg.threat import chance


@dataclass(frozen=True)
class Fit:
    """With which steps a VAE is trained.

    Attributes:
        epochs: passes over the data.
        batch_size: images of a step; the last, smaller batch of a pass is left out.
        learning_rate: of Adam, falling linearly to 0; the critic of a VAE-GAN has its own Adam with the same rate.
        pixels: of a VAE-GAN, weight of the pixels' own distortion beside that of the features, for decoder and encoder.
        deceive: of a VAE-GAN, weight of deceiving the critic in the decoder's loss (1 / gamma of Larsen et al.).
        sharpness: of a VAE-GAN, inverse variance of the features: the factor of their distortion.
        seed: of order and draws; the weights come as they are given.
    """

    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 1e-3
    pixels: float = 0.1
    deceive: float = 1.0
    sharpness: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise StackelbergError(
                f"epochs and batch_size must be at least 1 and learning_rate > 0, got {self.epochs},"
                f" {self.batch_size} and {self.learning_rate}"
            )

    def __call__(
        self,
        vae: VAE,
        train: Dataset,
        game: Game | None = None,
        say: Callable[[str], None] = lambda words: None,
    ) -> list[float]:
        """Train `vae` in place on its own device; mean payoff per epoch, nats.

        Args:
            vae: the leader; one with a critic is trained as a VAE-GAN.
            train: images of its shape.
            game: `Reconstruction`, or a wrapper of it; nobody moves if None. A VAE-GAN takes the answer of the game,
                not its weights.
            say: told a line per epoch.

        Raises:
            StackelbergError: images of another shape, fewer than one batch, or a loss that is not finite.
        """
        if tuple(train.shape) != vae.shape or len(train) < self.batch_size:
            raise StackelbergError(
                f"the VAE takes at least {self.batch_size} images of shape {vae.shape}, got {len(train)} of"
                f" {tuple(train.shape)} in {train.name}"
            )
        game = Reconstruction() if game is None else game
        learner = _Plain(vae, self, game) if vae.critic is None else _WithCritic(vae, self)
        steps = len(train) // self.batch_size
        device, history = next(vae.parameters()).device, []
        oracle = Oracle(vae)
        vae.train()
        for epoch in range(self.epochs):
            order = torch.from_numpy(np.random.default_rng([self.seed, epoch]).permutation(len(train)))
            total = 0.0
            for number in range(steps):
                index = order[number * self.batch_size : (number + 1) * self.batch_size]
                x, y = (part.to(device) for part in train.batch(index))
                oracle.refresh()
                keys = chance.fold(chance.fold(index.to(device), self.seed), epoch)
                play = Play(oracle, chance.fold(keys, 2), state=game.start())
                learner.rate(self.learning_rate * (1 - (epoch * steps + number) / (self.epochs * steps)))
                with untouched(vae):
                    moved = game.answer(play, x, y).detach()
                loss = learner.step(play, x, y, moved)
                if not math.isfinite(loss):
                    raise StackelbergError(
                        f"the loss became {loss} in epoch {epoch + 1}, batch {number + 1}; lower learning_rate"
                    )
                total += loss / steps
            history.append(total)
            say(f"epoch {epoch + 1}/{self.epochs}: loss {total:.2f} nats")
        vae.eval()
        return history


class _Plain:
    """Encoder and decoder descend on the game's objective."""

    def __init__(self, vae: VAE, fit: Fit, game: Game) -> None:
        self.vae, self.game = vae, game
        self.optimizer = torch.optim.Adam(vae.parameters(), fit.learning_rate)

    def rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def step(self, play: Play, x: Tensor, y: Tensor, moved: Tensor) -> float:
        payoffs = self.game.pay(play, self.vae, x, y, moved)
        objective = (self.game.weights(payoffs) * payoffs).sum()
        self.optimizer.zero_grad()
        objective.backward()
        self.optimizer.step()
        return float(objective.detach())


class _WithCritic:
    """One step of a VAE-GAN (Larsen et al. 2016, algorithm 1).

    L_encoder = KL + L_feature, L_decoder = L_feature + deceive * L_deceive, L_critic = its own cross entropy on images,
    reconstructions and inventions. L_feature is in units of one feature's variance times `sharpness`, plus `pixels`
    times the pixels' cross entropy; the decoder's L_deceive is the non-saturating -log critic (Goodfellow et al. 2014).
    """

    def __init__(self, vae: VAE, fit: Fit) -> None:
        assert vae.critic is not None
        self.vae, self.critic, self.fit = vae, vae.critic, fit
        own = [*vae.encoder.parameters(), *vae.decoder.parameters()]
        self.optimizer = torch.optim.Adam(own, fit.learning_rate)
        self.critics = torch.optim.Adam(vae.critic.parameters(), fit.learning_rate, betas=(0.5, 0.999))

    def rate(self, value: float) -> None:
        for optimizer in (self.optimizer, self.critics):
            for group in optimizer.param_groups:
                group["lr"] = value

    def step(self, play: Play, x: Tensor, y: Tensor, moved: Tensor) -> float:
        vae, fit, keys = self.vae, self.fit, play.keys_for(x)
        mean, log_variance = vae.encode(moved)
        z = mean + (log_variance / 2).exp() * chance.normal(chance.fold(keys, 3), (vae.latent,))
        logits = vae.decode(z)
        invented = vae.decode(chance.normal(chance.fold(keys, 4), (vae.latent,))).sigmoid()
        pixels = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
        distortion = fit.sharpness * vae.distortion(logits, x) + fit.pixels * pixels
        elbo = (distortion + divergence(mean, log_variance)).mean()
        deceived = F.softplus(-self.critic(logits.sigmoid())).mean() + F.softplus(-self.critic(invented)).mean()
        encoder, decoder = list(vae.encoder.parameters()), list(vae.decoder.parameters())
        slopes = torch.autograd.grad(elbo, encoder + decoder, retain_graph=True)
        more = torch.autograd.grad(deceived, decoder)
        for p, slope in zip(encoder + decoder, slopes, strict=True):
            p.grad = slope
        for p, slope in zip(decoder, more, strict=True):
            assert p.grad is not None
            p.grad += fit.deceive * slope
        self.optimizer.step()
        shown = torch.cat([x, logits.sigmoid().detach(), invented.detach()])
        real, false = self.critic(shown).split([len(x), 2 * len(x)])
        judged = F.softplus(-real).mean() + F.softplus(false).mean()
        for p, slope in zip(
            self.critic.parameters(), torch.autograd.grad(judged, list(self.critic.parameters())), strict=True
        ):
            p.grad = slope
        self.critics.step()
        return float(elbo.detach())
