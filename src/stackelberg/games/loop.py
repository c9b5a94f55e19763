"""The one loop: the follower answers, the leader takes a step, until the budget is spent."""

import copy
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.attacks.drawing import seeded
from stackelberg.data import Dataset
from stackelberg.data.dataset import as_taken
from stackelberg.errors import StackelbergError
from stackelberg.games import processes, sharding
from stackelberg.games.diary import Diary, keeping, refuse_others
from stackelberg.games.exploiting import exploitability
from stackelberg.games.game import Game, Play
from stackelberg.games.judging import judge
from stackelberg.games.progress import Reporter
from stackelberg.games.recipe import Recipe
from stackelberg.games.training import Training, begin_or_resume, prepare, save, write_record, write_weights
from stackelberg.models import check_output, embedded
from stackelberg.models.averaging import follow
from stackelberg.threat import chance

SHOWN = ("price", "gap", "least", "robust_payoff")
"""Which of a game's own numbers are in the history."""


@dataclass(frozen=True)
class Equilibrium:
    """Where a training ended: an approximate Stackelberg equilibrium of its game (proved for convex losses only).

    Attributes:
        model: the last network (the average of its path if the recipe keeps one), eval mode.
        best: the network of the epoch with the best held-out robust accuracy (clean accuracy if nobody attacks).
        history: a record per epoch: loss, held-out clean and robust accuracy, learning rate, seconds, game's numbers.
        best_epoch: counted from 1.
        reason: "budget" when all epochs were played.
        test: clean and PGD accuracy of `best` on the test set, if one was given.
        folder: the run directory, if any.
    """

    model: nn.Module
    best: nn.Module
    history: list[dict[str, Any]]
    best_epoch: int
    reason: Literal["budget"]
    test: dict[str, float] | None
    folder: Path | None


def solve(
    game: Game,
    model: nn.Module,
    train: Dataset,
    epochs: int = 20,
    *,
    test: Dataset | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    precision: str = "auto",
    strategy: str = "ddp",
    progress: bool = True,
    save_seconds: float = 60.0,
    loggers: Sequence[Any] = (),
    **recipe: Any,
) -> Equilibrium:
    """Train `model` (in place) on `train` in `game`, min over the network of the payoff after the follower's answer.

    A part of `train` is held out; after each epoch clean and robust accuracy on it choose the best network. With the
    same arguments on the same machine the weights are the same, bit for bit, also if the run is killed and resumed.

    >>> import stackelberg as sb
    >>> train = sb.data.load("digits", "train")
    >>> net = sb.models.build("mlp", classes=10, shape=train.shape, width=8, seed=0)
    >>> game = sb.games.Adversarial(sb.Ball("linf", 0.1), steps=1)
    >>> found = sb.solve(game, net, train, epochs=1, device="cpu", progress=False)
    >>> len(found.history), found.reason
    (1, 'budget')

    Args:
        game: for example `Adversarial(Ball("linf", 8 / 255))`.
        model: logits [B, K] from inputs in [0, 1], or for texts as `models.embedded` says; trained in place.
        train: the training set.
        epochs: passes over it.
        test: judged once, at the end; never used to choose.
        out: run directory: run.json, best.safetensors, last.safetensors and the state from which it resumes.
        resume: go on from the state in `out`, or begin if there is none.
        seed: of shuffles, crops and the follower's noise.
        device: "cpu", "cuda" or "auto".
        devices: processes on this machine.
        nodes: machines.
        precision: "bfloat16", "float32" or "auto" (bfloat16 where the hardware multiplies in it; clouds and texts
            float32).
        strategy: with several processes, "ddp" (each holds the whole network) or "fsdp" (each holds its part of the
            parameters, gradients and moments, and one whole copy for the follower; see `sharding`).
        progress: a bar on a terminal, lines off it.
        save_seconds: at most this long between two saved states (one process; several save at epochs' ends).
        loggers: of Fabric's interface, told the settings and each epoch's numbers, see `diary.Logger`.
        **recipe: any field of `Recipe`.

    Raises:
        StackelbergError: bad data, an unfit recipe, a NaN loss (with the batch named), a folder that cannot be used.
    """
    plan = Recipe.suited(model, train, **recipe)
    _check(train, epochs, plan, processes.count(devices, nodes))
    refuse_others(loggers)
    check_output(model, train.batch(range(2))[0], len(train.classes))
    if precision == "auto" and (train.cloud or train.text):
        precision = "float32"  # coordinates are not rounded to 8 bits
    if strategy == "fsdp":
        _check_parts(game, train)
    fabric = processes.launch(device, devices, nodes, precision, strategy)
    training = prepare(fabric, game, model, train, epochs, plan, seed, out, save_seconds)
    notice = begin_or_resume(training, resume)
    mine = loggers if fabric.global_rank == 0 else ()
    with Reporter(epochs, training.steps, progress and fabric.global_rank == 0) as reporter, ExitStack() as entered:
        if notice:
            reporter.say(notice)
        diary = entered.enter_context(keeping(mine, training.record, begun=training.step > 0))
        while training.step < epochs * training.steps:
            _epoch(training, reporter, diary)
    return _finish(training, test)


def _check(train: Dataset, epochs: int, plan: Recipe, world: int) -> None:
    left = len(train) - plan.held_out
    if epochs < 1:
        raise StackelbergError(f"epochs must be at least 1, got {epochs}")
    if left < plan.batch_size:
        raise StackelbergError(
            f"batch_size {plan.batch_size} exceeds the {max(left, 0)} training examples that are left after"
            f" {plan.held_out} are held out; pass a smaller batch_size or held_out"
        )
    if plan.batch_size % world:
        raise StackelbergError(
            f"batch_size {plan.batch_size} must be a multiple of the {world} processes; pass {world * 64}"
        )


def _check_parts(game: Game, train: Dataset) -> None:
    if train.text or game.reads_weights:
        who = "texts, which are embedded apart" if train.text else f"{type(game).__name__}, which reads the weights"
        raise StackelbergError(f"strategy 'fsdp' cannot train on {who}; pass strategy='ddp'")


def _epoch(training: Training, reporter: Reporter, diary: Diary) -> None:
    """Play what is left of the present epoch, judge, save."""
    epoch, done = divmod(training.step, training.steps)
    size = training.recipe.batch_size
    order = torch.from_numpy(np.random.default_rng([training.seed, epoch]).permutation(len(training.data)))
    started = saved = time.monotonic()
    if training.fabric.world_size > 1 and not training.settled:
        _settle(training, order[:size], epoch)
    for batch in range(done, training.steps):
        loss = _move(training, order[batch * size : (batch + 1) * size], epoch)
        if not math.isfinite(loss):
            raise StackelbergError(
                f"the loss became {loss} in epoch {epoch + 1}, batch {batch + 1} of {training.steps} (first example"
                f" {int(order[batch * size])}); lower learning_rate or set clip=1, then resume from the last checkpoint"
            )
        training.loss += loss / training.steps
        training.step += 1
        reporter.step(training.step)
        now = time.monotonic()
        if now - saved > training.save_seconds and training.fabric.world_size == 1 and batch + 1 < training.steps:
            training.seconds, started = training.seconds + now - started, now
            save(training)
            saved = now
    training.average_buffers()
    training.seconds += time.monotonic() - started
    record = _judge(training, epoch)
    training.history.append(record)
    training.loss, training.seconds = 0.0, 0.0
    score = training.game.score(record, training.numbers, training.step / (training.epochs * training.steps))
    if score > training.best["score"]:
        training.best = {"epoch": epoch + 1, "score": score}
        training.best_weights = {n: v.detach().cpu().clone() for n, v in training.judged.state_dict().items()}
    save(training)
    if training.folder is not None and training.fabric.global_rank == 0:
        write_weights(training, best=training.best["epoch"] == len(training.history))
        write_record(training, "running")
    reporter.epoch(record)
    diary.epoch(record)


def _settle(training: Training, index: Tensor, epoch: int) -> None:
    """A first backward pass, of which nothing is kept.

    After it PyTorch groups the gradients anew, and then sums them over processes in another order: a life that goes on
    in the middle of a training must have done so before its first step, to end with the weights of one that did not.
    """
    buffers = [(buffer, buffer.clone()) for buffer in training.trained.buffers()]
    numbers = dict(training.numbers)
    _slope(training, index, epoch)
    training.optimizer.zero_grad(set_to_none=True)
    training.numbers.update(numbers)
    for buffer, before in buffers:
        buffer.copy_(before)
    training.settled = True


def _move(training: Training, index: Tensor, epoch: int) -> float:
    """One step of the leader on one batch; the loss over all processes."""
    objective = _slope(training, index, epoch)
    if training.recipe.clip is not None:
        nn.utils.clip_grad_norm_(training.trained.parameters(), training.recipe.clip)
    loss = float(processes.mean(training.fabric, objective))
    if math.isfinite(loss):
        training.optimizer.step()
        _after_step(training)
    return loss


def _slope(training: Training, index: Tensor, epoch: int) -> Tensor:
    """The follower's answer on one batch and the gradient of the leader's objective there; this process's objective."""
    fabric, game, recipe = training.fabric, training.game, training.recipe
    progress = training.step / (training.epochs * training.steps)
    index = processes.share_of(fabric, index).to(training.data.device)
    keys = chance.fold(chance.fold(index, training.seed), epoch)
    x, y = training.data.x[index], training.data.y[index]
    augmentation = recipe.augmentation(training.data.cloud)
    if augmentation is not None:
        x = augmentation(x, chance.fold(keys, 1))
    points = embedded(training.module, as_taken(x))
    x = points.detach()
    training.oracle.refresh()
    held_x, held_y = training.watched
    play = Play(
        training.oracle,
        chance.fold(keys, 2),
        recipe.share(progress),
        training.numbers,
        lambda value: processes.mean(fabric, value),
        progress,
        (embedded(training.module, held_x).detach(), held_y),
    )
    for group in training.optimizer.param_groups:
        group["lr"] = recipe.rate(progress)
    with untouched(training.module):
        moved = game.answer(play, x, y).detach()
    game.after(play, x, moved)
    if moved.dim() == 4 and training.channels_last:
        moved = moved.contiguous(memory_format=torch.channels_last)
    if points.requires_grad:  # the leader's own embedding learns from the texts and from where they moved
        x, moved = points, points + (moved - x)
    with seeded(_dice(training)):
        payoffs = game.pay(play, training.wrapped, x, y, moved)
    weights = processes.global_weights(fabric, game.weights, payoffs)
    objective = (weights * payoffs).sum()
    training.optimizer.zero_grad(set_to_none=True)
    fabric.backward(objective)
    return objective.detach()


def _dice(training: Training) -> int:
    """The seed of what the network itself draws in this step, as dropout does: a resumed run draws it again."""
    own = [training.seed, training.step, training.fabric.global_rank]
    return int(np.random.default_rng([abs(number) for number in own]).integers(2**31))


@torch.no_grad()
def _after_step(training: Training) -> None:
    """Keep the parameters in the leader's box, and the whole copy and the average up to date."""
    bound = training.game.parameter_bound
    if bound is not None:
        for parameter in training.trained.parameters():
            parameter.clamp_(-bound, bound)
    sharding.collect(training.trained, training.module)
    if training.average is not None:
        decay = min(training.recipe.average, (1 + training.step) / (10 + training.step))
        follow(training.average, training.module, 1 - decay)


def _judge(training: Training, epoch: int) -> dict[str, Any]:
    measured = judge(training.judged, training.held, training.game, training.recipe.check_steps, training.fabric)
    return {
        "epoch": epoch + 1,
        "loss": training.loss,
        **measured,
        "learning_rate": training.optimizer.param_groups[0]["lr"],
        "seconds": training.seconds,
        **{name: value for name, value in training.numbers.items() if name in SHOWN},
        **_exploited(training),
    }


def _exploited(training: Training) -> dict[str, Any]:
    """How much a stronger follower gains on held-out examples, with its interval; nothing where it was not asked."""
    n = training.recipe.exploit_n
    if not n:
        return {}
    found = exploitability(
        training.game, training.judged, training.held, n, seed=training.seed, steps=20, restarts=1, resamples=200,
        state=training.numbers,
    )  # fmt: skip
    return {"exploitability": {"value": found.value, "low": found.low, "high": found.high, "n": found.n}}


def _finish(training: Training, test: Dataset | None) -> Equilibrium:
    model = training.judged.eval()
    best = copy.deepcopy(model)
    best.load_state_dict(training.best_weights)
    measured = None
    if test is not None:
        measured = judge(
            best, test.to(training.fabric.device), training.game, training.recipe.check_steps, training.fabric
        )
        measured = {name: value for name, value in measured.items() if value is not None}
    if training.folder is not None and training.fabric.global_rank == 0:
        write_weights(training, best=True)  # a run killed between its state and its weights has written no weights
        write_record(training, "finished", test=measured)
    training.fabric.barrier()
    return Equilibrium(model, best, training.history, training.best["epoch"], "budget", measured, training.folder)
