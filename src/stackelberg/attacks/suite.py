"""The worst case over an ensemble, example by example: cheapest first, and only on examples that still stand.

Every attack hands on what it knows: the worst point of each example so far, from which the later ones rank classes and
start again. What is broken is verified by the user's own module in float32; what is left was broken by nothing here,
which proves nothing: see `certify`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.apgd import APGD
from stackelberg.attacks.attack import Attack, check_inputs, check_labels, verified
from stackelberg.attacks.hunt import Hunt
from stackelberg.attacks.oracle import NoGradient, Oracle, Precision, untouched
from stackelberg.attacks.pgd import FGSM, PGD
from stackelberg.attacks.square import Square
from stackelberg.errors import unknown
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
    """

    name: str
    robust_after: int
    seconds: float
    forwards: int
    backwards: int
    skipped: str | None = None


@dataclass(frozen=True)
class SuiteResult:
    """What the suite found.

    Attributes:
        x_adv: [B, *shape]; a broken example's verified point, a standing one's point of largest margin, an example
            that was wrong before any move unchanged.
        broken_by: [B]; the index in `steps` of the attack that broke it, -1 if it stands, -2 if it was wrong unmoved.
        steps: the attacks in order.
        zero_gradient: examples, right unmoved, whose input gradient there was exactly zero in every coordinate.
        square_beats_gradients: examples broken by score-based search after every gradient attack had failed.
        one_step_probed: examples broken by the one-step attack on which ten steps from the same start were tried.
        one_step_beats_many: on how many of those the ten steps failed.
        probabilities: whether the model returns probabilities; the suite then attacked their logarithms.
        seconds: in total.
    """

    x_adv: Tensor
    broken_by: Tensor
    steps: tuple[Step, ...]
    zero_gradient: int
    square_beats_gradients: int
    one_step_probed: int
    one_step_beats_many: int
    probabilities: bool
    seconds: float

    @property
    def clean_right(self) -> int:
        """How many examples are right unmoved."""
        return int((self.broken_by != CLEAN).sum())

    @property
    def robust(self) -> int:
        """How many examples stand."""
        return int((self.broken_by == STANDING).sum())


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
    attacks: list[Attack] = [
        APGD(ball, 30, loss="cw"),
        APGD(ball, 20, loss="dlr-targeted", targets=4, within=0.7),
        APGD(ball, 30, loss="cw", start="worst", precision="float32", within=0.3),
    ]
    if ball.norm in ("linf", "l2"):
        attacks.append(Square(ball, queries, gates=((50, 0.7), (200, 0.4), (500, 0.2))))
    return attacks


def _standard(ball: Ball, queries: int) -> list[Attack]:
    attacks: list[Attack] = [
        APGD(ball, 30, loss="ce"),
        APGD(ball, 30, loss="cw"),
        APGD(ball, 30, loss="cw", restarts=4, within=0.4),
        APGD(ball, 20, loss="dlr-targeted", within=0.6),
        # what stands this close may stand by the rounding of bfloat16 alone
        APGD(ball, 30, loss="cw", start="worst", within=0.3, precision="float32"),
        APGD(ball, 50, loss="cw", restarts=2, within=0.2, precision="float32"),
        APGD(ball, 50, loss="dlr-targeted", targets=3, within=0.2, precision="float32"),
    ]
    if ball.norm in ("linf", "l2"):
        attacks.append(Square(ball, queries, gates=((100, 0.6), (300, 0.35), (1000, 0.15), (2000, 0.1))))
        near = ((100, 0.2), (400, 0.1), (1000, 0.05))
        attacks.append(Square(ball, queries // 2, start="worst", within=0.3, gates=near))
    return attacks


def _max(ball: Ball, queries: int) -> list[Attack]:
    attacks: list[Attack] = [
        APGD(ball, 100, loss="ce", restarts=2),
        APGD(ball, 100, loss="cw", restarts=5),
        APGD(ball, 100, loss="dlr-targeted"),
        APGD(ball, 100, loss="dlr-targeted", within=0.5, precision="float32"),
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
        begun = time.perf_counter()
        with untouched(model):
            check_inputs(x, self.ball)
            run = _Run(self, model, x, y, progress)
            for attack in self.attacks:
                run.take(attack)
                if isinstance(attack, FGSM):
                    run.probe()
            if run.steps and all(step.skipped for step in run.steps):
                raise NoGradient(str(run.steps[0].skipped))
        by = run.broken_by
        return SuiteResult(
            x_adv=run.best,
            broken_by=by,
            steps=tuple(run.steps),
            zero_gradient=int(run.flat.sum()),
            square_beats_gradients=sum(
                int((by == n).sum()) for n, a in enumerate(self.attacks) if isinstance(a, Square)
            ),
            one_step_probed=run.probed,
            one_step_beats_many=run.lost,
            probabilities=bool(run.oracles["auto"].mends & {"softmax", "probabilities"}),
            seconds=time.perf_counter() - begun,
        )


class _Run:
    """All examples between two attacks, and what was seen on the way."""

    def __init__(self, suite: Suite, model: nn.Module, x: Tensor, y: Tensor, progress: Progress | None) -> None:
        self.suite, self.x, self.y, self.progress = suite, x, y, progress
        self.model = model
        self.oracles: dict[Precision, Oracle] = {"auto": Oracle(model, suite.precision)}
        check_labels(self.oracles["auto"], x, y)
        self.keys = chance.example_keys(x, suite.seed)
        self.best = x.clone()
        self.value = torch.full((len(x),), -torch.inf, device=x.device)
        self.opening = self.value.clone()
        self.broken_by = torch.full((len(x),), STANDING, device=x.device)
        self.flat = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.steps: list[Step] = []
        self.probed = self.lost = 0
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
        standing = self.broken_by == STANDING
        if attack.within is not None:
            standing &= (self.value >= attack.within * self.opening) | self.flat
        try:
            for index in standing.nonzero()[:, 0].split(CHUNK) if standing.any() else ():
                self._attack(attack, oracle, index)
        except NoGradient as error:
            skipped = str(error)
            self.flat |= self.broken_by == STANDING
        left = int((self.broken_by == STANDING).sum())
        seconds = time.perf_counter() - begun
        step = Step(attack.name, left, seconds, oracle.forwards - forwards, oracle.backwards - backwards, skipped)
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

    def probe(self) -> None:
        """Do ten steps break what one step broke?  Tried on up to 64 examples; if not, the gradients mislead."""
        fell = (self.broken_by == len(self.steps) - 1).nonzero()[:64, 0]
        self.probed = len(fell)
        if not len(fell) or self.steps[-1].skipped:
            return
        hunt = self._hunt(self.oracles["auto"], fell)
        hunt.best, hunt.value = self.x[fell].clone(), torch.full_like(hunt.value, -torch.inf)
        PGD(self.suite.ball, 10, start="clean").search(hunt)
        hunt.settle()
        self.lost = int((~hunt.broken).sum())


def suite(
    ball: Ball, effort: str = "standard", seed: int = 0, precision: Precision = "auto", patience: int = 5000
) -> Suite:
    """The ensemble for a ball.

    linf and l2: FGSM, PGD, Auto-PGD away from the label and towards other classes, in float32 too where it is close,
    and Square, `patience` queries at most. l1: the same without Square, which is not defined there. l0: FGSM and PGD
    only, for now. The effort is "fast", "standard" (at least as strong as AutoAttack's standard version on the networks
    of `benchmarks/`) or "max" (nothing is passed over or given up).
    """
    if effort not in EFFORTS:
        raise unknown("effort", effort, EFFORTS)
    return Suite(ball, tuple(schedule(ball, effort, patience)), seed, precision)
