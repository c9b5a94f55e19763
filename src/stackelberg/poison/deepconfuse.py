"""DeepConfuse: an auto-encoder of noise, trained along the trajectories of imaginary victims.

Feng, Cai and Zhou, "Learning to confuse" (NeurIPS 2019), Algorithm 2 (memory-efficient) and its label-specific variant.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.func import functional_call

from stackelberg.data import Augment
from stackelberg.errors import StackelbergError, unknown
from stackelberg.games.checkpoint import optimizer_tensors, prefixed, read, restore_optimizer, save_tensors, with_prefix
from stackelberg.models import AutoEncoder, UNet, build
from stackelberg.models.averaging import follow
from stackelberg.poison.generator import Generator, Mover, check_norm, laid_out, shifted
from stackelberg.poison.poisoner import Setting
from stackelberg.threat import chance

Weights = dict[str, Tensor]
Batch = tuple[Tensor, Tensor, Tensor]
"""Images, labels, keys of their augmentation."""
OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class DeepConfuse:
    """max over xi of E loss(C_theta*(x), y), theta* trained on x + g_xi(x): the learner's steps are looked through.

    In each trial an imaginary victim is trained on the poison of the mean generator as it was before the trial. At
    each of its weights theta_i the generator takes a step: theta' = theta_i - look_ahead * grad loss(C_theta_i(x'), y),
    and xi descends on the loss of C_theta' on other, clean images with the labels eta(y) = y + shift mod K, through
    theta'. With shift 0 xi ascends on the loss with the true labels, as in the paper's first form.

    Attributes:
        width: of the generator.
        labels: whether the generator is told the label; the paper's is not.
        narrow: whether it is an auto-encoder, as in the paper, which is not told the label, or a U-Net.
        network: the imaginary victim, a name of `models.NAMES`.
        network_width: of it.
        warm: trajectories of victims that train on clean images, along the last two thirds of which the generator
            learns to make x' look like class y - shift (with shift 0: unlike y). 0 in the paper. Without it the noise
            of a generator that is told the label soon brings features of its own, on which a clean image says nothing,
            and the victim ends at chance.
        trials: trajectories of victims that train on the poison, with the look-ahead.
        steps: of each trajectory, a batch each.
        batch_size: of both players.
        optimizer: of the imaginary victim, "adam" or "sgd" (plain; the paper's).
        rate: its step length, and
        look_ahead: the length of the one step that is looked through (plain gradient).
        leader_rate: the generator's step length (Adam), and
        map_rate: that of its map of each label, from which it starts.
        falling: whether these two fall linearly from trial to trial, to nothing after the last.
        average: decay per step of the running mean of the generator's weights, on whose poison the victims train, and
            which is the result (fictitious play, in weights); 0 for the last weights, as published. Without it each
            trial undoes part of the last one's work.
        shift: of the labels, see above.
        keep: a file for the state after each trial, from which a killed training of the same settings goes on.
    """

    width: int = 8
    labels: bool = True
    narrow: bool = False
    network: str = "small-cnn"
    network_width: int | None = 16
    warm: int = 6
    trials: int = 4
    steps: int = 60
    batch_size: int = 64
    optimizer: str = "adam"
    rate: float = 3e-3
    look_ahead: float = 0.03
    leader_rate: float = 2e-3
    map_rate: float = 0.1
    falling: bool = False
    average: float = 0.0
    shift: int = 1
    keep: Path | None = None

    def __post_init__(self) -> None:
        if min(self.trials, self.steps, self.batch_size) < 1:
            raise StackelbergError(
                f"trials, steps and batch_size must be at least 1, got {self.trials}, {self.steps}, {self.batch_size}"
            )
        if not 0 <= self.average < 1:
            raise StackelbergError(f"average must lie in [0, 1), got {self.average:g}; usual is 0 or 0.999")
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        if self.narrow and self.labels:
            raise StackelbergError("the auto-encoder sees the image alone; pass labels=False with narrow=True")

    def __call__(self, setting: Setting) -> Generator:
        check_norm(setting.ball)
        train = setting.train
        generator, leader = self._leader(setting)
        mean = copy.deepcopy(generator)
        augment = Augment(4) if setting.colour else None
        count = self.warm + self.trials
        for trial in range(self._restored(setting, generator, mean, leader), count):
            if self.falling:
                for group in leader.param_groups:
                    group["lr"] = group["initial_lr"] * (1 - trial / count)
            victim = build(
                self.network,
                len(train.classes),
                train.shape,
                self.network_width,
                *train.mean_std(),
                seed=setting.seed + 1 + trial,
            ).to(setting.device)
            told = copy.deepcopy(mean).eval() if trial >= self.warm else None
            first = self.steps // 3 if told is None else 0
            gained = 0.0
            generator.train()
            for step, (theta, batch) in enumerate(self._trajectory(setting, told, victim, trial, augment)):
                if step < first:
                    continue
                if told is None:
                    loss = self._disguised(setting, generator, victim, theta, batch, augment)
                else:
                    other = self._batch(setting, trial, (step + max(1, self.steps // 2)) % self.steps)
                    loss = self._look_ahead(setting, generator, victim, theta, batch, other, augment)
                leader.zero_grad(set_to_none=True)
                loss.backward()
                leader.step()
                follow(mean, generator, 1 - self.average)
                gained += float(loss.detach()) / (self.steps - first)
            self._kept(setting, generator, mean, leader, trial + 1)
            words = "of the disguise" if told is None else "after the look-ahead"
            setting.say(f"deepconfuse, trial {trial + 1} of {count}: mean loss {words} {gained:.3f}")
        return Generator(setting.ball, len(train.classes), setting.seed, mean, "deepconfuse")

    def _leader(self, setting: Setting) -> tuple[Mover, torch.optim.Optimizer]:
        """The generator at its start, and its optimiser."""
        train = setting.train
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            shape = (train.shape[0], train.shape[1], train.shape[2])
            if self.narrow:
                made: Mover = AutoEncoder(shape, self.width)
            elif self.labels:
                made = UNet(shape, self.width, len(train.classes), 0.0, fine=True)
            else:
                made = UNet(shape, self.width)
            generator = laid_out(made, setting.device)
        maps = [p for name, p in generator.named_parameters() if name == "outer_label"]
        rest = [p for name, p in generator.named_parameters() if name != "outer_label"]
        groups = [{"params": rest, "lr": self.leader_rate}] + [{"params": maps, "lr": self.map_rate}] * bool(maps)
        return generator, torch.optim.Adam([group | {"initial_lr": group["lr"]} for group in groups])

    def _told(self, setting: Setting) -> str:
        """What a state must have been made with to be this training's."""
        return repr((replace(self, keep=None), setting.ball, setting.seed, setting.train.name, len(setting.train)))

    def _kept(self, setting: Setting, generator: Mover, mean: Mover, leader: torch.optim.Optimizer, done: int) -> None:
        if self.keep is not None:
            nets = prefixed("generator.", generator) | prefixed("mean.", mean)
            save_tensors(nets | optimizer_tensors(leader), self.keep, {"done": done, "made with": self._told(setting)})

    def _restored(self, setting: Setting, generator: Mover, mean: Mover, leader: torch.optim.Optimizer) -> int:
        """How many trials are done: those of the file, whose state is taken over where it is of this training."""
        if self.keep is None or not self.keep.is_file():
            return 0
        try:
            state = read(self.keep)
            if state.plain["made with"] != self._told(setting):
                return 0
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise StackelbergError(f"{self.keep} is no state of DeepConfuse ({error}); remove it") from error
        for name, network in (("generator.", generator), ("mean.", mean)):
            network.load_state_dict(with_prefix(state.tensors, name))
        restore_optimizer(leader, state.tensors)
        return int(state.plain["done"])

    def _batch(self, setting: Setting, trial: int, step: int) -> Batch:
        """(x, y, keys) of one step, without replacement inside the step."""
        draw = np.random.default_rng([setting.seed, trial, step])
        index = torch.from_numpy(
            draw.choice(len(setting.train), min(self.batch_size, len(setting.train)), replace=False)
        )
        x, y = setting.train.batch(index)
        keys = chance.fold(chance.fold(index, setting.seed), trial * self.steps + step)
        return x.to(setting.device), y.to(setting.device), keys.to(setting.device)

    def _trajectory(
        self, setting: Setting, generator: Mover | None, victim: nn.Module, trial: int, augment: Augment | None
    ) -> Iterator[tuple[Weights, Batch]]:
        """theta_0, theta_1, ... of the imaginary victim, each with the batch of its next step.

        It trains on the poison of a generator, on clean images for None.
        """
        parameters = list(victim.parameters())
        follower = (
            torch.optim.Adam(parameters, lr=self.rate)
            if self.optimizer == "adam"
            else torch.optim.SGD(parameters, lr=self.rate)
        )
        for step in range(self.steps):
            batch = x, y, keys = self._batch(setting, trial, step)
            yield {name: value.detach().clone() for name, value in victim.named_parameters()}, batch
            with torch.no_grad():
                poisoned = x if generator is None else setting.grid.straight(shifted(generator, setting.ball, x, y), x)
                seen = poisoned if augment is None else augment(poisoned, keys)
            follower.zero_grad(set_to_none=True)
            F.cross_entropy(victim(seen), y).backward()
            follower.step()

    def _disguised(
        self, setting: Setting, generator: Mover, victim: nn.Module, theta: Weights,
        batch: Batch, augment: Augment | None,
    ) -> Tensor:  # fmt: skip
        """CE(C_theta(x'), y - shift), or -CE(C_theta(x'), y) with shift 0."""
        x, y, keys = batch
        poisoned = setting.grid.straight(shifted(generator, setting.ball, x, y), x)
        answer = functional_call(victim, theta, (poisoned if augment is None else augment(poisoned, keys),))
        if self.shift == 0:
            return -F.cross_entropy(answer, y)
        return F.cross_entropy(answer, (y - self.shift) % len(setting.train.classes))

    def _look_ahead(
        self, setting: Setting, generator: Mover, victim: nn.Module, theta: Weights, batch: Batch, other: Batch,
        augment: Augment | None,
    ) -> Tensor:  # fmt: skip
        """The generator's loss on other images after one step of the victim, differentiable through that step."""
        x, y, keys = batch
        theta = {name: value.requires_grad_() for name, value in theta.items()}
        poisoned = setting.grid.straight(shifted(generator, setting.ball, x, y), x)
        seen = poisoned if augment is None else augment(poisoned, keys)
        paid = F.cross_entropy(functional_call(victim, theta, (seen,)), y)
        slopes = torch.autograd.grad(paid, list(theta.values()), create_graph=True)
        ahead = {name: theta[name] - self.look_ahead * slope for name, slope in zip(theta, slopes, strict=True)}
        clean, label, clean_keys = other
        clean = clean if augment is None else augment(clean, chance.fold(clean_keys, 1))
        answer = functional_call(victim, ahead, (clean,))
        if self.shift == 0:
            return -F.cross_entropy(answer, label)
        return F.cross_entropy(answer, (label + self.shift) % len(setting.train.classes))
