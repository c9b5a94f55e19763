"""Which trained VAEs do the exhibits need?  Each is trained once, and kept in the folder of the runs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from stackelberg.data import Dataset
from stackelberg.files import write_text
from stackelberg.games import Fit, Reconstruction
from stackelberg.games.processes import launch
from stackelberg.models import VAE, load_vae, save_vae
from stackelberg.threat import Ball

WEIGHTS, RECORD = "vae.safetensors", "vae.json"


@dataclass(frozen=True)
class Generator:
    """A VAE, and how it is trained where it is not kept.

    Attributes:
        name: of its folder.
        data: a named data set.
        n: its first so many training images.
        critic: whether it is a VAE-GAN.
        norm: of the ball in which the follower moves the images in training; None where nobody moves.
        radius: of that ball.
        steps: of the follower.
        epochs: passes over the images.
        latent: numbers of a code.
        width: of the network.
        learning_rate: of Adam.
        batch_size: of a step.
    """

    name: str
    data: str
    n: int
    critic: bool = False
    norm: str | None = None
    radius: float = 0.0
    steps: int = 2
    epochs: int = 6
    latent: int = 16
    width: int = 16
    learning_rate: float = 4e-3
    batch_size: int = 64


def trained_vae(asked: Generator, train: Dataset, runs: Path, seed: int, device: str) -> tuple[VAE, float]:
    """(the VAE, its mean loss in the last epoch of its training); kept in runs/<name> with all that decided it."""
    folder, record = runs / asked.name, {**asdict(asked), "seed": seed}
    place = launch(device).device
    if (folder / RECORD).is_file():
        before = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if {key: value for key, value in before.items() if key != "loss"} == record:
            return load_vae(folder / WEIGHTS).to(place), before["loss"]
    train = train.take(asked.n)
    channels, height, breadth = train.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = VAE((channels, height, breadth), asked.latent, asked.width, asked.critic).to(place)
    game = Reconstruction(None if asked.norm is None else Ball(asked.norm, asked.radius), steps=asked.steps)
    fit = Fit(epochs=asked.epochs, batch_size=asked.batch_size, learning_rate=asked.learning_rate, seed=seed)
    loss = fit(vae, train, game)[-1]
    save_vae(vae, folder / WEIGHTS)
    write_text(folder / RECORD, json.dumps(record | {"loss": loss}, indent=1) + "\n")
    return vae, loss
