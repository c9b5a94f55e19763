"""The poisons that the published code makes, of the same images, with the same surrogate and the same steps.

A peer is a checkout of a repository under its own name in one folder; nothing of it is kept here. Each call takes the
modules that make the noise and leaves out those around them that read data sets (they ask for torchvision), so what a
module needs of its surroundings is put in its place: the images, the surrogate, the order of a training.
"""

import ast
import contextlib
import importlib
import io
import sys
import types
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from stackelberg.data import Augment, Dataset
from stackelberg.games import Standard
from stackelberg.models import UNet, build
from stackelberg.poison.grid import Grid
from stackelberg.poison.gue import GUE
from stackelberg.poison.poisoner import Setting
from stackelberg.poison.surrogates import Surrogate
from stackelberg.threat import Ball


@dataclass(frozen=True)
class Task:
    """What every tool is asked: poison these images in this ball, with this surrogate and at most these steps.

    Attributes:
        train: images and labels.
        ball: in which they may move.
        surrogate: its kind, width, epochs and batch; the steps of the noise while it trains, and at the end.
        rival_steps: of the adversary inside the robust method.
        seed: of all random numbers.
    """

    train: Dataset
    ball: Ball
    surrogate: Surrogate
    rival_steps: int
    seed: int

    @property
    def images(self) -> tuple[Tensor, Tensor]:
        """(x in [0, 1], y), all of them."""
        return self.train.batch(slice(None))

    @property
    def optimizer_steps(self) -> int:
        """Of the surrogate's training."""
        return self.surrogate.epochs * (len(self.train) // self.surrogate.batch_size)

    def fresh(self) -> nn.Module:
        """The surrogate before its training, normalised by these images, as the peers normalise theirs."""
        kind = self.surrogate
        return build(
            kind.network, len(self.train.classes), self.train.shape, kind.network_width, *self.train.mean_std(),
            seed=self.seed + 1,
        )  # fmt: skip

    def trained(self) -> nn.Module:
        """The surrogate after plain training: the same network that our error-maximising method asks."""
        setting = Setting(self.train, self.ball, self.seed, torch.device("cpu"), lambda words: None)
        return self.surrogate.trained(Standard(), setting)

    def orders(self) -> Iterator[Tensor]:
        """Batches of indices without end, each epoch in another order."""
        draw = torch.Generator().manual_seed(self.seed)
        while True:
            order = torch.randperm(len(self.train), generator=draw)
            yield from order.split(self.surrogate.batch_size)[: len(order) // self.surrogate.batch_size]

    def stored(self, moved: Tensor) -> Tensor:
        """Moved images as bytes in the ball, as ours are."""
        x = self.images[0]
        return Grid(self.ball).bytes(self.ball.project(moved, x), x)


Peer = Callable[[Path, Task], Tensor]
"""(folder of the checkouts, task) -> the moved images as bytes [N, C, H, W]."""


def _module(folder: Path, repository: str, name: str, *bare: str) -> Any:
    """A module of a checkout; of the packages named in `bare` the own code, which imports everything, is left out."""
    sys.path.insert(0, str(folder / repository))
    try:
        for package in bare:
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(folder / repository / package.replace(".", "/"))]
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    """As both repositories set it, with a step length that suits a network without batch norm (they: 0.1)."""
    return torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)


def _descend(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    network.train()
    optimizer.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(network(x), y).backward()
    optimizer.step()


def unlearnable_examples(folder: Path, task: Task) -> Tensor:
    """EM by Huang et al.: ten batches of training, then the noise of all images, until it is learnt to 99 %."""
    tools = _module(folder, "Unlearnable-Examples", "toolbox")
    steps, radius = task.surrogate.last_steps, task.ball.radius
    tool = tools.PerturbationTool(seed=task.seed, epsilon=radius, num_steps=steps, step_size=radius / 10)
    network, criterion, (x, y) = task.fresh(), nn.CrossEntropyLoss(), task.images
    optimizer, orders, noise = _sgd(network), task.orders(), torch.zeros_like(x)
    for _ in range(task.optimizer_steps // 10):
        for _ in range(10):
            batch = next(orders)
            network.requires_grad_(True)
            _descend(network, optimizer, x[batch] + noise[batch], y[batch])
        network.eval().requires_grad_(False)
        for batch in torch.arange(len(x)).split(512):
            noise[batch] = tool.min_min_attack(x[batch], y[batch], network, optimizer, criterion, noise[batch])[1]
        with torch.no_grad():
            right = torch.cat([network(part).argmax(1) for part in (x + noise).split(512)]) == y
        if right.float().mean() > 0.99:
            break
    return task.stored(x + noise)


class _Centred(nn.Module):
    """A network that takes x - 1/2, as the code of Fu et al. feeds its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + 0.5)


def robust_em(folder: Path, task: Task) -> Tensor:
    """Robust EM by Fu et al.: each batch gets its noise, the adversary moves it, the surrogate takes a step."""
    attacks = _module(folder, "robust-unlearnable-examples", "attacks")
    kind, levels = task.surrogate, 255 * task.ball.radius
    draw = torch.Generator().manual_seed(task.seed)

    def seen(grey: Tensor) -> Tensor:
        return Augment(4)(grey / 255, draw) - 0.5

    def defender(steps: int) -> Any:
        return attacks.RobustMinimaxPGDDefender(
            1, seen, levels, steps, 2 * levels / steps, True, levels / 2, task.rival_steps, levels / task.rival_steps,
            True,
        )  # fmt: skip

    attacker = attacks.PGDAttacker(levels / 2, task.rival_steps, levels / task.rival_steps, True, "l-infty")
    network, criterion, (x, y) = _Centred(task.fresh()), nn.CrossEntropyLoss(), task.images
    optimizer, orders, grey = _sgd(network), task.orders(), 255 * x
    for _ in range(task.optimizer_steps):
        batch = next(orders)
        noise = defender(kind.steps).perturb(network, criterion, grey[batch], y[batch])
        moved = seen((grey[batch] + 255 * noise).clamp(0, 255))
        _descend(network, optimizer, attacker.perturb(network, criterion, moved, y[batch]), y[batch])
    last = defender(kind.last_steps)
    noise = [last.perturb(network, criterion, grey[part], y[part]) for part in torch.arange(len(x)).split(512)]
    return task.stored(x + torch.cat(noise))


def em_by_fu(folder: Path, task: Task) -> Tensor:
    """EM as Fu et al. run it beside theirs: a step of the surrogate after each batch's noise."""
    attacks = _module(folder, "robust-unlearnable-examples", "attacks")
    kind, levels = task.surrogate, 255 * task.ball.radius

    def defender(steps: int) -> Any:
        return attacks.PGDAttacker(levels, steps, 2 * levels / steps, True, "l-infty", ascending=False)

    network, criterion, (x, y) = _Centred(task.fresh()), nn.CrossEntropyLoss(), task.images
    optimizer, orders = _sgd(network), task.orders()
    for _ in range(task.optimizer_steps):
        batch = next(orders)
        moved = defender(kind.steps).perturb(network, criterion, x[batch] - 0.5, y[batch])
        _descend(network, optimizer, moved, y[batch])
    last = defender(kind.last_steps)
    parts = torch.arange(len(x)).split(512)
    return task.stored(torch.cat([last.perturb(network, criterion, x[p] - 0.5, y[p]) for p in parts]) + 0.5)


class _Furnace:
    """What `village` asks of its data: images in [0, 1] (the network normalises), and where the noise begins."""

    def __init__(self, task: Task, augment: nn.Module) -> None:
        x, y = task.images
        self.dm, self.ds, self.augment = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1), augment
        whole = torch.utils.data.TensorDataset(x, y, torch.arange(len(x)))
        self.poisonloader = torch.utils.data.DataLoader(whole, batch_size=512)
        self.poison_lookup = {place: place for place in range(len(x))}
        draw = torch.Generator().manual_seed(task.seed)
        self._start = (
            torch.randn(x.shape, generator=draw).mul(task.ball.radius).clamp(-task.ball.radius, task.ball.radius)
        )

    def initialize_poison(self) -> Tensor:
        return self._start.clone()


class _Client:
    """What `village` asks of a trained network on one machine."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def eval(self, dropout: bool) -> None:
        self._network.eval()

    def compute(self, closure: Callable[..., Any]) -> Any:
        return closure(self._network, nn.CrossEntropyLoss(), None)

    def sync_gradients(self, noise: Tensor) -> Tensor:
        return noise


def adversarial_poisons(folder: Path, task: Task) -> Tensor:
    """TAP by Fowl et al., "targeted": the class after the true one, one restart; the surrogate is ours."""
    shop = _module(folder, "adversarial_poisons", "village.shop", "village", "village.materials")
    moves = importlib.import_module("village.materials.diff_data_augmentation")
    steps = task.surrogate.last_steps
    settings = Namespace(
        ensemble=1, local_rank=None, attackoptim="PGD", eps=255 * task.ball.radius, tau=2.5 / steps, pbatch=512,
        restarts=1, dryrun=False, full_data=False, scheduling=True, attackiter=steps, step=False, clean_grad=False,
        recipe="targeted", paugment=True, resume="", resume_idx=None,
    )  # fmt: skip
    setup = {"device": torch.device("cpu"), "dtype": torch.float, "non_blocking": True}
    side = task.train.shape[-1]
    furnace = _Furnace(task, moves.RandomTransform(side, side, shift=8, fliplr=True, mode="bilinear"))
    noise = shop.ForgemasterTargeted(settings, setup).forge(_Client(task.trained()), furnace)
    return task.stored(task.images[0] + noise)


def apbench_lsp(folder: Path, task: Task) -> Tensor:
    """LSP as APBench has it, clusters by scikit-learn; asked as for SVHN, whose classes are uneven as ours are."""
    made = _module(folder, "apbench", "attack.lsp_poisons").perturb_with_lsp(
        task.train.x.numpy(), task.train.y.numpy(), "svhn"
    )[0]
    return torch.from_numpy(made).permute(0, 3, 1, 2).contiguous()


@contextlib.contextmanager
def _on_the_processor() -> Iterator[None]:
    """What a script moves to a CUDA device stays where it is."""
    with patch.object(Tensor, "cuda", lambda tensor: tensor), patch.object(nn.Module, "cuda", lambda module: module):
        yield


class _Pictures:
    """A data set as CUDA's script reads and writes it: bytes [N, H, W, C] in `data`."""

    def __init__(self, task: Task) -> None:
        self.data = task.train.x.permute(0, 2, 3, 1).numpy()

    def __len__(self) -> int:
        return len(self.data)


def cuda_script(folder: Path, task: Task) -> Tensor:
    """CUDA by Sadasivan et al.: the function of the script, which as a whole trains and reads its command line."""
    path = folder / "Convolution-based-Unlearnability" / "final_filter_unlearnable.py"
    name = "get_filter_unlearnable"
    bodies = [one for one in ast.parse(path.read_text()).body if getattr(one, "name", "") == name]
    room: dict[str, Any] = {
        "np": np, "torch": torch, "num_cls": len(task.train.classes), "train_transform": None, "mix": 1.0,
        "args": Namespace(dataset="cifar10"), "tqdm": lambda batches, total: batches,
        "datasets": Namespace(CIFAR10=lambda **_: _Pictures(task)),
        "DataLoader": lambda dataset, **_: [task.images],
    }  # fmt: skip
    exec(compile(ast.Module(bodies, []), str(path), "exec"), room)
    with _on_the_processor():
        made = room[name](0.3, 1.0, False, 3, task.seed, False)[0].data
    return torch.from_numpy(made).permute(0, 3, 1, 2).contiguous()


def gue_script(folder: Path, task: Task) -> Tensor:
    """GUE by Liu et al.: their solver at their rates, on our generator without labels and our follower.

    As many steps of both players as ours plays them; their generator, 64 channels wide, takes a minute a step here.
    """
    for name, holds in (("tensorboardX", {"SummaryWriter": None}), ("torchvision", {"datasets": 0, "transforms": 0})):
        if name not in sys.modules:
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(holds)
    script = _module(folder, "gue", "gue")
    ours, count = GUE(), len(task.train)
    channels, height, breadth = task.train.shape
    torch.manual_seed(task.seed)
    leader, follower = UNet((channels, height, breadth), ours.width), task.fresh()
    settings = Namespace(eps=task.ball.radius, num_classes=len(task.train.classes), lr_tmp=1e-4, eta=1.5)
    players = torch.optim.SGD(follower.parameters(), lr=0.01), torch.optim.SGD(leader.parameters(), lr=0.1)
    x, y = task.images
    orders, said = task.orders(), io.StringIO()
    batches = count // task.surrogate.batch_size
    fresh = patch.object(script, "create_net", lambda _: task.fresh())
    with _on_the_processor(), fresh, contextlib.redirect_stdout(said):
        for epoch in range(ours.warm + ours.epochs):
            lessons = [(x[batch], y[batch]) for batch, _ in zip(orders, range(batches), strict=False)]
            script.bome(settings, leader, follower, *players, lessons, 10, epoch)
    leader.eval()
    with torch.no_grad():
        moved = [part + task.ball.radius * leader(part) for part in x.split(512)]
    return task.stored(torch.cat(moved).clamp(0, 1))


PEERS: dict[tuple[str, str], Peer] = {
    ("em", "Unlearnable-Examples"): unlearnable_examples,
    ("em", "robust-unlearnable-examples"): em_by_fu,
    ("robust-em", "robust-unlearnable-examples"): robust_em,
    ("max-targeted", "adversarial_poisons"): adversarial_poisons,
    ("lsp", "apbench"): apbench_lsp,
    ("cuda", "Convolution-based-Unlearnability"): cuda_script,
    ("gue", "gue"): gue_script,
}
"""(our name of the method, the repository) -> how it is asked."""
