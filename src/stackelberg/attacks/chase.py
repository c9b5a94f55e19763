"""How near is the nearest error?  Accuracy against radius, for all radii at once."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.attack import Attack, check_inputs, check_labels
from stackelberg.attacks.fab import FAB
from stackelberg.attacks.hunt import Hunt
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.threat import Ball, chance

Maker = Callable[[Ball], Attack]
"""A ball -> an attack that looks for near errors: FAB, DeepFool, CarliniWagner."""


class Chase(Hunt):
    """A hunt that goes on after a success, for nearer ones.

    Attributes:
        distance: of the nearest verified error [B], infinite where there is none; `best` is that error.
    """

    together = 1
    """Copies keep no distance, so none are made."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.distance = torch.full((len(self.x),), torch.inf, device=self.x.device, dtype=self.x.dtype)

    def open(self) -> None:
        super().open()
        self.distance[self.broken] = 0.0

    def keep(self, index: Tensor, points: Tensor, logits: Tensor) -> None:
        distance = self.ball.distance(points, self.x[index])
        new = ((self.score(logits, index) > 0) & (distance < self.distance[index])).nonzero()[:, 0]
        if len(new):
            sure = new[self.judge(index[new], points[new]) > 0]
            self.best[index[sure]], self.distance[index[sure]] = points[sure], distance[sure]

    def draw_in(self, halvings: int) -> None:
        """Bisect between every input and its nearest error; only verified errors count."""
        index = (self.distance.isfinite() & ~self.broken).nonzero()[:, 0]
        if not len(index):
            return
        x, far = self.x[index], self.best[index].clone()
        wide = (-1, *[1] * (x.dim() - 1))
        low, high = torch.zeros_like(self.distance[index]), torch.ones_like(self.distance[index])
        for _ in range(halvings):
            middle = (low + high) / 2
            points = x + middle.view(wide) * (far - x)
            wrong = self.judge(index, points) > 0
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
            now = index[wrong]
            self.best[now] = points[wrong]
            self.distance[now] = self.ball.distance(points[wrong], x[wrong])


def nearest(
    model: nn.Module,
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " N"],
    norm: str,
    target: Int64[Tensor, " N"] | None = None,
    *,
    maker: Maker = FAB,
    seed: int = 0,
    low: float = 0.0,
    high: float = 1.0,
    halvings: int = 10,
) -> tuple[Float[Tensor, " B *shape"], Float[Tensor, " B"]]:
    """(the nearest error found for each example, its distance [B]), every one verified by the model in float32.

    The distance is 0 where the model errs unmoved and infinite where no error was found (x comes back then).

    Args:
        model: logits from inputs in [low, high].
        x: clean inputs.
        y: labels.
        norm: "linf", "l2" or "l1", as the attack allows.
        target: labels to reach, if not any wrong one.
        maker: makes the attack from a ball that holds the whole box.
        seed: of the noise.
        low: smallest valid input.
        high: largest valid input.
        halvings: of the last bisection between x and its error.
    """
    size = max(1, x[0].numel()) if len(x) else 1
    whole = {"linf": 1 - 1e-6, "l2": size**0.5, "l1": float(size)}.get(norm, float(size))
    ball = Ball(norm, (high - low) * whole if norm != "l0" else float(size), low, high)
    attack = maker(ball)
    with untouched(model):
        check_inputs(x, ball)
        oracle = Oracle(model, "float32", draws=attack.draws)
        oracle.meet(x)
        check_labels(oracle, x, y, target)
        chase = Chase(oracle, ball, x, y, chance.example_keys(x, seed), target)
        if len(x):
            chase.open()
            attack.search(chase)
            chase.draw_in(halvings)
    return chase.best, chase.distance


def minimal_radius(
    model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " N"], norm: str, **settings: Any
) -> Float[Tensor, " B"]:
    """The radius [B] at which each example is broken, from above; `settings` as `nearest`.

    Robust accuracy at any radius r is at most the share of entries above r: a whole curve from one search.
    """
    return nearest(model, x, y, norm, **settings)[1]
