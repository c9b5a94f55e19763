"""What if a generative model is attacked?  x' looks like x, and its reconstruction is the adversary's image.

The three attacks of Kos, Fischer and Song (2017, "Adversarial examples for generative models") on a VAE, with the ball
of the other attacks where the paper pays for the distance (lambda ||x' - x||), and their projected ascent:

    classifier   -CE(C(mean(x')), class of x_t), C a classifier of codes that was trained on the frozen encoder's
    loss         -L(x', x_t): distortion of x_t by the reconstruction of x', plus the divergence of x' from the prior
    latent       -||mean(x') - mean(x_t)||^2

The code is the posterior's mean, never a draw.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.attack import check_inputs
from stackelberg.attacks.oracle import Oracle, Precision, untouched
from stackelberg.attacks.pgd import ascend
from stackelberg.errors import StackelbergError, unknown
from stackelberg.models.vae import VAE
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import cross_entropy

Kind = Literal["classifier", "loss", "latent"]
BATCH = 250


@dataclass(frozen=True)
class GenerativeAttack:
    """`attack(vae, x, target)` moves x in the ball so that the VAE reconstructs the target image.

    Of all restarts the end with the largest objective is returned, in ball and box.

    Attributes:
        ball: where x may move.
        kind: "classifier", "loss" or "latent".
        steps: of the ascent.
        step: its length, in input units; 2.5 * radius / steps when None.
        restarts: the first from x, the others from uniform points of the ball.
        seed: of those.
        precision: of the gradients.
    """

    ball: Ball
    kind: str = "latent"
    steps: int = 60
    step: float | None = None
    restarts: int = 1
    seed: int = 0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown("attack on a generative model", self.kind, get_args(Kind))
        if self.steps < 1 or self.restarts < 1:
            raise StackelbergError(f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}")

    def __call__(
        self,
        vae: VAE,
        x: Float[Tensor, " B *shape"],
        target: Float[Tensor, " N *other"],
        classes: Int64[Tensor, " M"] | None = None,
        reader: nn.Module | None = None,
    ) -> Float[Tensor, " B *shape"]:
        """Attack at images x towards the images `target`, one each.

        Args:
            vae: the model; comes back as it was.
            x: images in the box.
            target: x_t, images in the box.
            classes: of the targets; for "classifier".
            reader: logits [B, K] from codes [B, L]; for "classifier" (see `latent_reader`).

        Raises:
            StackelbergError: x and target differ in shape, lie outside the box, or the classifier attack lacks its
                classifier of codes.
        """
        if x.shape != target.shape:
            raise StackelbergError(
                f"every image needs one target of its shape, got {tuple(x.shape)} and {tuple(target.shape)}"
            )
        if self.kind == "classifier" and (classes is None or reader is None):
            raise StackelbergError("the classifier attack needs the targets' classes and a reader; pass both")
        check_inputs(x, self.ball)
        check_inputs(target, self.ball)
        ends = []
        for place in range(0, len(x), BATCH):
            part = slice(place, place + BATCH)
            label = None if classes is None else classes[part]
            ends.append(self._moved(vae, x[part], target[part], label, reader))
        return torch.cat(ends) if ends else x

    def _moved(self, vae: VAE, x: Tensor, target: Tensor, classes: Tensor | None, reader: nn.Module | None) -> Tensor:
        with untouched(vae):
            asked, objective = _goal(self.kind, vae, target, classes, reader)
            with untouched(asked):
                oracle = Oracle(asked, self.precision)
                length = 2.5 * self.ball.radius / self.steps if self.step is None else self.step
                best, value = x, torch.full((len(x),), -torch.inf, device=x.device)
                keys = chance.example_keys(x, self.seed)
                for restart in range(self.restarts):
                    start = x if restart == 0 else self.ball.sample(x, chance.fold(keys, restart))
                    moved = ascend(oracle, x, start, objective, self.ball, self.steps, length)
                    with torch.no_grad():
                        reached = objective(asked(moved))
                    better = reached > value
                    value = torch.where(better, reached, value)
                    best = torch.where(better.view(-1, *[1] * (x.dim() - 1)), moved, best)
        return self.ball.project(best, x).detach()


def _goal(
    kind: str, vae: VAE, target: Tensor, classes: Tensor | None, reader: nn.Module | None
) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """(what is asked about x', what is to be large [B] in its answer)."""
    if kind == "loss":
        return vae, lambda out: -vae.loss(vae.seen(out), target)
    if kind == "latent":
        with torch.no_grad():
            code = vae.encode(target)[0]
        return Mean(vae), lambda out: -(out - code).square().sum(1)
    assert classes is not None
    assert reader is not None
    return nn.Sequential(Mean(vae), reader), lambda out: -cross_entropy(out, classes)


class Mean(nn.Module):
    """The posterior's mean of a VAE as a network of its own, [B, L]."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.encoder, self.latent = vae.encoder, vae.latent

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)[:, : self.latent]


def latent_reader(
    vae: VAE,
    x: Float[Tensor, " N *shape"],
    y: Int64[Tensor, " N"],
    classes: int,
    *,
    width: int = 128,
    epochs: int = 20,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> nn.Module:
    """A classifier of codes, one hidden ReLU layer, trained on the frozen encoder's means with Adam; evaluation mode.

    Args:
        vae: whose codes are read; comes back as it was.
        x: training images.
        y: their classes.
        classes: K.
        width: of the hidden layer.
        epochs: passes over the codes.
        learning_rate: of Adam, falling linearly to 0.
        seed: of weights and order.
    """
    with untouched(vae), torch.no_grad():
        codes = torch.cat([vae.encode(part)[0] for part in x.split(BATCH)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = nn.Sequential(nn.Linear(vae.latent, width), nn.ReLU(), nn.Linear(width, classes)).to(codes.device)
    optimizer = torch.optim.Adam(reader.parameters(), learning_rate)
    order = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - epoch / epochs)
        for index in torch.randperm(len(codes), generator=order).to(codes.device).split(128):
            with torch.enable_grad():
                loss = cross_entropy(reader(codes[index]), y[index]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return reader.eval().requires_grad_(False)
