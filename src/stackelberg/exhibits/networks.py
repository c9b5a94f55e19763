"""Which trained networks do the exhibits need?  Each is trained once, and kept as a run directory."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import nn

from stackelberg import data, games, models
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.models.stored import BEST, RUN
from stackelberg.threat import Ball


@dataclass(frozen=True)
class Network:
    """A network, and how it is trained where no finished run is given.

    Attributes:
        name: of its run directory.
        data: a named data set.
        model: a name of `models.NAMES`.
        width: of the network.
        game: a name of `games.NAMES`, or a game.
        ball: in which the examples move; not used by "standard", nor where a game is given.
        steps: of the adversary's ascent.
        epochs: passes over the training set.
        recipe: fields of `games.Recipe`.
        start: (training set, seed) -> the network as it begins; fresh weights if left out.
    """

    name: str
    data: str
    model: str
    width: int
    game: str | games.Game
    ball: Ball
    steps: int = 3
    epochs: int = 20
    recipe: dict[str, Any] = field(default_factory=dict)
    start: Callable[[Dataset, int], nn.Module] | None = None


def trained(network: Network, runs: Path, seed: int, device: str) -> nn.Module:
    """The network of a finished run in runs/<name>; where there is none, it is trained there, or its training goes on.

    A finished run may have another width, recipe or length than asked; its record goes into the result.

    Raises:
        StackelbergError: the run holds another network, other data, or a game of another kind.
    """
    folder = runs / network.name
    if not finished(folder):
        runs.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # another exhibit may be measured now that needs the same network
            if not finished(folder):
                return _train(network, folder, seed, device)
    _fits(network, _record(folder) or {}, folder)
    return models.load(folder)


def finished(folder: Path) -> bool:
    """Whether a run directory holds a training that came to its end."""
    record = _record(folder)
    return record is not None and record["status"] == "finished"


def provenance(name: str, runs: Path) -> dict[str, Any]:
    """What a result says about a network: SHA-256 of its weights file, and its training."""
    record = _record(runs / name) or {}
    kept = ("model", "data", "game", "recipe", "epochs", "seed", "best_epoch", "environment")
    return {"name": name, "weights": weights_digest(name, runs), **{key: record.get(key) for key in kept}}


def weights_digest(name: str, runs: Path) -> str | None:
    """SHA-256 of a run's weights file, or None where there is none."""
    path = runs / name / BEST
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / RUN
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _train(network: Network, folder: Path, seed: int, device: str) -> nn.Module:
    train = data.load(network.data, "train")
    if network.start is None:
        model = models.build(network.model, len(train.classes), train.shape, network.width, seed=seed)
    else:
        model = network.start(train, seed)
    game = network.game
    if isinstance(game, str):
        game = games.named(game, network.ball, steps=network.steps)
    return games.solve(
        game, model, train, network.epochs, out=folder, resume=True, seed=seed, device=device, **network.recipe
    ).best


def _fits(network: Network, record: dict[str, Any], folder: Path) -> None:
    found = {
        "data": record["data"]["name"],
        "model": (record["model"] or {}).get("name"),
        "game": "standard" if record["game"]["name"] == "Standard" else "with an adversary",
    }
    wanted = {
        "data": network.data,
        "model": network.model,
        "game": "standard" if network.game == "standard" else "with an adversary",
    }
    for key, value in wanted.items():
        if found[key] != value:
            raise StackelbergError(
                f"{folder} holds a run with {key} {found[key]!r}, needed is {value!r}; pass another --runs, or move it"
            )
