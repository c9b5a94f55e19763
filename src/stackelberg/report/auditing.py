"""How secure is it, and how sure are you?  One call from a model and data to a report."""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.attacks.suite import EFFORTS
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError, unknown
from stackelberg.games import Game, exploitability
from stackelberg.models import check_output, embedded, network
from stackelberg.report.finding import Plan, audit_batch
from stackelberg.report.merging import Subject, merge
from stackelberg.report.radii import radii_for
from stackelberg.report.records import Exploited, Report
from stackelberg.report.resuming import Pair, Store, fingerprints
from stackelberg.report.surroundings import data_record, environment, jpeg_traces, model_record
from stackelberg.report.weights import weight_robustness
from stackelberg.threat import Ball
from stackelberg.threat.weight_ball import WeightBall

Progress = Callable[[int, int, str], None]
T = TypeVar("T")


def audit(
    model: nn.Module | Callable[..., Any],
    data: Dataset,
    ball: Ball,
    n: int = 1000,
    *,
    seed: int = 0,
    effort: str = "standard",
    batch_size: int = 250,
    gallery: int = 8,
    radii: Sequence[float] | None = None,
    fabric: Fabric | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    game: Game | None = None,
    weights: WeightBall | None = None,
) -> Report:
    """The bracket certified <= true <= attacked of a model's robust accuracy, with all its evidence.

    Which examples: all of `data` if n >= len(data); else n of a random permutation of it that depends on `seed` alone,
    so that they are a simple random sample and the intervals hold; their indices are recorded. The work is done in
    fixed batches of them, so the report does not depend on the number of processes. Intervals are exact binomial ones
    of 95 % (Clopper and Pearson 1934) for the population from which the data were drawn.

    With `out` every finished batch is written there at once, to batches/. The same audit, begun again after it was
    killed, takes them and does the rest, in any number of processes; its report is the one it would have been, but for
    the seconds and the environment. Where the model, the data, the plan or the program is another, it begins afresh
    and warns. Once the report is written the batches are removed.

    >>> import stackelberg as sb
    >>> test = sb.data.load("digits", "test")
    >>> net = sb.models.build("mlp", classes=10, shape=test.shape, width=8, seed=0)
    >>> report = sb.audit(net, test, sb.Ball("linf", 0.1), n=20, effort="fast", gallery=0)
    >>> report.robust.lower.value <= report.robust.upper.value <= report.clean.value
    True

    Args:
        model: logits [B, K] from inputs in [ball.low, ball.high]; given back exactly as it came. Any callable will do
            that answers for a batch, also with labels alone (see `models.network`).
        data: labelled examples.
        ball: the threat; texts move in it where the network embeds them (see `models.embedded`).
        n: how many examples.
        seed: of the choice and of every attack's noise.
        effort: of the attack suite: "fast", "standard" or "max".
        batch_size: examples per batch.
        gallery: how many fallen examples are shown.
        radii: of the curve, in input units; 0 to twice the ball's radius if None. 0 and the ball's own are added.
        fabric: a launched Fabric; its processes share the batches, each returns the same report.
        out: a folder for report.json and report.html, and until they are written for the finished batches.
        game: in which the model was trained: its exploitability on at most 250 of the examples is reported too.
        weights: how far an adversary may move the weights: how the model fares with weights changed by chance, by an
            adversary and by flipped bits is reported too, on at most 500 of the examples.
        progress: called with (examples done, examples, a line of words) as this process's share of the work goes on.

    Raises:
        StackelbergError: no examples, an unknown effort, a radius outside its range, bad inputs or labels, a model
            that does not answer as a classifier of these data must.
        Contradiction: an example is both proved and broken.
    """
    begun = time.perf_counter()
    _refuse(data, n, batch_size, effort)
    few, _ = data.batch(slice(0, 4))
    model = network(model, few, len(data.classes))
    check_output(model, few, len(data.classes))
    plan = Plan(ball, _curve_radii(ball, _moved_shape(model, few), radii), seed, effort, gallery)
    index, chosen = choose(len(data), n, seed)
    subject = Subject(
        model=model_record(model, len(data.classes)),
        data=data_record(data, chosen, index),
        trained=model.training,
        jpeg=jpeg_traces(data),
        batch_size=batch_size,
    )
    own, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    batches = index.split(batch_size)
    store, before = _told(lambda: _taken_up(out, model, data, batches, plan), own, world)
    if progress is not None and before:
        progress(0, len(index), f"{len(before)} of {len(batches)} batches were finished before; the rest is done now")
    left = [number for number in range(len(batches)) if number not in before][own::world]
    share = {number: batches[number] for number in left}
    findings = [*before.values(), *_gathered(lambda: _share(model, data, share, plan, store, progress), world)]
    report = merge(findings, plan, subject, environment(model, world, time.perf_counter() - begun))
    if game is not None:
        report = report.model_copy(update={"exploitability": _exploited(game, model, data.take(index), seed)})
    if weights is not None:
        changed = weight_robustness(model, data.take(index), ball, weights, seed=seed)
        report = report.model_copy(update={"weights": changed})
    if out is not None and own == 0:
        report.to_json(Path(out) / "report.json")
        report.to_html(Path(out) / "report.html")
    if store is not None and own == 0:
        store.remove()
    return report


def _exploited(game: Game, model: nn.Module, data: Dataset, seed: int) -> Exploited | None:
    """The game's exploitability by this model, None where nobody moves the examples or the payoff is a bound."""
    x, y = data.batch(slice(0, 1))
    device = next((p.device for p in model.parameters()), data.device)
    if game.threat is None:
        return None
    with untouched(model), torch.no_grad():
        if game.proved(model, embedded(model, x.to(device)), y.to(device)) is not None:
            return None
    found = exploitability(game, model, data, 250, seed=seed, restarts=1)
    return Exploited(
        game=type(game).__name__, value=found.value, low=found.low, high=found.high, confidence=found.confidence,
        n=found.n,
    )  # fmt: skip


def _refuse(data: Dataset, n: int, batch_size: int, effort: str) -> None:
    if n < 1 or batch_size < 1 or not len(data):
        raise StackelbergError(
            f"an audit needs at least one example, got n={n}, batch_size={batch_size} and {len(data)} examples in"
            f" {data.name}; pass n=1000"
        )
    if effort not in EFFORTS:
        raise unknown("effort", effort, EFFORTS)


def choose(size: int, n: int, seed: int) -> tuple[Tensor, str]:
    """(which of `size` examples, in rising order, how they were chosen)."""
    if n >= size:
        return torch.arange(size), f"all {size}"
    order = torch.from_numpy(np.random.default_rng(seed).permutation(size))
    return order[:n].sort().values, f"the first {n} of a random permutation of {size} with seed {seed}"


def _moved_shape(model: nn.Module, few: Tensor) -> tuple[int, ...]:
    """The shape of what an adversary moves in one example."""
    with torch.no_grad():
        return tuple(embedded(model, few.to(next((p.device for p in model.parameters()), few.device))).shape[1:])


def _curve_radii(ball: Ball, shape: tuple[int, ...], wanted: Sequence[float] | None) -> tuple[float, ...]:
    if wanted is None:
        return radii_for(ball, shape)
    for radius in wanted:
        ball.with_radius(radius)  # refuses what is no radius
    return tuple(sorted({0.0, ball.radius, *wanted}))


def _taken_up(
    out: str | os.PathLike[str] | None, model: nn.Module, data: Dataset, batches: Sequence[Tensor], plan: Plan
) -> tuple[Store | None, dict[int, Pair]]:
    """(where batches are kept, what the same audit has left there); what another one has left is dropped."""
    if out is None:
        return None, {}
    store = Store(Path(out) / "batches", fingerprints(model, data, batches, plan))
    found, other = store.finished(batches)
    if other is not None:
        warnings.warn(
            f"{store.folder} holds batches of an audit with another {other}, they are dropped and the audit begins"
            " afresh; to keep them, pass another --out",
            stacklevel=5,
        )
        if not found:
            store.remove()
    return store, found


def _told(decide: Callable[[], T], own: int, world: int) -> T:
    """What the first process decides, in all of them; its error is raised in all."""
    if world == 1:
        return decide()
    told: list[Any] = [None]
    if own == 0:
        try:
            told = [decide()]
        except StackelbergError as error:
            told = [error]
    torch.distributed.broadcast_object_list(told)
    if isinstance(told[0], StackelbergError):
        raise told[0]
    return told[0]


def _share(
    model: nn.Module,
    data: Dataset,
    batches: Mapping[int, Tensor],
    plan: Plan,
    store: Store | None,
    progress: Progress | None,
) -> list[Pair]:
    """This process's batches by number, one after the other, each written down when it is done."""
    device = next((p.device for p in model.parameters()), data.device)
    total, done, findings = sum(len(batch) for batch in batches.values()), 0, []

    def tell(words: str) -> None:
        if progress is not None:
            progress(done, total, words)

    for number, batch in batches.items():
        x, y = data.batch(batch)
        with torch.no_grad():
            points = embedded(model, x.to(device))
        findings.append(audit_batch(model, points, y.to(device), tuple(batch.tolist()), plan, tell))
        if store is not None:
            store.keep(number, findings[-1])
        done += len(batch)
    tell(f"{done} examples audited")
    return findings


def _gathered(find: Callable[[], list[Pair]], world: int) -> list[Pair]:
    """The findings of all processes; an error in one of them is raised in all, so that none waits for it."""
    if world == 1:
        return find()
    try:
        own: Any = find()
    except StackelbergError as error:
        own = error
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, own)
    for part in parts:
        if isinstance(part, StackelbergError):
            raise part
    return [pair for part in parts for pair in part]
