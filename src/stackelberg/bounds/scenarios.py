"""What does the shifted test set look like when somebody attacks?  A data set of adversarial images.

Corruptions are `data.corruption`, domain shifts `data.domain`: they need no network.
"""

from dataclasses import replace

import torch
from torch import nn

from stackelberg.attacks import Attack
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError

BATCH = 500


def attacked(model: nn.Module, dataset: Dataset, attack: Attack) -> Dataset:
    """Every image moved by the attack, as bytes: rounded towards the clean image, so it stays in the attack's ball.

    Rounding costs at most one level a pixel, so some images that fooled the network as floats no longer do.

    Raises:
        StackelbergError: the data set holds no images.
    """
    if dataset.x.dim() != 4:
        raise StackelbergError(
            f"{dataset.name} holds {dataset.kind}, the attacked data set needs images; pass an image set"
        )
    parts = []
    for start in range(0, len(dataset), BATCH):
        x, y = dataset.batch(slice(start, start + BATCH))
        moved = attack(model, x, y)
        clean = dataset.x[start : start + BATCH]
        step = ((moved - x) * 255).to(torch.float64)
        whole = torch.where(step >= 0, (step + 1e-3).floor(), (step - 1e-3).ceil())  # 1e-3: of float rounding
        parts.append((clean.to(torch.float64) + whole).clamp(0, 255).to(torch.uint8))
    return replace(dataset, x=torch.cat(parts), name=f"{dataset.name} under {attack.name}")
