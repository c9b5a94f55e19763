"""DeepConfuse: an auto-encoder of noise, trained along recorded trajectories of an imaginary victim.

Feng, Cai and Zhou, "Learning to confuse" (NeurIPS 2019), Algorithm 2 (memory-efficient) and its label-specific variant.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from stackelberg.data import Augment
from stackelberg.errors import StackelbergError
from stackelberg.models import UNet, build
from stackelberg.poison.generator import Generator, check_norm, laid_out, shifted
from stackelberg.poison.poisoner import Setting
from stackelberg.threat import chance

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class DeepConfuse:
    """max over xi of E loss(C_theta*(x), y), theta* trained on x + g_xi(x): the learner's steps are looked through.

    Each trial: (1) an imaginary victim is trained on the poison of the present generator, and its weights theta_i are
    recorded; (2) the generator follows them one by one: theta' = theta_i - look_ahead * grad loss(C_theta_i(x'), y),
    and xi descends on the loss of C_theta' on clean images with the labels eta(y) = y + shift mod K, through theta'.
    With shift 0 xi ascends on the loss with the true labels, as in the paper's first form.

    Attributes:
        width: of the U-Net.
        labels: whether the generator is told the label; the paper's is not.
        network: the imaginary victim, a name of `models.NAMES`.
        network_width: of it.
        warm: trajectories of victims that train on clean images, along the last two thirds of which the generator
            learns to make x' look like class y - shift (with shift 0: unlike y). 0 in the paper. Without it the noise
            soon brings features of its own, on which a clean image says nothing, and the victim ends at chance.
        trials: trajectories of victims that train on the poison, with the look-ahead.
        steps: of each trajectory, a batch each.
        batch_size: of both players.
        rate: the imaginary victim's step length (Adam), and
        look_ahead: the length of the one step that is looked through (plain gradient).
        leader_rate: the generator's step length (Adam), and
        map_rate: that of its map of each label, from which it starts.
        shift: of the labels, see above.
    """

    width: int = 8
    labels: bool = True
    network: str = "small-cnn"
    network_width: int | None = 16
    warm: int = 6
    trials: int = 4
    steps: int = 60
    batch_size: int = 64
    rate: float = 3e-3
    look_ahead: float = 0.03
    leader_rate: float = 2e-3
    map_rate: float = 0.1
    shift: int = 1

    def __post_init__(self) -> None:
        if min(self.trials, self.steps, self.batch_size) < 1:
            raise StackelbergError(
                f"trials, steps and batch_size must be at least 1, got {self.trials}, {self.steps}, {self.batch_size}"
            )

    def __call__(self, setting: Setting) -> Generator:
        check_norm(setting.ball)
        train, device = setting.train, setting.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            shape = (train.shape[0], train.shape[1], train.shape[2])
            generator = laid_out(
                UNet(shape, self.width, len(train.classes), 0.0, fine=True) if self.labels else UNet(shape, self.width),
                device,
            )
        maps = [p for name, p in generator.named_parameters() if name == "outer_label"]
        rest = [p for name, p in generator.named_parameters() if name != "outer_label"]
        groups = [{"params": rest}] + [{"params": maps, "lr": self.map_rate}] * bool(maps)
        leader = torch.optim.Adam(groups, lr=self.leader_rate)
        augment = Augment(4) if setting.colour else None
        for trial in range(self.warm + self.trials):
            victim = build(
                self.network,
                len(train.classes),
                train.shape,
                self.network_width,
                *train.mean_std(),
                seed=setting.seed + 1 + trial,
            ).to(device)
            batches = [self._batch(setting, trial, step) for step in range(self.steps)]
            told = generator.eval() if trial >= self.warm else None
            path = self._trajectory(setting, told, victim, batches, augment)
            generator.train()
            gained = 0.0
            first = self.steps // 3 if told is None else 0
            asked = self._disguised if told is None else self._look_ahead
            for theta, batch in zip(path[first:], batches[first:], strict=True):
                loss = asked(setting, generator, victim, theta, batch, augment)
                leader.zero_grad(set_to_none=True)
                loss.backward()
                leader.step()
                gained += float(loss.detach()) / (self.steps - first)
            words = "of the disguise" if told is None else "after the look-ahead"
            setting.say(f"deepconfuse, trial {trial + 1} of {self.warm + self.trials}: mean loss {words} {gained:.3f}")
        return Generator(setting.ball, len(train.classes), setting.seed, generator, "deepconfuse")

    def _batch(self, setting: Setting, trial: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """(x, y, keys) of one step, without replacement inside the step."""
        draw = np.random.default_rng([setting.seed, trial, step])
        index = torch.from_numpy(
            draw.choice(len(setting.train), min(self.batch_size, len(setting.train)), replace=False)
        )
        x, y = setting.train.batch(index)
        keys = chance.fold(chance.fold(index, setting.seed), trial * self.steps + step)
        return x.to(setting.device), y.to(setting.device), keys.to(setting.device)

    def _trajectory(
        self, setting: Setting, generator: UNet | None, victim: nn.Module, batches: list[tuple[Tensor, Tensor, Tensor]],
        augment: Augment | None,
    ) -> list[Weights]:  # fmt: skip
        """theta_0, theta_1, ... of the imaginary victim on the poison of a generator, on clean images for None."""
        adam = torch.optim.Adam(victim.parameters(), lr=self.rate)
        path = []
        for x, y, keys in batches:
            path.append({name: value.detach().clone() for name, value in victim.named_parameters()})
            with torch.no_grad():
                poisoned = x if generator is None else setting.grid.straight(shifted(generator, setting.ball, x, y), x)
                seen = poisoned if augment is None else augment(poisoned, keys)
            adam.zero_grad(set_to_none=True)
            F.cross_entropy(victim(seen), y).backward()
            adam.step()
        return path

    def _disguised(
        self, setting: Setting, generator: UNet, victim: nn.Module, theta: Weights,
        batch: tuple[Tensor, Tensor, Tensor], augment: Augment | None,
    ) -> Tensor:  # fmt: skip
        """CE(C_theta(x'), y - shift), or -CE(C_theta(x'), y) with shift 0."""
        x, y, keys = batch
        poisoned = setting.grid.straight(shifted(generator, setting.ball, x, y), x)
        answer = functional_call(victim, theta, (poisoned if augment is None else augment(poisoned, keys),))
        if self.shift == 0:
            return -F.cross_entropy(answer, y)
        return F.cross_entropy(answer, (y - self.shift) % len(setting.train.classes))

    def _look_ahead(
        self, setting: Setting, generator: UNet, victim: nn.Module, theta: Weights,
        batch: tuple[Tensor, Tensor, Tensor], augment: Augment | None,
    ) -> Tensor:  # fmt: skip
        """The generator's loss after one step of the victim, differentiable through that step."""
        x, y, keys = batch
        theta = {name: value.requires_grad_() for name, value in theta.items()}
        poisoned = setting.grid.straight(shifted(generator, setting.ball, x, y), x)
        seen = poisoned if augment is None else augment(poisoned, keys)
        paid = F.cross_entropy(functional_call(victim, theta, (seen,)), y)
        slopes = torch.autograd.grad(paid, list(theta.values()), create_graph=True)
        ahead = {name: theta[name] - self.look_ahead * slope for name, slope in zip(theta, slopes, strict=True)}
        order = torch.arange(len(x), device=x.device).roll(len(x) // 2)  # other clean images than the step saw, mostly
        clean = x[order] if augment is None else augment(x[order], chance.fold(keys, 1))
        answer = functional_call(victim, ahead, (clean,))
        if self.shift == 0:
            return -F.cross_entropy(answer, y[order])
        return F.cross_entropy(answer, (y[order] + self.shift) % len(setting.train.classes))
