"""What do all the bounds say of one network, and what is true?  The tight ones first, the classical ones beside."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from stackelberg.attacks import suite, untouched
from stackelberg.attacks.suite import Effort
from stackelberg.bounds import memorized
from stackelberg.bounds.bound import Bound
from stackelberg.bounds.boxed import Boxed, search_expressed
from stackelberg.bounds.checking import check_delta
from stackelberg.bounds.expressive import SOURCE as EXPRESSIVE
from stackelberg.bounds.expressive import expressive
from stackelberg.bounds.fitting import Answers, answers, device_of, fresh
from stackelberg.bounds.hold_out import hold_out, robust_hold_out
from stackelberg.bounds.norms import norm_bounds, norms_of, sizes
from stackelberg.bounds.pac_bayes import pac_bayes
from stackelberg.bounds.rademacher import rademacher, random_labels
from stackelberg.bounds.sgd_path import walk
from stackelberg.bounds.stability import along, uniform_nonconvex
from stackelberg.bounds.uniform import SOURCE as UNIFORM
from stackelberg.bounds.uniform import vc
from stackelberg.certify import Unsupported, crown, interval
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.models import check_output
from stackelberg.threat import Ball

ERROR = "error on the data's distribution"
TIGHT = ("hold-out", "PAC-Bayes", "hold-out, robust, certified", "hold-out, robust, attacked", "PAC-Bayes, one draw")


@dataclass(frozen=True)
class Budget:
    """How much is trained and measured for the bounds that need it; about a minute for a small CNN on MNIST.

    Attributes:
        prior: examples for PAC-Bayes, half of them for the prior.
        prior_epochs: passes over that half.
        draws: of networks.
        labels: examples with random labels.
        label_epochs: passes over them, at most.
        path: steps of SGD that are measured.
        stored: examples for the memorization bounds.
        attacked: test examples attacked and certified, where a ball is given.
    """

    prior: int = 30_000
    prior_epochs: int = 2
    draws: int = 500
    labels: int = 300
    label_epochs: int = 100
    path: int = 12
    stored: int = 1000
    attacked: int = 200


@dataclass(frozen=True)
class Compared:
    """A bound, and what was measured of the bounded quantity.

    Attributes:
        bound: the bound.
        measured: the quantity as measured on the test set; None where it is that of no network at hand.
    """

    bound: Bound
    measured: float | None


@dataclass(frozen=True, eq=False)
class _Case:
    """All that the bounds are computed from."""

    model: nn.Module
    train: Dataset
    test: Dataset
    delta: float
    ball: Ball | None
    epochs: int
    batch: int
    budget: Budget
    effort: Effort
    seed: int
    seen: Answers
    unseen: Answers


def compare(
    model: nn.Module,
    train: Dataset,
    test: Dataset,
    delta: float = 0.05,
    ball: Ball | None = None,
    epochs: int = 1,
    batch_size: int = 128,
    budget: Budget | None = None,
    effort: Effort = "fast",
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Bound]:
    """Every bound that can be computed for a classifier, those by which one decides first.

    Args:
        model: an nn.Module, images or points -> logits [B, K]; comes back as it was given.
        train: what it was trained on.
        test: what it has never seen, and was not chosen by.
        delta: the chance that a bound fails, of each one.
        ball: for the robust error, too.
        epochs: of its training, for stability.
        batch_size: of its training, for stability.
        budget: how much is trained and measured.
        effort: of the attacks.
        seed: of all random numbers.
        progress: is told (done, of, words).

    Returns:
        Bounds in order: PAC-Bayes and hold-out, then the others by value. One that cannot be computed for this network
        is there with the value infinity, and its assumptions say why.

    Raises:
        StackelbergError: another shape or number of classes than the network's or of one another, an empty set, delta
            outside (0, 1), or no logits.
    """
    return [one.bound for one in compared(
        model, train, test, delta, ball, epochs, batch_size, budget, effort, seed, progress
    )]  # fmt: skip


def compared(
    model: nn.Module,
    train: Dataset,
    test: Dataset,
    delta: float = 0.05,
    ball: Ball | None = None,
    epochs: int = 1,
    batch_size: int = 128,
    budget: Budget | None = None,
    effort: Effort = "fast",
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Compared]:
    """As `compare`, with the measured quantity beside each bound."""
    _check(model, train, test, delta)
    with untouched(model):  # its own gradients, mode and buffers come back
        case = _Case(
            model, train, test, delta, ball, epochs, batch_size, budget or Budget(), effort, seed,
            answers(model, train), answers(model, test),
        )  # fmt: skip
        found: list[Compared] = []
        for place, (words, name, holds_for, source, compute) in enumerate(_KINDS):
            if progress is not None:
                progress(place, len(_KINDS), words)
            if name == "hold-out, robust, certified" and ball is None:
                continue
            try:
                found += compute(case)
            except Exception as error:  # the network is the user's own, and its code may raise anything
                found.append(Compared(_left_out(name, holds_for, source, error), None))
    return sorted(found, key=_rank)


def _rank(one: Compared) -> tuple[bool, bool, int, float]:
    tight = one.bound.name in TIGHT
    return not tight, one.bound.vacuous, TIGHT.index(one.bound.name) if tight else 0, one.bound.value


def _check(model: nn.Module, train: Dataset, test: Dataset, delta: float) -> None:
    check_delta(delta)
    for words, data in (("training", train), ("test", test)):
        if not len(data):
            raise StackelbergError(f"the {words} set {data.name} is empty; bounds need examples")
    if train.text:
        raise StackelbergError(f"{train.name} holds texts; the bounds are of networks for images or points, pass these")
    if train.shape != test.shape:
        raise StackelbergError(
            f"training and test examples must have one shape, got {list(train.shape)} and {list(test.shape)}"
        )
    if len(train.classes) != len(test.classes):
        raise StackelbergError(
            f"training and test set must have the same classes, got {len(train.classes)} and {len(test.classes)}"
        )
    if len(train) < 4:
        raise StackelbergError(f"bounds need 4 or more training examples, got {len(train)}; pass the training set")
    check_output(model, test.batch(slice(0, 4))[0], len(train.classes))


def _left_out(name: str, holds_for: str, source: str, error: Exception) -> Bound:
    ours = isinstance(error, StackelbergError | Unsupported)
    reason = str(error) if ours else f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return Bound(name, math.inf, 1.0, holds_for, (f"not computed: {reason}",), True, "theorem", source)


def _held_out(case: _Case) -> list[Compared]:
    bound = hold_out(case.unseen.wrong, len(case.test), case.delta)
    return [Compared(bound, case.unseen.error)]


def _robust(case: _Case) -> list[Compared]:
    assert case.ball is not None
    chance = torch.Generator().manual_seed(case.seed)
    places = torch.randperm(len(case.test), generator=chance)[: case.budget.attacked]
    device = device_of(case.model)
    x, y = (part.to(device) for part in case.test.batch(places))
    broken = len(x) - suite(case.ball, case.effort, seed=case.seed).run(case.model, x, y).robust
    try:
        prove = interval if case.effort == "fast" else crown
        proved = int(prove(case.model, x, y, case.ball).certified.sum())
    except Unsupported:
        proved = 0
    words = f"{case.ball.norm} {case.ball.radius:g}"
    bounds = robust_hold_out(words, len(x), len(x) - proved, broken, case.delta)
    return [Compared(bound, broken / len(x)) for bound in bounds]


def _pac(case: _Case) -> list[Compared]:
    found = pac_bayes(
        case.model, case.train, case.delta, min(case.budget.prior, len(case.train)), case.budget.prior_epochs,
        case.budget.draws, seed=case.seed,
    )  # fmt: skip
    own = answers(found.network, case.test).error
    return [Compared(found.bound, own), Compared(found.single, own)]


def _vc(case: _Case) -> list[Compared]:
    bound = vc(case.model, case.train.shape, len(case.train), case.seen.error, case.delta)
    return [Compared(bound, case.unseen.error)]


def _rademacher(case: _Case) -> list[Compared]:
    budget = case.budget
    found = random_labels(case.model, case.train, budget.labels, budget.label_epochs, case.seed)
    return [Compared(rademacher(found, case.seen.error, case.delta), case.unseen.error)]


def _norms(case: _Case) -> list[Compared]:
    norms = norms_of(case.model, case.train.shape)
    return [
        Compared(bound, case.unseen.error)
        for bound in norm_bounds(norms, sizes(case.train), case.seen, case.delta)
    ]  # fmt: skip


def _stability(case: _Case) -> list[Compared]:
    """Hardt's and the path bound for the network's own number of steps, with L, beta and g_t of a measured path."""
    rate, samples = 0.05, len(case.train)
    batch = min(case.batch, samples)
    path = walk(fresh(case.model, case.seed), case.train, case.budget.path, rate, probes=min(16, samples), every=3)
    steps = max(1, samples // batch) * case.epochs
    uniform = uniform_nonconvex(path.lipschitz, path.smoothness, rate * steps, steps, samples, batch)
    mean = sum(step.mean for step in path.steps) / len(path.steps)
    bend = sum(step.smoothness for step in path.steps) / len(path.steps)
    averaged = along(path.lipschitz, [rate] * steps, [mean] * steps, [1 + rate * bend] * steps, samples)[-1]
    said = (
        f"estimated: L = {path.lipschitz:.3g} and beta = {path.smoothness:.3g}, met on {len(path.steps)} steps of SGD",
        f"plain SGD, {steps} steps of {batch} examples at {rate:g}; another optimiser is not covered",
        "in expectation over the sample and the order",
    )
    gap = case.unseen.loss - case.seen.loss
    kinds = (("stability, uniform", uniform, "Hardt, Recht and Singer 2016, theorem 3.8"),
             ("stability, on average", averaged, "Kuzborskij and Lampert 2018; constants derived"))  # fmt: skip
    return [
        Compared(Bound(name, value, 1.0, "expected gap of 1 - p_y", said, value >= 1, "estimate", source), gap)
        for name, value, source in kinds
    ]


def _expressive(case: _Case) -> list[Compared]:
    """The theorem speaks of two-layer networks with two classes; of another nothing is said."""
    net = two_layers(case.model)
    if net is None or len(case.train.classes) != 2:
        raise StackelbergError("the theorem is for two-layer ReLU networks, all parameters in [-1, 1], and two classes")
    few, _ = case.train.batch(slice(0, case.budget.stored))
    device = device_of(case.model)
    with torch.no_grad():
        z = case.model.eval()(few.to(device)).cpu().double()
    if not torch.allclose(net(few.flatten(1).double()), z[:, 1] - z[:, 0], atol=1e-4):
        raise StackelbergError("the network does more than its two layers, so the theorem does not speak of it")
    if float(few.min()) < 0 or float(few.max()) > 1:
        raise StackelbergError("the theorem is for inputs in [0, 1]^d, these examples lie outside")
    y = 2.0 * case.train.y - 1
    found = search_expressed(few.flatten(1), y[: len(few)], (2, 4, 8), tries=2, steps=200)
    if found is None:
        raise StackelbergError("no narrow network was found that separates the training examples")
    x = case.train.batch(slice(None))[0].flatten(1).double()
    risk = net.risk(x, y.double())
    bound = expressive(net.width, len(x), found[0], risk, case.delta, "biased")
    return [Compared(bound, case.unseen.error)]


def two_layers(model: nn.Module) -> Boxed | None:
    """A two-class network of two linear layers with a ReLU between, as z_1 - z_0; None for any other.

    None, too, where a parameter lies outside [-1, 1].
    """
    parts = [part for part in model.modules() if not list(part.children()) and not isinstance(part, nn.Flatten)]
    if [type(part) for part in parts] != [nn.Linear, nn.ReLU, nn.Linear]:
        return None
    first, last = parts[0], parts[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    if last.out_features != 2:
        return None
    w = first.weight.detach().double().cpu()
    b = w.new_zeros(len(w)) if first.bias is None else first.bias.detach().double().cpu()
    rows = last.weight.detach().double().cpu()
    c = torch.zeros(2, dtype=torch.float64) if last.bias is None else last.bias.detach().double().cpu()
    net = Boxed(w, b, rows[1] - rows[0], c[1] - c[0])
    return net if net.largest <= 1 else None


def _by_separation(case: _Case) -> list[Compared]:
    return [Compared(memorized.by_separation(case.train, case.delta, case.budget.stored), None)]


def _by_balls(case: _Case) -> list[Compared]:
    return [Compared(memorized.by_balls(case.train, case.test, case.delta, case.budget.stored, 300), None)]


def _by_parameters(case: _Case) -> list[Compared]:
    count = sum(p.numel() for p in case.model.parameters())
    return [Compared(memorized.by_parameters(count, len(case.train), case.delta), None)]


_GAP = "expected gap of 1 - p_y"
_CLOPPER = "Clopper and Pearson 1934"
_KINDS: tuple[tuple[str, str, str, str, Callable[[_Case], list[Compared]]], ...] = (
    ("hold-out", "hold-out", ERROR, _CLOPPER, _held_out),
    ("attacks and certificates", "hold-out, robust, certified", "robust " + ERROR, _CLOPPER, _robust),
    ("PAC-Bayes: a prior on half the data", "PAC-Bayes", ERROR, "Maurer 2004", _pac),
    ("counting labellings", "uniform, VC", ERROR, UNIFORM, _vc),
    ("random labels", "uniform, Rademacher by random labels", ERROR, "Bartlett and Mendelson 2002", _rademacher),
    ("norms of the layers", "norms, spectral, Frobenius and path", ERROR, "Bartlett et al. 2017", _norms),
    ("a path of SGD", "stability, uniform and on average", _GAP, "Hardt et al. 2016", _stability),
    ("narrow networks", "expressive power", ERROR, EXPRESSIVE, _expressive),
    ("separation of the classes", "memorization, E_D", memorized.HOLDS_FOR, memorized.SOURCE, _by_separation),
    ("balls round examples", "memorization, balls that were seen", memorized.HOLDS_FOR, memorized.SOURCE, _by_balls),
    ("parameters", "memorization, P_D", memorized.HOLDS_FOR, memorized.SOURCE, _by_parameters),
)
