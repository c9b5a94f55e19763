"""What if the weights themselves are attacked?  A tiny change that keeps the accuracy and destroys the robustness.

Yu, Wang and Gao (2023, "Adversarial parameter attack on deep neural networks"): the attacker moves the weights theta
inside a small set around them, so that examples are read as before but have adversarial examples nearby.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stackelberg.attacks.attack import check_inputs
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.attacks.pgd import ascend
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import cross_entropy
from stackelberg.threat.weight_ball import WeightBall


@dataclass(frozen=True)
class AttackedWeights:
    """A network whose weights were attacked.

    Attributes:
        model: the attacked copy, evaluation mode; its buffers (batch-norm statistics) are those of the original.
        spent: the largest relative change of a tensor in each norm, after the last projection, in float64: "linf",
            "l2", "l0", and "l2 overall", ||theta' - theta||_2 / ||theta||_2 of all weights together.
        history: a record per step: phase, clean and adversarial loss on its batch, in nats.
    """

    model: nn.Module
    spent: dict[str, float]
    history: list[dict[str, float]] = field(repr=False)


@dataclass(frozen=True)
class ParameterAttack:
    """`attack(model, train)` moves the weights of a copy of `model` within `weights`, to destroy its robustness.

    Phase 1 ascends the robust loss CE(x') until the accuracy under attack falls below `until`; phase 2 descends

        max(CE(x), CE_0(x)) / CE(x') + keep * CE(x),

    which restores the accuracy while the robustness stays destroyed. CE_0 is the loss of the original network on the
    same batch, so that nothing is spent on being better than it was (the paper has no CE_0). x' is the answer of
    `inner` steps of projected ascent in `ball` to the present weights. Every step is the steepest one of the weight
    norm along a gradient averaged over steps, and is followed by a projection. For l0 the places are chosen once, half
    by the gradient of phase 1's loss and half by that of phase 2's objective.

    Batch normalisation keeps its statistics: they are no weights of the attacker. All parameters move, biases too. With
    a ball of radius 0 and chosen `victims` this is the direct attack: the network errs on the victims themselves and
    reads all else as before.

    Attributes:
        weights: how far each tensor may move.
        ball: where examples may move when the robustness is judged.
        first: steps of phase 1, at most.
        second: steps of phase 2.
        length: of a step, relative to the size of the weight ball, falling linearly to 0 over each phase (for l0: times
            1/10 of the tensor's own norm).
        momentum: of the average of gradients.
        keep: weight of the clean loss beside the ratio.
        until: accuracy under attack at which phase 1 ends.
        inner: steps of the examples' ascent.
        batch_size: of the examples of a step.
        seed: of batches and starts.
    """

    weights: WeightBall
    ball: Ball
    first: int = 60
    second: int = 200
    length: float = 0.2
    momentum: float = 0.8
    keep: float = 0.01
    until: float = 0.2
    inner: int = 10
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.first, self.second) < 0 or self.inner < 1 or self.batch_size < 1:
            raise StackelbergError(
                f"first and second must be at least 0, inner and batch_size at least 1, got {self.first},"
                f" {self.second}, {self.inner} and {self.batch_size}"
            )
        if not (self.length > 0 and 0 <= self.momentum < 1 and self.keep >= 0):
            raise StackelbergError(
                f"length must be > 0, momentum in [0, 1) and keep >= 0, got {self.length}, {self.momentum}, {self.keep}"
            )

    def __call__(self, model: nn.Module, train: Dataset, victims: Dataset | None = None) -> AttackedWeights:
        """Attack the weights by examples; the model comes back as it was.

        Args:
            model: logits [B, K]; the attack works on a copy, on its device.
            train: examples that the attacker has, to keep the accuracy on.
            victims: whose robustness is destroyed; those of `train` if None.

        Raises:
            StackelbergError: no examples, inputs outside the box, or no weight that can move.
        """
        if not len(train) or (victims is not None and not len(victims)):
            raise StackelbergError("a parameter attack needs at least one example to keep and one to attack")
        with untouched(model):
            attacked = copy.deepcopy(model).eval()
        change = _Change(self.weights, attacked)
        check_inputs(train.batch(slice(0, 8))[0], self.ball)
        with untouched(model):
            run = _Run(self, model, attacked, change, train, train if victims is None else victims)
            return run()


class _Change:
    """The weights that move, where they began, and for l0 which places may differ."""

    def __init__(self, ball: WeightBall, model: nn.Module) -> None:
        self.ball = ball
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        self.tensors = [p for p in model.parameters() if p.is_floating_point()]
        if not self.tensors or not any(bool(p.any()) for p in self.tensors):
            raise StackelbergError("the network has no weights that could move; pass a module with parameters")
        self.origin = [p.detach().clone() for p in self.tensors]
        self.places = [torch.zeros_like(p, dtype=torch.bool) for p in self.tensors]
        self.average = [torch.zeros_like(p) for p in self.tensors]

    @torch.no_grad()
    def choose(self, slopes: list[Tensor], share: float) -> None:
        """Fill the places up to `share` of those allowed, by the largest slopes."""
        for place, slope, weight in zip(self.places, slopes, self.origin, strict=True):
            left = int(share * self.ball.count(weight)) - int(place.sum())
            if left > 0:
                flat = place.flatten().clone()  # in the tensor's logical order, whatever its layout in memory
                flat[slope.abs().masked_fill(place, -1).flatten().topk(left).indices] = True
                place.copy_(flat.view(place.shape))

    @torch.no_grad()
    def step(self, slopes: list[Tensor], length: float, momentum: float) -> None:
        """One step uphill, then the projection."""
        for p, weight, slope, place, average in zip(
            self.tensors, self.origin, slopes, self.places, self.average, strict=True
        ):
            norm = slope.norm().clamp(min=torch.finfo(slope.dtype).tiny)
            average.mul_(momentum).add_(slope / norm, alpha=1 - momentum)
            if self.ball.norm == "l0":
                masked = average * place
                scale = weight.norm() / masked.norm().clamp(min=torch.finfo(slope.dtype).tiny)
                p.add_(length / 10 * scale * masked)
            else:
                p.copy_(self.ball.project(p + length * self.ball.size * self.ball.ascent(average, weight), weight))


class _Run:
    """One attack under way."""

    def __init__(
        self,
        attack: ParameterAttack,
        original: nn.Module,
        model: nn.Module,
        change: _Change,
        train: Dataset,
        victims: Dataset,
    ) -> None:
        self.attack, self.original, self.model, self.change = attack, original, model, change
        self.train, self.victims = train, victims
        self.oracle = Oracle(model)
        self.device = change.tensors[0].device
        self.drawn = np.random.default_rng(attack.seed)
        self.history: list[dict[str, float]] = []

    def __call__(self) -> AttackedWeights:
        """Both phases."""
        sparse = self.attack.weights.norm == "l0"
        if sparse:
            self.change.choose(self.slopes(1), 0.5)
        self._phase(1, self.attack.first)
        if sparse:
            self.change.choose(self.slopes(2), 1.0)
        self._phase(2, self.attack.second)
        self.model.requires_grad_(False)
        return AttackedWeights(self.model, change_of(self.model, self.original), self.history)

    def _phase(self, number: int, steps: int) -> None:
        for step in range(steps):
            slopes = self.slopes(number)
            if number == 1 and self.history[-1]["robust"] < self.attack.until:
                return
            self.change.step(slopes, self.attack.length * (1 - step / steps), self.attack.momentum)

    def slopes(self, number: int) -> list[Tensor]:
        """Uphill slopes of a phase's objective at one batch; its record goes into the history."""
        x, y = self._batch(self.train)
        own, label = (x, y) if self.victims is self.train else self._batch(self.victims)
        moved = self._answer(own, label)
        with torch.enable_grad():
            logits = self.model(torch.cat([x, moved]))
            clean, fooled = cross_entropy(logits[: len(x)], y).mean(), cross_entropy(logits[len(x) :], label).mean()
            with torch.no_grad():
                before = cross_entropy(self.original(x), y).mean()
            ratio = torch.maximum(clean, before) / fooled.clamp(min=1e-12) + self.attack.keep * clean
            objective = fooled if number == 1 else -ratio
            found = torch.autograd.grad(objective, self.change.tensors, allow_unused=True)
        right = (logits[len(x) :].argmax(1) == label).float().mean()
        self.history.append(
            {
                "phase": float(number),
                "clean": float(clean.detach()),
                "adversarial": float(fooled.detach()),
                "robust": float(right),
            }
        )
        return [
            torch.zeros_like(p) if slope is None else slope.nan_to_num_(0.0, 0.0, 0.0)
            for p, slope in zip(self.change.tensors, found, strict=True)
        ]

    def _batch(self, data: Dataset) -> tuple[Tensor, Tensor]:
        size = min(self.attack.batch_size, len(data))
        index = torch.from_numpy(self.drawn.choice(len(data), size, replace=False))
        x, y = data.batch(index)
        return x.to(self.device), y.to(self.device)

    def _answer(self, x: Float[Tensor, " B *shape"], y: Tensor) -> Tensor:
        attack, ball = self.attack, self.attack.ball
        if ball.radius == 0:
            return x
        self.oracle.refresh()
        keys = chance.example_keys(x, attack.seed + len(self.history))
        with untouched(self.model):
            start = ball.sample(x, keys)
            length = 2.5 * ball.radius / attack.inner
            return ascend(self.oracle, x, start, lambda z: cross_entropy(z, y), ball, attack.inner, length).detach()


@torch.no_grad()
def change_of(attacked: nn.Module, original: nn.Module) -> dict[str, float]:
    """The largest relative change of a tensor in each norm of `WeightBall`, and that of all weights together."""
    pairs = [
        (a.detach(), b.detach())
        for (_, a), (_, b) in zip(attacked.named_parameters(), original.named_parameters(), strict=True)
        if b.is_floating_point()
    ]
    spent = {
        norm: max((WeightBall(norm, 0.0).spent(a, b) for a, b in pairs), default=0.0) for norm in ("linf", "l2", "l0")
    }
    apart = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    size = sum(float(b.double().square().sum()) for _, b in pairs)
    return spent | {"l2 overall": (apart / size) ** 0.5 if size else 0.0}


def randomly_changed(attacked: nn.Module, original: nn.Module, ball: WeightBall, seed: int) -> nn.Module:
    """A copy of `original` with random changes of the attack's size, tensor by tensor (`WeightBall.shuffled`)."""
    with untouched(original):
        model = copy.deepcopy(original).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p, moved in zip(model.parameters(), attacked.parameters(), strict=True):
            if p.is_floating_point():
                p.copy_(ball.shuffled(moved.detach(), p.detach(), draw))
    return model
