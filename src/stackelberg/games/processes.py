"""On which devices, in how many processes?"""

import logging
import os
from collections.abc import Callable
from typing import cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from stackelberg.attacks.oracle import bfloat16_pays
from stackelberg.errors import StackelbergError, unknown
from stackelberg.games import lives, sharding

STRATEGIES = ("ddp", "fsdp")
"""How several processes train one network: each holds all of it, or a part (see `sharding`)."""


def count(devices: int, nodes: int) -> int:
    """How many processes are asked for; by torchrun, if it started this one."""
    if devices < 1 or nodes < 1:
        raise StackelbergError(f"devices and nodes must be at least 1, got devices={devices}, nodes={nodes}")
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else devices * nodes


def launch(
    device: str = "auto", devices: int = 1, nodes: int = 1, precision: str = "auto", strategy: str = "ddp"
) -> Fabric:
    """A started Fabric: one process per device, also under torchrun (which then says how many).

    Batch-norm buffers are not broadcast at every forward (a game makes several between two backwards); they are
    averaged at the end of each epoch instead.
    """
    count(devices, nodes)
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, STRATEGIES)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    accelerator = device.partition(":")[0] if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if accelerator == "cuda" and torch.cuda.device_count() < devices:
        raise StackelbergError(
            f"devices={devices} asked for, but this machine has {torch.cuda.device_count()} CUDA devices"
        )
    if accelerator not in ("cpu", "cuda"):
        raise StackelbergError(f"device must be cpu, cuda or auto, got {device!r}")
    many = devices * nodes > 1
    if many and accelerator == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // devices))
    low = precision == "bfloat16" or (precision == "auto" and bfloat16_pays(torch.device(accelerator)))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces what `run.json` records
    backend = "nccl" if accelerator == "cuda" else "gloo"
    if not many:
        together = "auto"
    elif strategy == "fsdp":
        together = sharding.strategy(devices * nodes, backend)
    else:
        together = DDPStrategy(broadcast_buffers=False, process_group_backend=backend)
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=together,
        precision="bf16-mixed" if low else "32-true",
    )
    if many:
        lives.join(backend)
    fabric.launch()
    return fabric


def share_of(fabric: Fabric, index: Tensor) -> Tensor:
    """This process's part of a batch of examples."""
    return index[fabric.global_rank :: fabric.world_size]


def average_buffers(fabric: Fabric, model: nn.Module) -> None:
    """Make the running statistics of batch norm the mean over processes."""
    if fabric.world_size > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(mean(fabric, buffer))


def mean(fabric: Fabric, value: Tensor) -> Tensor:
    """The mean over processes."""
    return cast(Tensor, fabric.all_reduce(value, reduce_op="mean"))


def global_weights(fabric: Fabric, weigh: Callable[[Tensor], Tensor], payoffs: Tensor) -> Tensor:
    """The game's weights over the whole batch of all processes; this process's part, scaled for averaged gradients."""
    if fabric.world_size == 1:
        return weigh(payoffs.detach())
    everyone = cast(Tensor, fabric.all_gather(payoffs.detach()))  # [processes, B]
    return weigh(everyone.flatten()).view_as(everyone)[fabric.global_rank] * fabric.world_size
