"""How good is a network on data nobody trained on?"""

import torch
from lightning_fabric import Fabric
from torch import nn

from stackelberg.attacks import PGD, untouched
from stackelberg.data import Dataset
from stackelberg.games import processes
from stackelberg.games.game import Game
from stackelberg.models import embedded
from stackelberg.threat.payoff import margin

JUDGE_BATCH = 250


def judge(
    model: nn.Module, data: Dataset, game: Game, steps: int, fabric: Fabric | None = None
) -> dict[str, float | None]:
    """Accuracy on `data`: clean, under PGD in the game's ball (None: nobody attacks), proved (None: no proof)."""
    index = torch.arange(len(data), device=data.device)
    mine = index if fabric is None else processes.share_of(fabric, index)
    counts, proves = torch.zeros(3, device=data.device), False
    with untouched(model), torch.no_grad():
        for part in mine.split(JUDGE_BATCH):
            x, y = data.batch(part)
            x = embedded(model, x)
            right = margin(model(x), y) <= 0
            counts[0] += right.sum()
            if game.threat is not None:
                moved = PGD(game.threat, steps=steps)(model, x, y)
                counts[1] += (right & (margin(model(moved), y) <= 0)).sum()
            proved = game.proved(model, x, y)
            if proved is not None:
                proves = True
                counts[2] += proved.sum()
    clean, robust, certified = (
        (counts if fabric is None else processes.mean(fabric, counts) * fabric.world_size) / len(data)
    ).tolist()
    return {
        "clean": clean,
        "robust": None if game.threat is None else robust,
        "certified": certified if proves else None,
    }
