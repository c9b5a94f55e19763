"""The worst case over an ensemble, example by example: cheapest first, and only on examples that still stand.

Every attack hands on what it knows: the worst point of each example so far, from which the later ones rank classes and
start again. What is broken is verified by the user's own module in float32; what is left was broken by nothing here,
which proves nothing: see `certify`.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks import masking
from stackelberg.attacks.answers import able, with_the_others
from stackelberg.attacks.apgd import APGD
from stackelberg.attacks.attack import Attack, check_inputs, check_labels, verified
from stackelberg.attacks.fab import FAB
from stackelberg.attacks.foreign import Foreign
from stackelberg.attacks.hunt import Hunt, near_enough
from stackelberg.attacks.masking import Sign, fires
from stackelberg.attacks.oracle import NoGradient, Oracle, Precision, untouched
from stackelberg.attacks.pgd import FGSM, PGD
from stackelberg.attacks.square import Square
from stackelberg.errors import unknown
from stackelberg.models import BlackBox, network
from stackelberg.threat import Ball, chance

Effort = Literal["fast", "standard", "max"]
EFFORTS: tuple[Effort, ...] = ("fast", "standard", "max")
CHUNK = 256
"""Examples attacked together, enough to fill the hardware; the caller's batch size plays no part."""

CLEAN = -2
STANDING = -1


@dataclass(frozen=True)
class Step:
    """One attack of the suite, as it went.

    Attributes:
        name: of the attack.
        robust_after: how many examples still stand after it.
        seconds: of wall time.
        forwards: examples sent forward, verification included.
        backwards: examples sent backward.
        skipped: why it did not run, or None.
        passed_over: how many standing examples it did not try, since they had not come near enough (`within`) or the
            ball is a point.
    """

    name: str
    robust_after: int
    seconds: float
    forwards: int
    backwards: int
    skipped: str | None = None
    passed_over: int = 0


@dataclass(frozen=True)
class SuiteResult:
    """What the suite found.

    Attributes:
        x_adv: [B, *shape]; a broken example's verified point, a standing one's point of largest margin, an example
            that was wrong before any move unchanged.
        broken_by: [B]; the index in `steps` of the attack that broke it, -1 if it stands, -2 if it was wrong unmoved.
        steps: the attacks in order.
        signs: (examples that show it, examples asked) for each sign of masked gradients, see `masking`.
        mends: what hid the gradients and was undone, see `Oracle.mends`.
        random: whether the model answers at random; gradients were then averaged, and successes judged by most draws.
        seconds: in total.
    """

    x_adv: Tensor
    broken_by: Tensor
    steps: tuple[Step, ...]
    signs: dict[str, Sign]
    mends: frozenset[str]
    random: bool
    seconds: float

    @property
    def clean_right(self) -> int:
        """How many examples are right unmoved."""
        return int((self.broken_by != CLEAN).sum())

    @property
    def robust(self) -> int:
        """How many examples stand."""
        return int((self.broken_by == STANDING).sum())

    @property
    def masked(self) -> bool:
        """Whether some sign fired; from then on the suite passed over nothing."""
        return masking.masked(self.signs)


def schedule(ball: Ball, effort: str, queries: int) -> list[Attack]:
    """The attacks of a suite in their order: each example gets the more, the nearer it has come to falling."""
    if ball.norm == "l0":
        times = {"fast": 1, "standard": 3, "max": 10}[effort]
        return [
            FGSM(ball),
            PGD(ball, 20, payoff="cw"),
            PGD(ball, 100, restarts=times),
            PGD(ball, 100, restarts=times, payoff="cw"),
        ]
    first: list[Attack] = [FGSM(ball), PGD(ball, 10, payoff="cw")]
    return first + {"fast": _fast, "standard": _standard, "max": _max}[effort](ball, queries)


def _fast(ball: Ball, queries: int) -> list[Attack]:
    attacks: list[Attack] = [APGD(ball, 30, loss="cw", start="far", restarts=2)] * (ball.norm == "l2")
    attacks += [
        APGD(ball, 30, loss="cw"),
        APGD(ball, 20, loss="dlr-targeted", targets=4, within=0.7),
        APGD(ball, 30, loss="cw", start="worst", precision="float32", within=0.3),
    ]
    if ball.norm in ("linf", "l2"):
        attacks.append(Square(ball, queries, at_once=5, gates=((50, 0.7), (200, 0.4), (500, 0.2))))
    return attacks


def _standard(ball: Ball, queries: int) -> list[Attack]:
    attacks = _from_afar(ball) if ball.norm == "l2" else _from_nearby(ball)
    attacks += [
        # what stands this close may stand by the rounding of bfloat16 alone
        APGD(ball, 30, loss="cw", start="worst", within=0.2, precision="float32"),
        APGD(ball, 50, loss="cw", restarts=2, within=0.1, precision="float32"),
        APGD(ball, 50, loss="dlr-targeted", targets=3, within=0.1, precision="float32"),
    ]
    if ball.norm in ("linf", "l2"):
        attacks.append(Square(ball, queries, at_once=5, gates=((100, 0.6), (300, 0.35), (1000, 0.15), (2000, 0.1))))
        near = ((100, 0.1), (300, 0.05), (600, 0.03))
        attacks.append(Square(ball, queries // 4, start="worst", at_once=5, within=0.15, gates=near))
    return attacks


def _from_nearby(ball: Ball) -> list[Attack]:
    return [
        APGD(ball, 30, loss="ce"),
        APGD(ball, 30, loss="cw"),
        APGD(ball, 30, loss="cw", restarts=3, within=0.3),
        APGD(ball, 20, loss="dlr-targeted", targets=6, within=0.5),
    ]


def _from_afar(ball: Ball) -> list[Attack]:
    """A network that is flat to small moves in l2 shows its errors to large ones."""
    return [
        APGD(ball, 50, loss="cw", start="far"),
        APGD(ball, 50, loss="ce", start="far", within=0.7),
        APGD(ball, 50, loss="cw", start="far", restarts=2, within=0.4),
        APGD(ball, 50, loss="ce", start="far", within=0.3),
        APGD(ball, 30, loss="cw", restarts=2, within=0.3),
        APGD(ball, 50, loss="dlr-targeted", targets=3, start="far", within=0.25),
    ]


def _max(ball: Ball, queries: int) -> list[Attack]:
    attacks: list[Attack] = [
        APGD(ball, 100, loss="ce", restarts=2),
        APGD(ball, 100, loss="cw", restarts=5),
        APGD(ball, 100, loss="cw", restarts=3, start="far"),
        APGD(ball, 100, loss="dlr-targeted"),
        APGD(ball, 100, loss="dlr-targeted", within=0.5, precision="float32"),
        FAB(ball, 100, precision="float32"),
    ]
    if ball.norm in ("linf", "l2"):
        attacks += [Square(ball, queries), Square(ball, queries, start="worst")]
    return attacks


Progress = Callable[[Step], None]


@dataclass(frozen=True)
class Suite:
    """The worst case over `attacks`: `suite(model, x, y)` -> x', `suite.run(model, x, y)` -> SuiteResult.

    Attributes:
        ball: where the examples may move.
        attacks: in order.
        seed: of all noise.
        precision: of the gradients; an attack that asks for float32 gets it.
    """

    ball: Ball
    attacks: tuple[Attack, ...]
    seed: int = 0
    precision: Precision = "auto"

    def __call__(
        self, model: nn.Module, x: Float[Tensor, " B *shape"], y: Int64[Tensor, " N"]
    ) -> Float[Tensor, " B *shape"]:
        """The worst point found for each example, [B, *shape]."""
        return self.run(model, x, y).x_adv

    def run(
        self,
        model: nn.Module,
        x: Float[Tensor, " B *shape"],
        y: Int64[Tensor, " N"],
        progress: Progress | None = None,
    ) -> SuiteResult:
        """Attack, and say which attack broke what; `progress` is called with every step when it ends.

        Raises:
            StackelbergError: inputs outside the box or not finite, labels outside the model's classes.
        """
        model = network(model, x)
        if isinstance(model, BlackBox) and (own := able(self.attacks, model, self.ball)) != self.attacks:
            return with_the_others(replace(self, attacks=own).run(model, x, y, progress), self.attacks, model)
        begun = time.perf_counter()
        with untouched(model):
            check_inputs(x, self.ball)
            run = _Run(self, model, x, y, progress)
            for attack in self.attacks:
                run.take(_unbound(attack) if masking.masked(run.signs) else attack)
                run.check(attack)
            if fires("black-box-beats-gradients", run.signs):
                last = next(a for a in reversed(self.attacks) if isinstance(a, Square))
                run.take(replace(_unbound(last), start="worst"))
            if run.steps and all(step.skipped for step in run.steps):
                raise NoGradient(str(run.steps[0].skipped))
        by = run.broken_by
        return SuiteResult(
            x_adv=run.best,
            broken_by=by,
            steps=tuple(run.steps),
            signs=run.signs,
            mends=run.oracles["auto"].mends,
            random=run.oracles["auto"].random,
            seconds=time.perf_counter() - begun,
        )


def _unbound(attack: Attack) -> Attack:
    """The attack on everything that stands, however far; a search by scores twice as long."""
    if isinstance(attack, Square):
        return replace(attack, within=None, gates=(), queries=2 * attack.queries)
    return replace(attack, within=None)


class _Run:
    """All examples between two attacks, and what was seen on the way."""

    def __init__(self, suite: Suite, model: nn.Module, x: Tensor, y: Tensor, progress: Progress | None) -> None:
        self.suite, self.x, self.y, self.progress = suite, x, y, progress
        self.model = model
        self.oracles: dict[Precision, Oracle] = {"auto": Oracle(model, suite.precision)}
        self.oracles["auto"].meet(x)
        check_labels(self.oracles["auto"], x, y)
        self.keys = chance.example_keys(x, suite.seed)
        self.movable = suite.ball.radius > 0
        self.best = x.clone()
        self.value = torch.full((len(x),), -torch.inf, device=x.device)
        self.opening = self.value.clone()
        self.broken_by = torch.full((len(x),), STANDING, device=x.device)
        self.flat = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.steps: list[Step] = []
        self.signs: dict[str, Sign] = {}
        for index in torch.arange(len(x), device=x.device).split(CHUNK):
            hunt = self._hunt(self.oracles["auto"], index)
            hunt.open()
            self.value[index] = self.opening[index] = hunt.opening
            self.broken_by[index[hunt.broken]] = CLEAN

    def _hunt(self, oracle: Oracle, index: Tensor) -> Hunt:
        keys = chance.fold(self.keys[index], len(self.steps))
        hunt = Hunt(oracle, self.suite.ball, self.x[index], self.y[index], keys)
        hunt.best, hunt.value = self.best[index], self.value[index]
        hunt.opening, hunt.flat = self.opening[index], self.flat[index]
        return hunt

    def take(self, attack: Attack) -> None:
        """Run one attack on what stands."""
        begun, skipped = time.perf_counter(), None
        if attack.precision not in self.oracles:
            self.oracles[attack.precision] = Oracle(self.model, attack.precision)
        oracle = self.oracles[attack.precision]
        forwards, backwards = oracle.forwards, oracle.backwards
        left = self.broken_by == STANDING
        before = int(left.sum())
        standing = near_enough(left, self.value, self.opening, self.flat, attack.within) & self.movable
        try:
            for index in standing.nonzero()[:, 0].split(CHUNK) if standing.any() else ():
                self._attack(attack, oracle, index)
        except NoGradient as error:
            skipped = str(error)
            self.flat |= self.broken_by == STANDING
        robust = int((self.broken_by == STANDING).sum())
        seconds = time.perf_counter() - begun
        cost = seconds, oracle.forwards - forwards, oracle.backwards - backwards
        step = Step(attack.name, robust, *cost, skipped, before - int(standing.sum()))
        self.steps.append(step)
        if self.progress is not None:
            self.progress(step)

    def _attack(self, attack: Attack, oracle: Oracle, index: Tensor) -> None:
        hunt = self._hunt(oracle, index)
        attack.search(hunt)
        hunt.settle()
        self.best[index] = verified(hunt)
        self.value[index] = hunt.value
        self.broken_by[index[hunt.broken]] = len(self.steps)
        if isinstance(attack, FGSM):
            self.flat[index] = hunt.flat

    def check(self, attack: Attack) -> None:
        """Look for the signs of masked gradients that can be seen after this attack: none where nothing can move."""
        if not self.movable:
            return
        number = len(self.steps) - 1
        fell, right = self.broken_by == number, int((self.broken_by != CLEAN).sum())
        if isinstance(attack, FGSM):
            self.signs["zero-gradient"] = masking.zero_gradient(self.flat, right)
        if self.steps[-1].skipped:
            return
        if isinstance(attack, FGSM) and fell.any():
            self.signs["one-step-beats-many"] = masking.one_step_beats_many(self._unmoved(fell))
        elif isinstance(attack, PGD) and "zero-gradient" in self.signs and "no-rise" not in self.signs:
            stands = self.broken_by == STANDING
            self.signs["no-rise"] = masking.no_rise(self.value[stands], self.opening[stands])
            self._probe(stands, fell)
        elif isinstance(attack, Square):
            seen, _ = self.signs.get("black-box-beats-gradients", (0, 0))
            self.signs["black-box-beats-gradients"] = seen + int(fell.sum()), len(self.x)

    def _probe(self, stands: Tensor, fell: Tensor) -> None:
        """The signs that cost gradients, after the first steps of PGD broke `fell` and left `stands`."""
        if not (stands | fell).any():
            return
        hunt = self._unmoved(stands | fell)
        self.signs["moves-between-seeds"] = masking.moves_between_seeds(hunt, fell[_some(stands | fell)])
        ball = self.suite.ball
        radius = masking.even_radius(ball, tuple(self.x.shape[1:]))
        if stands.any() and ball.radius < radius:
            self.signs["large-radius"] = masking.large_radius(self._unmoved(stands, ball.with_radius(radius)))

    def _unmoved(self, which: Tensor, ball: Ball | None = None) -> Hunt:
        """A hunt that begins anew on up to 64 of some examples, with noise of its own."""
        index = _some(which)
        keys = chance.fold(self.keys[index], -1 - len(self.steps))
        hunt = Hunt(self.oracles["auto"], ball or self.suite.ball, self.x[index], self.y[index], keys)
        hunt.opening = self.opening[index]
        return hunt


def _some(which: Tensor) -> Tensor:
    """Up to 64 places of a mask, spread over it."""
    places = which.nonzero()[:, 0]
    return places[:: max(1, math.ceil(len(places) / masking.PROBES))]


def suite(
    ball: Ball,
    effort: str = "standard",
    seed: int = 0,
    precision: Precision = "auto",
    patience: int = 5000,
    extra: Sequence[Attack | Callable[..., Any]] = (),
) -> Suite:
    """The ensemble for a ball.

    linf and l2: FGSM, PGD, Auto-PGD away from the label and towards other classes, in float32 too where it is close,
    and Square, `patience` queries at most. l1: the same without Square, which is not defined there. l0: FGSM and PGD
    only, for now. The effort is "fast", "standard" (at least as strong as AutoAttack's standard version on the networks
    of `benchmarks/`) or "max" (nothing is passed over or given up).

    `extra` attacks come last, on what then stands: ours, or another tool's as (model, x, y) -> x', see `Foreign`.

    >>> import stackelberg as sb
    >>> import torch
    >>> net = torch.nn.Flatten()  # two pixels are the two logits
    >>> x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])
    >>> moved = sb.attacks.suite(sb.Ball("linf", 0.5), "fast")(net, x, y)
    >>> net(moved).argmax(1).tolist()
    [1]
    """
    if effort not in EFFORTS:
        raise unknown("effort", effort, EFFORTS)
    more = (attack if isinstance(attack, Attack) else Foreign(ball, attack) for attack in extra)
    return Suite(ball, (*schedule(ball, effort, patience), *more), seed, precision)
