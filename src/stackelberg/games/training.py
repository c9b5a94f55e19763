"""What is the state of a training, and how does it go to disk and come back?"""

import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from stackelberg.attacks import Oracle
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.games import checkpoint, processes, sharding
from stackelberg.games.game import Game
from stackelberg.games.recipe import Recipe
from stackelberg.models import spec_of


@dataclass
class Training:
    """The state of the loop; all that a resumed run needs is in here and goes through `checkpoint`.

    `module` is the network that everybody asks, `trained` the one the optimiser moves: the same one, unless that is in
    parts (see `sharding`); `wrapped` is `trained` as Fabric calls it.
    """

    fabric: Fabric
    game: Game
    module: nn.Module
    trained: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None
    oracle: Oracle
    data: Dataset
    held: Dataset
    recipe: Recipe
    epochs: int
    seed: int
    numbers: dict[str, float]
    record: dict[str, Any]
    folder: Path | None
    save_seconds: float
    channels_last: bool = False
    settled: bool = False
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=lambda: {"epoch": 0, "score": [-1.0, -1.0]})
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps of one epoch; what does not fill a batch waits for the next shuffle."""
        return len(self.data) // self.recipe.batch_size

    @cached_property
    def watched(self) -> tuple[Tensor, Tensor]:
        """Some held-out examples, for a game that watches itself while it is played."""
        return self.held.batch(slice(0, 128))

    @property
    def judged(self) -> nn.Module:
        return self.module if self.average is None else self.average

    def average_buffers(self) -> None:
        """Make the running statistics of batch norm the mean over processes."""
        processes.average_buffers(self.fabric, self.trained)
        sharding.collect(self.trained, self.module)
        if self.average is not None:
            processes.average_buffers(self.fabric, self.average)


def prepare(
    fabric: Fabric, game: Game, model: nn.Module, train: Dataset, epochs: int, plan: Recipe, seed: int,
    out: str | Path | None, save_seconds: float,
) -> Training:  # fmt: skip
    if _channels_last(model):
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.train()
    rest, held = train.split(plan.held_out, seed)
    wrapped = fabric.setup_module(sharding.separate(fabric, model))
    trained = wrapped.module
    fitted = cast(torch.optim.Optimizer, fabric.setup_optimizers(plan.optimizer_for(trained)))
    module = model.to(fabric.device)
    average = copy.deepcopy(module).eval().requires_grad_(False) if plan.average else None
    spec = spec_of(model)
    record = {
        "schema": "stackelberg.run/1",
        "status": "running",
        "model": None if spec is None else spec.model_dump(mode="json"),
        "game": game.describe(),
        "data": {"name": train.name, "n": len(train), "classes": train.classes},
        "recipe": plan.model_dump(),
        "epochs": epochs,
        "seed": seed,
        "processes": fabric.world_size,
        "precision": fabric._precision.precision,
    }
    return Training(
        fabric, game, module, trained, wrapped, fitted, average, Oracle(module), rest.to(fabric.device),
        held.to(fabric.device), plan, epochs, seed, game.start(), record, None if out is None else Path(out),
        save_seconds, channels_last=_channels_last(model),
    )  # fmt: skip


def _channels_last(model: nn.Module) -> bool:
    """Whether its images are laid out with the channel innermost, which convolutions are faster in.

    Not where the channels of a 1x1 convolution do not come in eights: oneDNN (of torch 2.13, on processors with AVX2
    but without AVX-512) writes past the end of its weights' gradient where there are 2 or 4.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    return bool(layers) and all(
        max(layer.kernel_size) > 1 or layer.in_channels % 8 == layer.out_channels % 8 == 0 for layer in layers
    )


def begin_or_resume(training: Training, resume: bool) -> str | None:
    """Take over the state in the run directory; what to tell the user about it, if anything."""
    folder = training.folder
    if folder is None:
        return None
    before = checkpoint.read_record(folder)
    if before is not None and not resume:
        raise StackelbergError(f"{folder} already holds a run; pass --resume to go on with it, or another --out")
    before = {} if before is None else before
    for name, value in training.record.items():
        if name not in ("status", "processes", "precision") and value != before.get(name, value):
            raise StackelbergError(
                f"{folder} holds a run with another {name} ({before[name]!r}, now {value!r});"
                " resume with the same arguments, or pass another --out"
            )
    snapshot, trouble = checkpoint.newest(folder)
    if snapshot is not None:
        _restore(training, snapshot)
    training.fabric.barrier()
    if training.fabric.global_rank == 0:
        write_record(training, "running")
    if resume and snapshot is None:
        return f"{folder}: no checkpoint yet, beginning at the start"
    return trouble if snapshot is None or trouble else f"{folder}: going on after step {training.step}"


def _restore(training: Training, snapshot: checkpoint.Snapshot) -> None:
    tensors, plain = snapshot.tensors, snapshot.plain
    training.module.load_state_dict(checkpoint.with_prefix(tensors, "model."))
    sharding.spread(training.module, training.trained)
    if training.average is not None:
        training.average.load_state_dict(checkpoint.with_prefix(tensors, "average."))
    checkpoint.restore_optimizer(training.optimizer, tensors)
    training.best_weights = checkpoint.with_prefix(tensors, "best.")
    training.step, training.history, training.numbers = plain["step"], plain["history"], plain["numbers"]
    training.best, training.loss, training.seconds = plain["best"], plain["loss"], plain["seconds"]
    training.oracle = Oracle(training.module, plain["oracle"]["precision"], plain["oracle"]["view"])


def save(training: Training) -> None:
    if training.folder is None:
        return
    moments = checkpoint.optimizer_tensors(training.optimizer)  # all processes put theirs together
    if training.fabric.global_rank:
        return
    tensors = checkpoint.prefixed("model.", training.module) | checkpoint.prefixed("average.", training.average)
    tensors |= moments
    tensors |= {"best." + name: value for name, value in training.best_weights.items()}
    plain = {
        "step": training.step,
        "history": training.history,
        "numbers": training.numbers,
        "best": training.best,
        "loss": training.loss,
        "seconds": training.seconds,
        "oracle": {"precision": training.oracle.precision, "view": training.oracle.view},
    }
    checkpoint.save(checkpoint.Snapshot(tensors, plain), training.folder)


def write_weights(training: Training, best: bool) -> None:
    """last.safetensors, and best.safetensors if the best network is a new one, or may not have been written."""
    folder = training.folder
    assert folder is not None
    checkpoint.save_tensors(dict(training.judged.state_dict()), folder / "last.safetensors")
    if best:
        checkpoint.save_tensors(training.best_weights, folder / "best.safetensors")


def write_record(training: Training, status: str, **more: Any) -> None:
    assert training.folder is not None
    ran = {
        "status": status,
        "history": training.history,
        "best_epoch": training.best["epoch"],
        "environment": checkpoint.environment(training.fabric.device),
    }
    checkpoint.write_record(training.record | ran | more, training.folder)
