"""Who was audited, and where?"""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
import torch
from scipy.fft import dctn
from torch import Tensor, nn

from stackelberg.data import Dataset
from stackelberg.models import spec_of
from stackelberg.models.weights import fingerprint
from stackelberg.report.records import DataRecord, Environment, ModelRecord


def model_record(model: nn.Module, outputs: int) -> ModelRecord:
    """The network's name, size and the SHA-256 of its weights."""
    spec = spec_of(model)
    return ModelRecord(
        name=type(model).__name__ if spec is None else spec.name,
        parameters=sum(p.numel() for p in model.parameters()),
        outputs=outputs,
        weights=fingerprint(model),
        spec=None if spec is None else spec.model_dump(mode="json"),
    )


def data_record(data: Dataset, chosen: str, index: Tensor) -> DataRecord:
    """Which examples were audited."""
    return DataRecord(
        name=data.name, size=len(data), shape=data.shape, classes=tuple(data.classes), chosen=chosen,
        index=tuple(index.tolist()),
    )  # fmt: skip


def environment(model: nn.Module, processes: int, seconds: float) -> Environment:
    """Versions, hardware and time."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return Environment(
        stackelberg=version("stackelberg"),
        torch=torch.__version__,
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        processor=_processor(),
        device=name,
        threads=torch.get_num_threads(),
        processes=processes,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
    )


def _processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def jpeg_traces(data: Dataset, count: int = 500) -> bool:
    """Whether most high frequencies of the images' 8x8 luma blocks vanish, as JPEG's quantisation leaves them.

    Of small colour images (from 8 up to 64 pixels a side): in the block's orthonormal cosine transform, coefficients
    (u, v) with u + v >= 9 below 1 grey level. A JPEG copy of CIFAR-10 shows 94 %, the exact images 27 %; limit: 70 %.
    """
    if data.x.dtype != torch.uint8 or len(data.shape) != 3 or data.shape[0] != 3 or not 8 <= max(data.shape[1:]) <= 64:
        return False
    x = data.x[:count].double().cpu()
    luma = (x * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)).sum(1)
    blocks = luma.unfold(1, 8, 8).unfold(2, 8, 8).reshape(-1, 8, 8).numpy()
    blocks = blocks[blocks.std((1, 2)) > 4]  # flat blocks tell nothing
    if not len(blocks):
        return False
    high = np.add.outer(np.arange(8), np.arange(8)) >= 9
    waves = np.asarray(dctn(blocks, axes=(1, 2), norm="ortho"))
    return bool((np.abs(waves[:, high]) < 1).mean() > 0.7)
