"""How steep and how bent is the loss where SGD really goes?  Measured step by step, by per-sample gradients."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from stackelberg.bounds.fitting import answers, device_of, in_mode
from stackelberg.bounds.stability import along, uniform_convex, uniform_nonconvex
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError

Mover = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network, x, y) -> the points at which the loss is taken; the adversary's answer."""


@dataclass(frozen=True)
class Step:
    """What was measured at one step.

    Attributes:
        rate: a_t, learning rate.
        steepest: the largest norm of one probe example's loss gradient in the weights.
        mean: the mean of those norms, g_t.
        noise: the standard deviation of one example's gradient, s.
        smoothness: the largest |g(w_t; z) - g(w_{t+1}; z)| / |w_t - w_{t+1}| over the probe examples.
    """

    rate: float
    steepest: float
    mean: float
    noise: float
    smoothness: float


@dataclass(frozen=True)
class Visit:
    """What was measured of the network now and then.

    Attributes:
        step: T, steps before.
        train: mean of 1 - softmax(z)_y on the sample, at the adversary's points if there is one.
        test: the same on fresh examples.
    """

    step: int
    train: float
    test: float

    @property
    def gap(self) -> float:
        """test - train."""
        return self.test - self.train


@dataclass(frozen=True)
class Path:
    """A run of SGD on N examples.

    Attributes:
        steps: in order; measured ones only where `every` says, with the largest since repeated in between.
        visits: the gaps.
        samples: N.
        batch: B, examples a step.
        probes: examples whose gradients were taken at each measured step.
        mixed: L_wx, the largest |g(w; x) - g(w; x')| / |x - x'| that was met, l-infinity; 0 without an adversary.
        radius: of the adversary.
    """

    steps: tuple[Step, ...]
    visits: tuple[Visit, ...]
    samples: int
    batch: int
    probes: int
    mixed: float = 0.0
    radius: float = 0.0

    @property
    def lipschitz(self) -> float:
        """L along the path."""
        return max(step.steepest for step in self.steps)

    @property
    def smoothness(self) -> float:
        """beta along the path."""
        return max(step.smoothness for step in self.steps)

    def convex(self) -> list[float]:
        """Hardt's convex bound after each step, with the L met so far; only a number where the loss is not convex."""
        total, lipschitz, values = 0.0, 0.0, []
        for step in self.steps:
            total, lipschitz = total + step.rate, max(lipschitz, step.steepest)
            values.append(uniform_convex(lipschitz, total, self.samples))
        return values

    def nonconvex(self) -> list[float]:
        """Hardt's non-convex bound after each step, with the L, beta and c = max t a_t met so far."""
        lipschitz = smoothness = c = 0.0
        values = []
        for t, step in enumerate(self.steps, 1):
            lipschitz, smoothness = max(lipschitz, step.steepest), max(smoothness, step.smoothness)
            c = max(c, t * step.rate)
            values.append(uniform_nonconvex(lipschitz, smoothness, c, t, self.samples, self.batch))
        return values

    def on_average(self, convex: bool) -> list[float]:
        """The path bound after each step; steps stretch by 1 if the loss is convex, else by 1 + a_t beta_t."""
        stretches = [1.0 if convex else 1 + step.rate * step.smoothness for step in self.steps]
        return along(
            self.lipschitz, [step.rate for step in self.steps], [step.mean for step in self.steps], stretches,
            self.samples, 2 * self.mixed * self.radius,
        )  # fmt: skip


def per_sample_gradients(model: nn.Module, x: Float[Tensor, "B ..."], y: Int64[Tensor, " B"]) -> Float[Tensor, "B P"]:
    """The gradient in all weights of each example's cross entropy, at the present weights, in evaluation mode."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    others = {name: b.detach() for name, b in model.named_buffers()}
    others |= {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}

    def loss(weights: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, (weights, others), (one[None],)), label[None])

    with in_mode(model, False):
        found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    return torch.cat([found[name].flatten(1) for name in parameters], dim=1)


def walk(
    model: nn.Module,
    train: Dataset,
    steps: int,
    rate: float,
    test: Dataset | None = None,
    batch_size: int = 32,
    probes: int = 32,
    every: int = 1,
    visit: tuple[int, ...] = (),
    falling: bool = False,
    mover: Mover | None = None,
    radius: float = 0.0,
    seed: int = 0,
) -> Path:
    """Plain SGD on the cross entropy, each epoch a new order, measured as it goes; changes `model`.

    The network works in evaluation mode throughout: a batch norm that looks at other examples has no loss of one.

    Args:
        model: trained in place.
        train: the sample.
        steps: T.
        rate: learning rate.
        test: fresh examples, for the gaps.
        batch_size: examples a step.
        probes: training examples whose gradients are taken, the same at every measured step.
        every: steps from one measurement to the next.
        visit: steps after which the gaps are measured; needs `test`.
        falling: a_t = rate / t, as Hardt's non-convex theorem asks; else constant.
        mover: the adversary's answer.
        radius: of the adversary, input units (l-infinity).
        seed: of order and probes.

    Raises:
        StackelbergError: the loss is not finite, or a network whose examples cannot be told apart.
    """
    device, order = device_of(model), torch.Generator().manual_seed(seed)
    probe = train.batch(torch.randperm(len(train), generator=order)[:probes])
    x, y = probe[0].to(device), probe[1].to(device)
    weights = [p for p in model.parameters() if p.requires_grad]
    found: list[Step] = []
    visits: list[Visit] = []
    mixed, places = 0.0, torch.empty(0, dtype=torch.long)
    with in_mode(model, False):
        for t in range(1, steps + 1):
            if t - 1 in visit and test is not None:
                visits.append(_visit(model, t - 1, train, test, mover))
            if len(places) < min(batch_size, len(train)):
                places = torch.randperm(len(train), generator=order)
            part, places = places[:batch_size], places[batch_size:]
            measured = not found or (t - 1) % every == 0
            at, before, old = x, None, []
            if measured:
                at = x if mover is None else mover(model, x, y)
                before = _gradients(model, at, y)
                old = [p.detach().clone() for p in weights]
                if mover is not None:
                    mixed = max(mixed, _steepness_in_x(model, x, at, y, before))
            step = rate / t if falling else rate
            _descend(model, weights, train.batch(part), device, step, mover)
            if before is None:
                found.append(Step(step, *(getattr(found[-1], n) for n in ("steepest", "mean", "noise", "smoothness"))))
            else:
                found.append(_measured(model, weights, old, before, _gradients(model, at, y), step))
        if steps in visit and test is not None:
            visits.append(_visit(model, steps, train, test, mover))
    return Path(tuple(found), tuple(visits), len(train), min(batch_size, len(train)), len(x), mixed, radius)


def _gradients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    try:
        return per_sample_gradients(model, x, y)
    except (RuntimeError, ValueError, TypeError) as error:  # a network that torch.func cannot take apart
        raise StackelbergError(
            f"gradients of single examples cannot be taken of this network ({str(error).splitlines()[0]});"
            " stability needs a plain differentiable one"
        ) from error


def _descend(
    model: nn.Module, weights: list[nn.Parameter], batch: tuple[Tensor, Tensor], device: torch.device, rate: float,
    mover: Mover | None,
) -> None:  # fmt: skip
    x, y = batch[0].to(device), batch[1].to(device)
    at = x if mover is None else mover(model, x, y)
    with torch.enable_grad():
        loss = F.cross_entropy(model(at), y)
        slopes = torch.autograd.grad(loss, weights)
    if not loss.isfinite():
        raise StackelbergError(f"the loss became {loss.item()} along the path; lower the rate, {rate:g}")
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight -= rate * slope


def _measured(
    model: nn.Module, weights: list[nn.Parameter], old: list[Tensor], before: Tensor, after: Tensor, rate: float
) -> Step:
    moved = math.sqrt(sum(float((p.detach() - q).square().sum()) for p, q in zip(weights, old, strict=True)))
    norms = before.norm(dim=1)
    bend = float((after - before).norm(dim=1).max()) / moved if moved > 0 else 0.0
    noise = float((before - before.mean(0)).square().sum(1).mean().sqrt())
    return Step(rate, float(norms.max()), float(norms.mean()), noise, bend)


def _steepness_in_x(model: nn.Module, x: Tensor, at: Tensor, y: Tensor, there: Tensor) -> float:
    """The largest |g(w; x') - g(w; x)| / |x' - x|_inf over the probes that moved."""
    apart = (at - x).flatten(1).abs().amax(1)
    if not bool((apart > 0).any()):
        return 0.0
    return float(((there - _gradients(model, x, y)).norm(dim=1) / apart.clamp(min=1e-12))[apart > 0].max())


def _visit(model: nn.Module, step: int, train: Dataset, test: Dataset, mover: Mover | None) -> Visit:
    if mover is None:
        return Visit(step, answers(model, train).loss, answers(model, test).loss)
    losses = []
    for data in (train, test):
        total = 0.0
        for start in range(0, len(data), 512):
            x, y = (part.to(device_of(model)) for part in data.batch(slice(start, start + 512)))
            with torch.no_grad():
                chances = model(mover(model, x, y)).softmax(1).gather(1, y[:, None])
            total += float((1 - chances).sum())
        losses.append(total / len(data))
    return Visit(step, losses[0], losses[1])
