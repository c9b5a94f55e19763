"""Can clouds be published so that nobody learns from them?  Availability poisons in three dimensions.

The leader moves the training clouds a little, the follower trains on them; the leader wants the follower wrong on
clean clouds. Error-minimising noise (Huang et al. 2021) makes the training loss small without the shape;
error-maximising noise (Fowl et al. 2021) shows another class's features; feature collision (FC-EM, Zhu, Miao, Dong and
Gao 2024) lets the features of each class fall together, and so can pay the Chamfer distance without degenerating.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.attacks.drawing import seeded
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError, unknown
from stackelberg.models import build
from stackelberg.poison.collision import collision
from stackelberg.poison.fields import fitted
from stackelberg.threat import Ball
from stackelberg.threat.clouds import chamfer
from stackelberg.threat.payoff import cross_entropy

METHODS = ("fc-em", "reg-em", "em", "ap", "ap-t")
MINIMISING = ("fc-em", "reg-em", "em")
SHIFT = 3
"""AP-T makes a cloud look like class label + 3, counted round (as the FC-EM code has it)."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CloudPoison:
    """How clouds are poisoned.

    Attributes:
        method: "fc-em", "reg-em" (error-minimising with the Chamfer price), "em" (the same, no price), "ap"
            (error-maximising), "ap-t" (towards the class label + 3).
        classwise: one noise for each class, added to every cloud of it, instead of one for each cloud.
        beta: the price of the Chamfer distance in FC-EM and REG-EM, in nats per squared unit and point: a cloud of P
            points pays beta * P * Chamfer (beta * 1024 * Chamfer in the published code).
        adaptive: the beta of each cloud falls where its loss is hard to lower and rises where it is easy: by 5 % an
            epoch, within [beta / 100, beta].
        epochs: of the alternation; 200 as published.
        steps: of the noise in each epoch; 10 as published.
        step: length of a sign step, in units of the points; 0.015 as published.
        learning_rate: of the surrogate's Adam.
        batch_size: clouds; the features of a batch collide with one another.
        fit_size: clouds in a step of the surrogate; with few clouds small steps let it follow.
        model: the surrogate network.
        width: of the surrogate.
    """

    method: str = "fc-em"
    classwise: bool = False
    beta: float = 1.0
    adaptive: bool = False
    epochs: int = 20
    steps: int = 10
    step: float = 0.015
    learning_rate: float = 1e-3
    batch_size: int = 128
    fit_size: int = 128
    model: str = "pointnet"
    width: int = 64

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("method for clouds", self.method, METHODS)
        fewest = min(self.batch_size, self.fit_size)
        if self.epochs < 1 or self.steps < 1 or fewest < 2 or not self.step > 0 or not self.beta >= 0:
            raise StackelbergError(
                f"epochs and steps must be at least 1, batch_size and fit_size at least 2, step > 0 and"
                f" beta >= 0, got epochs={self.epochs}, steps={self.steps}, sizes={fewest}, step={self.step},"
                f" beta={self.beta}"
            )


@dataclass
class _Poisoning:
    """The state of the alternation: the surrogate, the noise, the prices."""

    plan: CloudPoison
    ball: Ball
    x: Tensor
    y: Tensor
    net: nn.Module
    optimizer: torch.optim.Optimizer
    noise: Tensor
    prices: Tensor
    classes: int

    def moved(self, index: Tensor) -> Tensor:
        """The poisoned clouds of a batch."""
        own = self.noise[self.y[index]] if self.plan.classwise else self.noise[index]
        return self.ball.project(self.x[index] + own, self.x[index])

    def goal(self, points: Tensor, clean: Tensor, y: Tensor) -> Tensor:
        """What the noise lowers, but for the price: one number per cloud."""
        method = self.plan.method
        if method == "fc-em":
            return collision(_features(self.net, points), y)
        if method == "ap-t":
            return cross_entropy(self.net(points), (y + SHIFT) % self.classes)
        loss = cross_entropy(self.net(points), y)
        return -loss if method == "ap" else loss


def availability_of_clouds(
    train: Dataset,
    ball: Ball,
    method: str = "fc-em",
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    **settings: Any,
) -> Dataset:
    """A data set of the same shape and labels whose clouds teach a learner little about clean ones.

    Args:
        train: clouds.
        ball: the outer limit of every cloud's move, with the data's box: Ball("linf", 0.08, *train.box). In FC-EM and
            REG-EM the Chamfer price is what binds.
        method: one of `METHODS`.
        seed: of the surrogate, its batches and the noise's start.
        device: on which the surrogate trains.
        progress: called with (epoch, epochs, words).
        **settings: any other field of `CloudPoison`.

    Raises:
        StackelbergError: the data are images, or lie outside the ball's box; an unknown method or setting.
    """
    if not train.cloud:
        raise StackelbergError(f"{train.name} holds images, not clouds; use another method, for example gue")
    plan = CloudPoison(method=method, **fitted(method, CloudPoison, settings, CloudPoison.__dataclass_fields__))
    _inside(train, ball)
    state = _begin(plan, train.to(device), ball, seed)
    rounds = np.random.default_rng([seed, 29])
    minimising = plan.method in MINIMISING
    for epoch in range(plan.epochs):
        order = torch.from_numpy(rounds.permutation(len(train))).to(device)
        batches = [part for part in order.split(plan.batch_size) if len(part) > 1]
        if minimising:  # the leader moves first: before the surrogate has learnt the shapes
            if not epoch:
                _meet(state, batches)
            _reprice(state, _move(state, batches, plan.steps))
        with seeded(1000 * seed + epoch):  # the surrogate drops features out
            right = _fit(state, batches)
        if not minimising and epoch == plan.epochs - 1:  # made once, on a trained surrogate
            _move(state, batches, max(plan.steps, 4 * plan.epochs))
        if progress is not None:
            progress(epoch + 1, plan.epochs, f"the surrogate is right on {100 * right:.1f} % of the poisoned clouds")
    parts = torch.arange(len(train), device=device).split(1024)
    moved = torch.cat([state.moved(part) for part in parts]).to(train.device)
    return replace(train, x=moved, name=f"{train.name}, {method}")


def _inside(train: Dataset, ball: Ball) -> None:
    low, high = float(train.x.min()), float(train.x.max())
    if low < ball.low or high > ball.high:
        raise StackelbergError(
            f"the clouds of {train.name} lie in [{low:g}, {high:g}], the ball's box is [{ball.low:g}, {ball.high:g}];"
            " give the ball the data's box, Ball(norm, radius, *data.box)"
        )


def _begin(plan: CloudPoison, train: Dataset, ball: Ball, seed: int) -> _Poisoning:
    net = build(plan.model, len(train.classes), train.shape, plan.width, seed=seed).to(train.device)
    count = len(train.classes) if plan.classwise else len(train)
    generator = torch.Generator().manual_seed(seed)
    # at 0 itself the Chamfer distance has no gradient
    noise = 1e-3 * torch.randn(count, *train.shape, generator=generator).to(train.device)
    prices = torch.full((len(train),), float(plan.beta) * train.shape[0], device=train.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=plan.learning_rate)
    return _Poisoning(plan, ball, train.x, train.y, net, optimizer, noise, prices, len(train.classes))


def _features(net: nn.Module, points: Tensor) -> Tensor:
    features = getattr(net, "features", None)
    if features is None:
        raise StackelbergError(f"{type(net).__name__} shows no features; use pointnet or dgcnn as the surrogate")
    return features(points)


@torch.no_grad()
def _meet(state: _Poisoning, batches: list[Tensor]) -> None:
    """The untrained surrogate's batch norms see the clouds, so that its features are on the scale of its training."""
    state.net.train()
    for _ in range(max(1, 30 // len(batches))):
        for index in batches:
            state.net(state.moved(index))


def _fit(state: _Poisoning, batches: list[Tensor]) -> float:
    """The follower's epoch: the surrogate descends on the cross entropy of the poisoned clouds; its accuracy there."""
    state.net.train()
    right, asked = 0, 0
    maximising = state.plan.method not in MINIMISING
    for index in torch.cat(batches).split(state.plan.fit_size):
        if len(index) < 2:
            continue
        points = state.x[index] if maximising else state.moved(index)
        logits = state.net(points)
        loss = cross_entropy(logits, state.y[index]).mean()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        right += int((logits.detach().argmax(1) == state.y[index]).sum())
        asked += len(index)
    return right / max(1, asked)


def _move(state: _Poisoning, batches: list[Tensor], steps: int) -> Float[Tensor, " N"]:
    """The leader's epoch: sign steps of the noise on goal + beta * P * Chamfer; each cloud's goal at the last step."""
    plan, ball = state.plan, state.ball
    priced = plan.method in ("fc-em", "reg-em") and plan.beta > 0
    reached = torch.zeros(len(state.x), device=state.x.device)
    with untouched(state.net):
        for index in batches:
            clean, y = state.x[index], state.y[index]
            for _ in range(steps):
                points = state.moved(index).requires_grad_(True)
                goal = state.goal(points, clean, y)
                total = goal.sum()
                if priced:
                    total = total + (state.prices[index] * chamfer(points, clean)).sum()
                (slope,) = torch.autograd.grad(total, points)
                reached[index] = goal.detach()
                _step(state, index, y, slope, ball)
    return reached


def _step(state: _Poisoning, index: Tensor, y: Int64[Tensor, " B"], slope: Tensor, ball: Ball) -> None:
    """One sign step, of each cloud's own noise or of the classes' from the sum over their clouds in the batch."""
    if state.plan.classwise:
        total = torch.zeros_like(state.noise).index_add_(0, y, slope)
        state.noise = state.noise - state.plan.step * total.sign()
        if ball.norm == "linf":
            state.noise = state.noise.clamp(-ball.radius, ball.radius)
        return
    clean = state.x[index]
    state.noise[index] = ball.project(clean + state.noise[index] - state.plan.step * slope.sign(), clean) - clean


def _reprice(state: _Poisoning, goal: Float[Tensor, " N"]) -> None:
    """The "_thre" rule: clouds with the lowest tenth of goals pay 5 % more, the others 5 % less."""
    if not state.plan.adaptive:
        return
    easy = goal < goal.quantile(0.1)
    factor = torch.where(easy, 1.05, 1 / 1.05)
    most = state.plan.beta * state.x.shape[1]
    state.prices = (state.prices * factor).clamp(0.01 * most, most)
