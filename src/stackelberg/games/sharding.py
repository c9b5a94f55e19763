"""How does a network train in parts, one part in each process?  Fully sharded, beside a whole copy that is asked.

Each process keeps its share of every parameter, gradient and moment of the optimiser, and gathers the parameters of a
block when the leader's step comes to it. The follower asks a whole copy: it makes many passes between two steps, and
the copy is gathered once for all of them. Checkpoints hold whole tensors, the same as in one process.
"""

import copy

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def strategy(processes: int, backend: str) -> ModelParallelStrategy:
    """Fabric's strategy for a network in `processes` parts."""
    return ModelParallelStrategy(
        _in_parts, data_parallel_size=processes, tensor_parallel_size=1, process_group_backend=backend
    )


def _in_parts(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """The model with its parameters split over the processes, block by block where it is a row of blocks."""
    parts = mesh["data_parallel"]
    for row in model.children():
        if isinstance(row, nn.Sequential | nn.ModuleList):
            for block in row:
                if any(True for _ in block.parameters()):
                    fully_shard(block, mesh=parts)
    fully_shard(model, mesh=parts)
    return model


def separate(fabric: Fabric, model: nn.Module) -> nn.Module:
    """The network that is trained: the model itself, or where the strategy splits it a copy that may be split."""
    return copy.deepcopy(model) if isinstance(fabric.strategy, ModelParallelStrategy) else model


def whole(tensor: Tensor) -> Tensor:
    """All parts of a tensor together; a tensor without parts unchanged. Every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, value: Tensor) -> Tensor:
    """This process's part of `value`, split as `tensor` is; all of it where that is not split."""
    if not isinstance(tensor, DTensor) or value.shape != tensor.shape:
        return value
    return distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)


@torch.no_grad()
def collect(parts: nn.Module, model: nn.Module) -> None:
    """Take the parameters and buffers of the network in parts over into the whole one. Every process must ask."""
    if parts is not model:
        theirs = parts.state_dict()
        for name, mine in model.state_dict().items():
            mine.copy_(whole(theirs[name]))


@torch.no_grad()
def spread(model: nn.Module, parts: nn.Module) -> None:
    """The other way round: this process's part of every parameter, and all buffers."""
    if parts is not model:
        mine = model.state_dict()
        for name, theirs in parts.state_dict().items():
            theirs.copy_(like(theirs, mine[name]))
