"""With which optimiser, for how long, on which batches?  All that is not the game, the network or the data."""

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from stackelberg.data import Augment, AugmentPoints, Dataset
from stackelberg.errors import StackelbergError
from stackelberg.models.distance_net import DistanceLayer


class Recipe(BaseModel):
    """How the leader descends. Defaults that depend on network and data come from `Recipe.suited`.

    Attributes:
        batch_size: examples per step over all processes.
        optimizer: "sgd" (Nesterov) or "adam".
        learning_rate: the largest of the schedule.
        momentum: of sgd.
        weight_decay: L2, on weights with two or more dimensions only.
        schedule: "one-cycle" (linear up during `warmup`, linear down to 0), "cosine" (down by half a cosine after the
            linear warm-up), "steps" (divided by 10 at 1/2 and 3/4), "constant".
        warmup: share of training in which the learning rate rises.
        radius_warmup: share of training in which the follower's radius rises linearly from 0 to its own.
        average: decay per step of the exponential moving average of the weights that is kept and judged; 0 for none.
        clip: largest norm of the parameter gradient; None for no bound.
        augment: crop padding in pixels, -1 for no augmentation.
        flip: whether images are mirrored (with augmentation only).
        turn: clouds are turned about the vertical by up to so many degrees (this and the next, with augmentation only).
        scale: clouds are stretched by up to this factor along each axis.
        jitter: standard deviation of the noise on the coordinates of clouds.
        drop: largest share of a cloud's points that are dropped.
        held_out: examples of the training set kept apart to choose the best epoch by.
        check_steps: PGD steps of the robust accuracy measured on them after each epoch.
        exploit_n: held-out examples on which exploitability is measured after each epoch; 0 for no such measurement.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(128, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    schedule: Literal["one-cycle", "cosine", "steps", "constant"] = "one-cycle"
    warmup: float = Field(0.2, ge=0, lt=1)
    radius_warmup: float = Field(0.0, ge=0, le=1)
    average: float = Field(0.0, ge=0, lt=1)
    clip: float | None = Field(None, gt=0)
    augment: int = Field(-1, ge=-1)
    flip: bool = False
    turn: float = Field(0.0, ge=0, le=180)
    scale: float = Field(1.25, ge=1)
    jitter: float = Field(0.01, ge=0)
    drop: float = Field(0.0, ge=0, lt=1)
    held_out: int = Field(1000, ge=1)
    check_steps: int = Field(10, ge=1)
    exploit_n: int = Field(0, ge=0)

    @classmethod
    def suited(cls, model: nn.Module, data: Dataset, **changes: object) -> "Recipe":
        """A recipe that suits the network and the data, with the user's `changes`.

        Networks with batch norm get sgd at 0.1; others Adam at 0.001. Colour images are cropped and flipped. A tenth
        of the data is held out, at most 1,000 examples. Clouds get Adam at 0.003 with decay 0.01, batches of 32, and
        are stretched and jittered. Networks of distances get what Zhang et al. (2022) train them
        by, in units of the input: Adam at 0.03, a falling cosine, the radius (hence p) rising in 9 of 10 epochs.
        """
        normed = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        colour = data.x.dim() == 4 and data.x.shape[1] == 3
        values: dict[str, object] = {
            "optimizer": "sgd" if normed else "adam",
            "learning_rate": 0.1 if normed else 1e-3,
            "weight_decay": 5e-4 if normed else 0.0,
            "augment": 4 if colour else -1,
            "flip": colour,
            "held_out": max(1, min(1000, len(data) // 10)),
        }
        if data.cloud:
            values |= {"learning_rate": 3e-3, "weight_decay": 1e-2, "batch_size": 32, "augment": 0}
        if any(isinstance(m, DistanceLayer) for m in model.modules()):
            values |= {
                "learning_rate": 0.03,
                "schedule": "cosine",
                "warmup": 0.0,
                "radius_warmup": 0.9,
                "batch_size": 256,
            }
        values |= changes
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise StackelbergError(f"recipe: {name} got {first['input']!r}: {first['msg'].lower()}") from None

    def augmentation(self, cloud: bool = False) -> Augment | AugmentPoints | None:
        """Pad-crop and flip for images; turn, stretch, jitter and drop for clouds; or None."""
        if self.augment < 0:
            return None
        if cloud:
            return AugmentPoints(self.turn, self.scale, self.jitter, self.drop)
        return Augment(pad=self.augment, flip=self.flip)

    def rate(self, progress: float) -> float:
        """The learning rate at `progress` in [0, 1) of the training."""
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "steps":
            return self.learning_rate * 0.1 ** (int(progress >= 0.5) + int(progress >= 0.75))
        if progress < self.warmup:
            return self.learning_rate * max(progress / self.warmup, 1e-3)
        left = (1 - progress) / (1 - self.warmup)
        return self.learning_rate * (left if self.schedule == "one-cycle" else (1 - math.cos(math.pi * left)) / 2)

    def share(self, progress: float) -> float:
        """How much of the follower's radius is in force at `progress`."""
        return 1.0 if self.radius_warmup == 0 else min(1.0, progress / self.radius_warmup)

    def optimizer_for(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser over the model's parameters; weight decay spares biases and norms."""
        trained = [p for p in model.parameters() if p.requires_grad]
        if not trained:
            raise StackelbergError(
                f"the network ({type(model).__name__}) has no weights that may change, so there is nothing to train;"
                " pass one with parameters that require gradients"
            )
        groups = [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.optimizer == "adam":
            return torch.optim.AdamW(groups, lr=self.learning_rate)
        return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.momentum > 0)
