"""How does another tool's attack take part here, and ours there?  As one more member of a suite; as `generate`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.hunt import Hunt
from stackelberg.errors import StackelbergError
from stackelberg.models import network
from stackelberg.threat import Ball

Moving = Callable[[nn.Module, Tensor, Tensor], Any]
"""(model, x [b, *shape], y [b]) -> x' [b, *shape], a tensor or an array."""


@dataclass(frozen=True)
class Foreign(Attack):
    """Any callable attack, in ball and box, with its finds verified as every other's are.

    What it returns is projected into the ball; a point that is not finite counts for nothing. It gets the user's own
    module, in float32, and the examples that still stand.

    Attributes:
        attack: called with (model, x, y); untargeted.
        called: its name in reports.
        gradients: whether it asks for gradients; one that does not runs on a black box, too.

    >>> noise = Foreign(Ball("linf", 0.1), lambda model, x, y: x + 0.1, "brighter")
    >>> noise.name
    'brighter'
    """

    ball: Ball
    attack: Moving
    called: str = ""
    gradients: bool = True

    @property
    def name(self) -> str:
        return self.called or getattr(self.attack, "__name__", type(self.attack).__name__).lower()

    def search(self, hunt: Hunt) -> None:
        if hunt.target is not None:
            raise StackelbergError(f"the attack {self.name} of another tool is untargeted; leave target out")
        index = hunt.standing(self.within)
        if not len(index):
            return
        x = hunt.x[index]
        with torch.enable_grad():
            answer = self.attack(hunt.oracle.model, x.clone(), hunt.y[index].clone())
        moved = answer.detach() if isinstance(answer, Tensor) else torch.from_numpy(np.array(answer))
        if moved.shape != x.shape:
            raise StackelbergError(
                f"the attack {self.name} returned the shape {list(moved.shape)} for inputs {list(x.shape)}; it must"
                " return one moved input for each, for example lambda model, x, y: tool(model)(x, y)"
            )
        moved = torch.where(moved.isfinite(), moved, x).to(x)
        hunt.look(index, self.ball.project(moved, x))

    @classmethod
    def foolbox(cls, ball: Ball, attack: Any) -> "Foreign":
        """An attack of Foolbox, for example `foolbox.attacks.LinfPGD(steps=20)`."""

        def move(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            import foolbox  # pyright: ignore[reportMissingImports]

            return attack(foolbox.PyTorchModel(model, bounds=(ball.low, ball.high)), x, y, epsilons=ball.radius)[1]

        return cls(ball, move, f"foolbox-{type(attack).__name__.lower()}")

    @classmethod
    def art(cls, ball: Ball, attack: Any) -> "Foreign":
        """An attack of the Adversarial Robustness Toolbox, which carries its own estimator of the same network."""

        def move(model: nn.Module, x: Tensor, y: Tensor) -> NDArray:
            return attack.generate(x.cpu().numpy(), y.cpu().numpy())

        return cls(ball, move, f"art-{type(attack).__name__.lower()}")


@dataclass(frozen=True)
class ForArt:
    """One of our attacks, or a suite, as the Adversarial Robustness Toolbox calls its own: `generate(x, y)` on arrays.

    Attributes:
        attack: for example `PGD(ball)` or `suite(ball)`.
        model: the network.
    """

    attack: Callable[[nn.Module, Tensor, Tensor], Tensor]
    model: nn.Module

    def generate(self, x: NDArray, y: NDArray | None = None, **_: Any) -> NDArray[np.float32]:
        """Moved inputs, float32, of x's shape.

        Args:
            x: inputs [N, *shape].
            y: labels [N] or one-hot [N, K]; None for what the network answers, as there.
            **_: what other callers of `generate` may pass (a mask), which is not used here.
        """
        inputs = torch.from_numpy(np.asarray(x, np.float32))
        device = next((parameter.device for parameter in self.model.parameters()), inputs.device)
        inputs = inputs.to(device)
        if y is None:
            with torch.no_grad():
                labels = network(self.model, inputs)(inputs).argmax(1)
        else:
            names = np.asarray(y)
            labels = torch.from_numpy((names.argmax(1) if names.ndim == 2 else names).astype(np.int64)).to(device)
        return self.attack(self.model, inputs, labels).cpu().numpy()
