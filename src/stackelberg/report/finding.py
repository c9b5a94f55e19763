"""What was found on one batch?  A pure function of the model, the batch and the settings, so that batches may be
audited in any order, in any process, and put together to the same report.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg import attacks
from stackelberg.attacks.suite import CLEAN, STANDING
from stackelberg.report.gallery import Fallen, fallen
from stackelberg.report.proving import proved
from stackelberg.report.radii import even_radius
from stackelberg.threat import Ball


@dataclass(frozen=True)
class Plan:
    """What is done with every batch.

    Attributes:
        ball: the threat.
        radii: of the curve, rising; the first is 0 and one is the ball's.
        seed: of all noise.
        effort: of the suite: "fast", "standard" or "max".
        gallery: how many fallen examples are shown.
    """

    ball: Ball
    radii: tuple[float, ...]
    seed: int = 0
    effort: str = "standard"
    gallery: int = 8

    @property
    def place(self) -> int:
        """Where the ball's own radius stands among the radii."""
        return self.radii.index(self.ball.radius)


@dataclass(frozen=True)
class StepFinding:
    """One attack on one batch: which examples fell to it is in `BatchFinding.fell_to`."""

    name: str
    forwards: int
    backwards: int
    skipped: str | None
    passed_over: int = 0


@dataclass(frozen=True)
class BatchFinding:
    """What was found on one batch; plain numbers and strings only.

    Attributes:
        index: of the examples in the data set.
        label: their classes.
        steps: the attacks that ran.
        fell_to: per example the place in `steps` of the attack that broke it, -1 if it stands, -2 if wrong unmoved.
        broken_from: per example the first place in the radii at which it is broken, their number if it never is.
        certified: per method, per example, how many of the leading radii are proved (0 where the label is wrong).
        unsupported: per method that proves nothing about this network, why.
        even_standing: examples that a gradient attack left standing at the radius of `even_radius`.
        signs: (examples that show it, examples asked) for each sign of masked gradients.
        mends: what hid the gradients and was undone, in order of name.
        random: whether the model answers at random.
        gallery: some examples that fell.
    """

    index: tuple[int, ...]
    label: tuple[int, ...]
    steps: tuple[StepFinding, ...]
    fell_to: tuple[int, ...]
    broken_from: tuple[int, ...]
    certified: dict[str, tuple[int, ...]]
    unsupported: dict[str, str]
    even_standing: int
    signs: dict[str, tuple[int, int]]
    mends: tuple[str, ...]
    random: bool
    gallery: tuple[Fallen, ...]


@dataclass(frozen=True)
class Timing:
    """Seconds of wall time by name of attack or method; kept apart, since nothing else of a finding may vary."""

    attacks: tuple[float, ...]
    proofs: dict[str, float]


def audit_batch(
    model: nn.Module,
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " B"],
    index: tuple[int, ...],
    plan: Plan,
    tell: Callable[[str], None] | None = None,
) -> tuple[BatchFinding, Timing]:
    """Attack, prove and measure one batch; the same batch gives the same finding wherever it is computed.

    `tell` is called with a line of words when a part of the work begins or ends.
    """
    say = tell or (lambda words: None)
    say(f"attacking {len(x)} examples")
    suite = attacks.suite(plan.ball, plan.effort, seed=plan.seed)
    result = suite.run(model, x, y, lambda step: say(f"{step.name}: {step.robust_after} of {len(x)} stand"))
    right = result.broken_by != CLEAN
    say("attacking at other radii")
    broken_from, even_standing = _curve(model, x, y, result.broken_by, plan)
    say(f"proving, {result.robust} of {len(x)} stand")
    certified, unsupported, proof_seconds = proved(model, x, y, right, broken_from, plan.ball, plan.radii, plan.effort)
    finding = BatchFinding(
        index=index,
        label=tuple(y.tolist()),
        steps=tuple(StepFinding(s.name, s.forwards, s.backwards, s.skipped, s.passed_over) for s in result.steps),
        fell_to=tuple(result.broken_by.tolist()),
        broken_from=tuple(broken_from.tolist()),
        certified=certified,
        unsupported=unsupported,
        even_standing=even_standing,
        signs=result.signs,
        mends=tuple(sorted(result.mends)),
        random=result.random,
        gallery=fallen(model, x, y, result, index, plan.ball, plan.gallery),
    )
    return finding, Timing(tuple(s.seconds for s in result.steps), proof_seconds)


def _curve(model: nn.Module, x: Tensor, y: Tensor, fell_to: Tensor, plan: Plan) -> tuple[Tensor, int]:
    """Per example the first place in the radii at which it is broken; and how many stand where all inputs are alike.

    An example broken at one radius is broken at every larger one: it moved no further. Below the ball's radius only
    what the suite broke is attacked, beyond it only what stands.
    """
    broken_from = torch.full_like(fell_to, len(plan.radii))
    broken_from[fell_to != STANDING] = plan.place
    broken_from[fell_to == CLEAN] = 0
    for place in [*range(1, plan.place), *range(plan.place + 1, len(plan.radii))]:
        inside = place < plan.place
        asked = (broken_from == (plan.place if inside else len(plan.radii))).nonzero()[:, 0]
        fell = _cheaply_broken(model, x[asked], y[asked], plan.ball.with_radius(plan.radii[place]), plan.seed)
        broken_from[asked[fell]] = place
    last = (broken_from == len(plan.radii)).nonzero()[:, 0]
    even = plan.ball.with_radius(max(plan.radii[-1], even_radius(plan.ball, tuple(x.shape[1:]))))
    fell = _cheaply_broken(model, x[last], y[last], even, plan.seed)
    return broken_from, int((~fell).sum())


def _cheaply_broken(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, seed: int) -> Tensor:
    """Which examples twenty steps on the margin break (bool [b])."""
    if not len(x):
        return torch.zeros(0, dtype=torch.bool, device=x.device)
    attack = attacks.PGD(ball, 20, payoff="cw")
    return attacks.Suite(ball, (attack,), seed).run(model, x, y).broken_by != STANDING
