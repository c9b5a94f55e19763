"""How do public tools plant and find backdoors and aimed poison, from the same images and networks?

None is a dependency, and each runs by its own code, untouched; what is added here hands things over.

- ART 1.20.1 (adversarial-robustness-toolbox, on PYTHONPATH): its detectors, its label-consistent backdoor, its feature
  collision and gradient matching. Its bullseye does not run for a new head on known features (it cuts the gradient).
- ucsb-seclab/BullseyePoison (a checkout, at 65af294): the authors' bullseye. Of its file the functions are taken that
  make the poison; its assertion that the ball is 0.1 is left out.
- hong-xian/backdoor-attack (a checkout): the authors' script of the clean-label trigger. It is one file that begins to
  train when it is imported, on a CUDA device, so its functions are taken out of it, its `.cuda()` is made to do
  nothing, and the lines between them are followed here. It comes with no F_1, so both tools ask the same one.
"""

import ast
import copy
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.data import Dataset
from stackelberg.poison.learner import features, head_of
from stackelberg.threat import Ball

BOX = (0.0, 1.0)


def of_art(model: nn.Module, shape: tuple[int, ...], classes: int) -> Any:
    """A network as ART's estimator."""
    from art.estimators.classification import PyTorchClassifier  # pyright: ignore[reportMissingImports]

    return PyTorchClassifier(
        model=model.eval(), loss=nn.CrossEntropyLoss(), input_shape=shape, nb_classes=classes, clip_values=BOX,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01), device_type="cpu",
    )  # fmt: skip


class _Below(nn.Module):
    """What comes into the head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return features(self.model, x)


def _halves(model: nn.Module) -> nn.Sequential:
    """Features, then a head of its own: what ART calls a layer must be a member of a sequence, and of it alone."""
    return nn.Sequential(_Below(model), copy.deepcopy(head_of(model)))


def activations_by_art(model: nn.Module, data: Dataset, share: float) -> Tensor:
    """Flagged examples, [N]: clusters of activations, smaller ones suspected, as ART's notebook has it."""
    from art.defences.detector.poison import ActivationDefence  # pyright: ignore[reportMissingImports]

    defence = ActivationDefence(*_received(model, data))
    _, clean = defence.detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA")
    return torch.tensor(clean) == 0


def signatures_by_art(model: nn.Module, data: Dataset, share: float) -> Tensor:
    """Flagged examples, [N]."""
    from art.defences.detector.poison import SpectralSignatureDefense  # pyright: ignore[reportMissingImports]

    defence = SpectralSignatureDefense(*_received(model, data), expected_pp_poison=share, batch_size=500)
    _, clean = defence.detect_poison()
    return torch.tensor(clean) == 0


def _received(model: nn.Module, data: Dataset) -> tuple[Any, np.ndarray, np.ndarray]:
    """(estimator whose last layer but one are the features, images, labels as both detectors want them)."""
    x, y = data.batch(slice(None))
    return of_art(_halves(model), data.shape, len(data.classes)), x.numpy(), np.eye(len(data.classes))[y.numpy()]


DETECTORS: dict[str, Callable[[nn.Module, Dataset, float], Tensor]] = {
    "activation clustering": activations_by_art,
    "spectral signatures": signatures_by_art,
}


@dataclass(frozen=True)
class Asked:
    """One aimed poison that is wanted.

    Attributes:
        model: whose features are known.
        x: base images, all of the class that is wished, [P, C, H, W].
        y: that class, [P].
        image: the target, [1, C, H, W].
        budget: of the ball, linf.
        steps: of the descent.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    image: Tensor
    budget: float
    steps: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image."""
        return tuple(self.x.shape[1:])


def collided_by_art(asked: Asked) -> Tensor:
    """ART's feature collision, image by image; it knows no ball but a price of similarity."""
    from art.attacks.poisoning import FeatureCollisionAttack  # pyright: ignore[reportMissingImports]

    halves = of_art(_halves(asked.model), asked.shape, head_of(asked.model).out_features)
    target, moved = asked.image.numpy(), []
    for one in asked.x.numpy():
        attack = FeatureCollisionAttack(halves, target, feature_layer=0, max_iter=asked.steps, verbose=False)
        moved.append(attack.poison(one[None])[0])
    return torch.from_numpy(np.concatenate(moved)).float()


def matched_by_art(asked: Asked) -> Tensor:
    """ART's gradient matching, all base images poisoned, its schedule on so many steps."""
    from art.attacks.poisoning import GradientMatchingAttack  # pyright: ignore[reportMissingImports]

    steps = asked.steps
    attack = GradientMatchingAttack(
        of_art(asked.model, asked.shape, head_of(asked.model).out_features), 1.0, epsilon=asked.budget, max_trials=1,
        max_epochs=steps, verbose=0,
        learning_rate_schedule=([1e-1, 1e-2, 1e-3, 1e-4], [int(steps * part) for part in (0.4, 0.6, 0.8, 0.88)]),
    )  # fmt: skip
    moved, _ = attack.poison(asked.image.numpy(), asked.y[:1].numpy(), asked.x.numpy(), asked.y.numpy())
    return torch.from_numpy(np.array(moved)).float()


def bullseye_by_authors(folder: Path, asked: Asked) -> Tensor:
    """The authors' `make_convex_polytope_poisons` in mode "mean", steps of 0.04 as they set it."""
    names: dict[str, Any] = {
        "torch": torch, "np": np, "nn": nn, "time": time, "sys": sys, "os": os,
        "get_poison_tuples": lambda batch, label: [(one.detach(), label) for one in batch.poison.data],
    }  # fmt: skip
    taken = ("PoisonBatch", "proj_onto_simplex", "least_squares_simplex", "loss_from_center", "get_CP_loss")
    _take(folder / "trainer.py", (*taken, "make_convex_polytope_poisons"), names)
    names["least_squares_simplex"].__defaults__ = (1e-6, False, "cpu")
    net, base = _Asking(asked.model), list(asked.x)
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(io.StringIO()):
        made = names["make_convex_polytope_poisons"](
            [net], net, base, asked.image, "cpu", lr=0.04, iterations=asked.steps, epsilon=asked.budget,
            mean=torch.zeros(1, 3, 1, 1), std=torch.ones(1, 3, 1, 1), chk_path=scratch, poison_init=base, mode="mean",
        )  # fmt: skip
    return torch.stack([one for one, _ in made])


class _Asking(_Below):
    """Features, asked as the authors ask their networks."""

    def forward(self, x: Tensor, penu: bool = True) -> Tensor:
        return super().forward(x)


def _take(path: Path, names: tuple[str, ...], into: dict[str, Any]) -> None:
    """Define these functions and classes of a script, and nothing else of it; its assertions are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kept: list[ast.stmt] = [
        node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names
    ]
    exec(compile(ast.Module(kept, []), str(path), "exec", optimize=1), into)


def consistent_by_art(
    surrogate: nn.Module, pool: Tensor, count: int, target: int, classes: int, budget: float, steps: int,
    stamp: Callable[[Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """The pool, all of the target class, `count` of it moved away from it and stamped; ART draws some of them twice."""
    from art.attacks.poisoning import (  # pyright: ignore[reportMissingImports]
        PoisoningAttackBackdoor,
        PoisoningAttackCleanLabelBackdoor,
    )

    label = np.eye(classes)[target]
    attack = PoisoningAttackCleanLabelBackdoor(
        PoisoningAttackBackdoor(lambda images: stamp(torch.from_numpy(images).float()).numpy()),
        of_art(surrogate, tuple(pool.shape[1:]), classes), label, pp_poison=(count + 0.5) / len(pool), norm=np.inf,
        eps=budget, eps_step=2.5 * budget / steps, max_iter=steps, num_random_init=1,
    )  # fmt: skip
    moved, _ = attack.poison(pool.numpy(), np.tile(label, (len(pool), 1)))
    return torch.from_numpy(moved).float()


class Script:
    """The authors' clean-label trigger: F_2 is trained on being made, then images are triggered.

    Args:
        folder: of the checkout.
        surrogate: F_1.
        train: images, of which the first `images` train F_2.
        ball: linf; the script's variable `bud` is its radius.
        epochs: of F_2 (the script: 40).
        inner: sign steps before each step of F_2 (the script: 40).
        images: that train F_2 (the script: 10,000).
    """

    TAKEN = ("RFcry", "fanzhuan", "tianchong", "caijain", "qianghua", "Fg", "Fgry", "Fgry1", "zzo")
    BATCH = 100
    """The script's; its functions are written for it."""

    def __init__(
        self, folder: Path, surrogate: nn.Module, train: Dataset, ball: Ball, images: int, epochs: int, inner: int
    ) -> None:
        outside = torch.ones(1, 3, 32, 32)
        outside[:, :, :16, :16] = 0
        self.outside = outside
        self.names: dict[str, Any] = {
            "torch": torch, "np": np, "nn": nn, "F": F, "bud": ball.radius, "netbg": surrogate.eval(),
            "criterion": nn.CrossEntropyLoss(), "transforms": _transforms(),
        }  # fmt: skip
        _take(folder / "backdoor_attack_method.py", self.TAKEN, self.names)
        self.budget, self.surrogate = ball.radius, surrogate
        with patch.object(Tensor, "cuda", _stay), patch.object(nn.Module, "cuda", _stay), untouched(surrogate):
            self._train(train, images, epochs, inner)

    def _train(self, train: Dataset, images: int, epochs: int, inner: int) -> None:
        """The script's lines from "Create the Binary Classification Data Set" to "Train F_2"."""
        net = self.names["RFcry"]()
        self.names["netry"] = net
        descent = torch.optim.SGD(net.parameters(), lr=0.01, weight_decay=0.0001, momentum=0.9)
        pairs: list[tuple[Tensor, int]] = []
        for at in range(0, images, self.BATCH):
            x, y = train.batch(slice(at, at + self.BATCH))
            moved = self.names["Fg"](x, y, 2 / 255, 40, x, self.outside.expand(self.BATCH, -1, -1, -1))
            moved = torch.clamp((moved - x) * 2, -self.budget, self.budget) + x
            for noisy, clean in zip(moved, x, strict=True):
                pairs += [(noisy.detach(), 0), (clean.detach(), 1)]
        loader = torch.utils.data.DataLoader(pairs, batch_size=self.BATCH, shuffle=True)  # pyright: ignore[reportArgumentType]
        for _ in range(epochs):
            for x, y in loader:
                net.eval()
                moved = self.names["Fgry1"](net, x, y, 1 / 255, inner, x, 1 - self.outside)
                seen = self.names["qianghua"](moved)
                net.train()
                loss = self.names["criterion"](net(seen), y)
                descent.zero_grad()
                loss.backward()
                descent.step()

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Triggered images; like the script's they are not kept in [0, 1]."""
        net, parts = self.names["netry"].eval(), []
        with patch.object(Tensor, "cuda", _stay), untouched(self.surrogate):
            for at in range(0, len(x), self.BATCH):
                some, labels = x[at : at + self.BATCH].clone(), y[at : at + self.BATCH]
                first = self.names["Fg"](some, labels, 2 / 255, 40, some, self.outside)
                first = torch.clamp((first - some) * 2, -self.budget, self.budget) + some
                second = self.names["Fgry"](net, first, labels * 0, 1 / 255, 40, first, 1 - self.outside)
                parts.append((torch.clamp((second - some) * 2, -self.budget, self.budget) + some).detach())
        return torch.cat(parts)


def _transforms() -> SimpleNamespace:
    """The two transforms that the script asks of torchvision, for one image."""

    def mirrored(p: float) -> Callable[[Tensor], Tensor]:
        return lambda image: image.flip(-1)

    def cropped(size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
        def crop(image: Tensor) -> Tensor:
            top, left = (int(torch.randint(image.shape[at] - size[at - 1] + 1, ())) for at in (1, 2))
            return image[:, top : top + size[0], left : left + size[1]]

        return crop

    def compose(steps: list[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
        (only,) = steps
        return only

    return SimpleNamespace(Compose=compose, RandomHorizontalFlip=mirrored, RandomCrop=cropped)


def _stay(thing: Any, *_: object, **__: object) -> Any:
    return thing
