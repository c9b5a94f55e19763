"""The same question put to other tools, each with its own defaults: what moved inputs do they return?"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from stackelberg.threat import Ball

Tool = Callable[[nn.Module, Tensor, Tensor, Ball], Tensor]

STEPS = 50


def by_autoattack(model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """AutoAttack, standard version, fixed seed."""
    from autoattack import AutoAttack  # pyright: ignore[reportMissingImports]

    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[ball.norm]
    attack = AutoAttack(model, norm=norm, eps=ball.radius, seed=0, version="standard", device=str(x.device))
    return attack.run_standard_evaluation(x, y, bs=256)


def by_foolbox(model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """Foolbox's PGD."""
    import foolbox  # pyright: ignore[reportMissingImports]

    kinds = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD, "l1": foolbox.attacks.L1PGD}
    attack = kinds[ball.norm](steps=STEPS)
    return attack(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=ball.radius)[1]


def by_torchattacks(model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """The PGD of torchattacks (linf and l2)."""
    import torchattacks  # pyright: ignore[reportMissingImports]

    kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[ball.norm]
    return kind(model, eps=ball.radius, alpha=ball.radius / 4, steps=STEPS)(x, y)


def by_art(model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """The PGD of the Adversarial Robustness Toolbox."""
    from art.attacks.evasion import ProjectedGradientDescent  # pyright: ignore[reportMissingImports]
    from art.estimators.classification import PyTorchClassifier  # pyright: ignore[reportMissingImports]

    classes = int(model(x[:1]).shape[1])
    estimator = PyTorchClassifier(model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0.0, 1.0))
    norm = {"linf": np.inf, "l2": 2, "l1": 1}[ball.norm]
    attack = ProjectedGradientDescent(
        estimator, norm, ball.radius, ball.radius / 4, max_iter=STEPS, num_random_init=1, batch_size=256, verbose=False
    )
    return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


PEERS: dict[str, tuple[str, Tool]] = {
    "AutoAttack standard": ("autoattack", by_autoattack),
    "Foolbox PGD-50": ("foolbox", by_foolbox),
    "torchattacks PGD-50": ("torchattacks", by_torchattacks),
    "ART PGD-50": ("art", by_art),
}
