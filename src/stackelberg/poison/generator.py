"""How is a new picture protected in one forward pass?  By a network that was trained to move pictures."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.files import replacing
from stackelberg.models import AutoEncoder, UNet
from stackelberg.models.weights import put
from stackelberg.poison.poisoner import Images, Labels, Poisoner
from stackelberg.threat import Ball

SCHEMA = "stackelberg.generator/1"
Net = TypeVar("Net", bound=nn.Module)
Mover = UNet | AutoEncoder
"""A network that says how an image moves."""


def shifted(network: Mover, ball: Ball, x: Images, y: Labels) -> Images:
    """x + delta with delta from the network's field u in (-1, 1), inside ball and box, with gradient.

    linf: delta = radius u. l2 and l1: delta = u scaled down to the radius where its norm exceeds it.
    """
    x_laid = x.contiguous(memory_format=torch.channels_last)
    u = network(x_laid, y) if network.classes else network(x_laid)
    if ball.norm == "linf":
        return (x + ball.radius * u).clamp(0, 1)
    size = torch.linalg.vector_norm(u.flatten(1), ord={"l2": 2, "l1": 1}[ball.norm], dim=1).clamp(min=1e-12)
    return (x + u * (ball.radius / size).clamp(max=1).view(-1, 1, 1, 1)).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Generator(Poisoner):
    """x' = round(clip(x + radius u(x, y))) with a network u, in evaluation mode.

    `generator(x, y)` takes and returns bytes [B, C, H, W]; it needs no other example and no optimisation.

    Attributes:
        network: a U-Net or an auto-encoder.
        method: which made it, for the records.
    """

    network: Mover = field(default_factory=lambda: UNet((1, 4, 4)))
    method: str = "gue"

    def __post_init__(self) -> None:
        check_norm(self.ball)
        self.network.eval()

    def moved(self, x: Images, y: Labels, keys: Int64[Tensor, " B"]) -> Images:
        if tuple(x.shape[1:]) != self.network.shape:
            raise StackelbergError(
                f"the generator was made for images {list(self.network.shape)}, got {list(x.shape[1:])}; pass images of"
                " that shape"
            )
        with torch.no_grad():
            return shifted(self.network.eval(), self.ball, x, y)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and record as one safetensors file, whole or not at all."""
        ball, network = self.ball, self.network
        record = {
            "schema": SCHEMA, "method": self.method, "norm": ball.norm, "radius": ball.radius, "classes": self.classes,
            "shape": network.shape, "width": network.width, "labels": network.classes, "fine": network.fine,
            "seed": self.seed, "network": "unet" if isinstance(network, UNet) else "autoencoder",
        }  # fmt: skip
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
        with replacing(path) as scratch:
            scratch.write_bytes(save(tensors, {"format": "pt", "generator": json.dumps(record)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> "Generator":
        """Read what `save` has written.

        Raises:
            StackelbergError: there is no such file, or it is no generator of this version.
        """
        if not Path(path).is_file():
            raise StackelbergError(f"there is no generator {path}; pass the file that poison availability wrote")
        try:
            with safe_open(path, "pt") as file:
                record = json.loads((file.metadata() or {})["generator"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if record["schema"] != SCHEMA:
                raise ValueError(f"its schema is {record['schema']}")
            shape, width = tuple(record["shape"]), record["width"]
            network = (
                AutoEncoder(shape, width)
                if record.get("network") == "autoencoder"
                else UNet(shape, width, record["labels"], fine=record["fine"])
            )
            ball = Ball(record["norm"], record["radius"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise StackelbergError(f"{path} is no {SCHEMA} file ({error}); make the generator again") from error
        put(tensors, network, str(path))
        return cls(ball, record["classes"], record["seed"], network.to(device), record["method"])


def check_norm(ball: Ball) -> None:
    """A generator's answer is smooth: it cannot choose a few coordinates."""
    if ball.norm == "l0":
        raise StackelbergError("a generator moves every pixel, so it needs norm linf, l2 or l1, got 'l0'")


def laid_out(network: Net, device: torch.device | str) -> Net:
    """The network on a device, its pixels' channels side by side: a third faster for narrow convolutions."""
    return network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
