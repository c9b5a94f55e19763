"""GUE: the game in which the poisoner leads with a generator and the learner follows, by the value-function method.

Liu, Wang and Gao, "Game-theoretic unlearnable example generator" (AAAI 2024); the solver is BOME (Liu, Ye, Wright,
Stone and Liu 2022), its steps numbered as there.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks import Oracle, untouched
from stackelberg.data import Augment
from stackelberg.errors import StackelbergError, unknown
from stackelberg.games import Game, Play, Standard, Trades
from stackelberg.models import UNet, build
from stackelberg.poison.generator import Generator, check_norm, laid_out, shifted
from stackelberg.poison.poisoner import Setting
from stackelberg.threat import chance
from stackelberg.threat.payoff import others


def confusion(logits: Float[Tensor, "B K"], y: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The leader's payoff max_{k != y} CE(logits, k), in nats: small where y is ruled out and all else is alike.

    At least ln(K - 1), with equality where y has probability 0 and the others 1/(K - 1) each, so it is bounded below
    and no gradient explodes.
    """
    z = logits.float()
    least = -others(-z, y).amax(1)  # min over k != y of z_k
    return z.logsumexp(1) - least


@dataclass(frozen=True)
class GUE:
    """min over the generator a of f(theta) subject to theta in argmin g(a, .), solved a batch at a time.

    f(theta) = mean confusion(C_theta(x), y) on clean images; g(a, theta) = mean CE(C_theta(x'), y) on the poisoned
    ones (payoff "trades" takes TRADES there, against learners who train adversarially). With the value function
    q = g(a, theta) - g(a, theta_T), theta_T a constant: both players step along grad f + weight grad q.

    Attributes:
        width: of the U-Net; 64 in the paper.
        labels: whether the generator is told the label, which the owner of the data knows; the paper's is not.
        network: the follower, a name of `models.NAMES`.
        network_width: of the follower.
        warm: passes over the examples before the game, in which both players descend on g(a, theta), and on f(theta) in
            the second half; 0 in the paper. A fresh follower is sure of nothing: the game's gradients are small for
            thousands of steps.
        epochs: passes over the examples in the game; 50 in the paper.
        batch_size: 256 in the paper.
        inner: T, Adam steps of the follower's best response; 10 in the paper.
        inner_rate: of Adam; 1e-4 in the paper.
        eta: of the dynamic barrier; 1.5 in the paper.
        optimizer: how both players step along their directions: "adam", or "sgd" as in the paper.
        leader_rate: step length of the generator; .1 in the paper, with sgd.
        rate: step length of theta; .01 in the paper, with sgd.
        payoff: "ce" or "trades".
        beta: of TRADES.
        steps: of the ascent inside TRADES.
    """

    width: int = 8
    labels: bool = True
    network: str = "small-cnn"
    network_width: int | None = 16
    warm: int = 8
    epochs: int = 3
    batch_size: int = 64
    inner: int = 5
    inner_rate: float = 1e-3
    eta: float = 1.5
    optimizer: str = "adam"
    leader_rate: float = 0.003
    rate: float = 0.002
    payoff: str = "ce"
    beta: float = 6.0
    steps: int = 3

    def __post_init__(self) -> None:
        if self.payoff not in ("ce", "trades"):
            raise unknown("payoff", self.payoff, ("ce", "trades"))
        if self.optimizer not in ("sgd", "adam"):
            raise unknown("optimizer", self.optimizer, ("sgd", "adam"))
        if min(self.epochs, self.batch_size, self.inner) < 1:
            raise StackelbergError(
                f"epochs, batch_size and inner must be at least 1, got {self.epochs}, {self.batch_size}, {self.inner}"
            )

    def __call__(self, setting: Setting) -> Generator:
        check_norm(setting.ball)
        table = _Table.laid(self, setting)
        count = len(setting.train)
        size = min(self.batch_size, count)
        steps = count // size
        for epoch in range(self.warm + self.epochs):
            order = np.random.default_rng([setting.seed, epoch]).permutation(count)
            play = table.warm if epoch < self.warm else table.move
            seen = torch.zeros(4)
            for index in torch.from_numpy(order[: steps * size]).split(size):
                seen += play(index, epoch) / steps
            setting.say(
                f"gue, epoch {epoch + 1} of {self.warm + self.epochs}: confusion {seen[0]:.3f}, poisoned loss"
                f" {seen[1]:.3f}, best response {seen[2]:.3f}, weight {seen[3]:.2f}"
            )
        return Generator(setting.ball, len(setting.train.classes), setting.seed, table.generator, "gue")


@dataclass(frozen=True, eq=False)
class _Table:
    """The two players, and what stays the same between their moves."""

    rules: GUE
    setting: Setting
    generator: UNet
    follower: nn.Module
    game: Game
    augment: Augment | None
    players: tuple[torch.optim.Optimizer, torch.optim.Optimizer]

    @classmethod
    def laid(cls, rules: GUE, setting: Setting) -> "_Table":
        train, device = setting.train, setting.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            shape = (train.shape[0], train.shape[1], train.shape[2])
            generator = UNet(shape, rules.width, len(train.classes) if rules.labels else 0)
        follower = build(
            rules.network,
            len(train.classes),
            train.shape,
            rules.network_width,
            *train.mean_std(),
            seed=setting.seed + 1,
        )
        game = Standard() if rules.payoff == "ce" else Trades(setting.ball, rules.beta, rules.steps)
        generator, follower = laid_out(generator, device).train(), laid_out(follower, device).train()
        kind = torch.optim.SGD if rules.optimizer == "sgd" else torch.optim.Adam
        players = kind(generator.parameters(), rules.leader_rate), kind(follower.parameters(), rules.rate)
        return cls(rules, setting, generator, follower, game, Augment(4) if setting.colour else None, players)

    def paid(self, model: nn.Module, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """g(a, theta) at poisoned images, with gradient in them: an answer x' + d moves along with x'."""
        moved = x
        if self.game.threat is not None:
            with untouched(model):
                answer = self.game.answer(Play(Oracle(model, "float32"), keys), x.detach(), y)
            moved = x + (answer - x).detach()
        return self.game.losses(model, x, y, moved).mean()

    def dealt(self, index: Tensor, epoch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(x, y, keys, what the learner sees of the clean images)."""
        x, y = self.setting.train.batch(index)
        x, y = x.to(self.setting.device), y.to(self.setting.device)
        keys = chance.fold(chance.fold(index.to(x.device), self.setting.seed), epoch)
        return x, y, keys, x if self.augment is None else self.augment(x, chance.fold(keys, 1))

    def poisoned(self, x: Tensor, y: Tensor) -> Tensor:
        """The generator's images on the grid, with gradient."""
        return self.setting.grid.straight(shifted(self.generator, self.setting.ball, x, y), x)

    def warm(self, index: Tensor, epoch: int) -> Tensor:
        """One step of both players down g(a, theta), later with f(theta): [f, g, g, 1] before it."""
        x, y, keys, clean = self.dealt(index, epoch)
        moved = self.poisoned(x, y)
        f = confusion(self.follower(clean), y).mean()
        g = self.paid(self.follower, moved if self.augment is None else self.augment(moved, keys), y, keys)
        for player in self.players:
            player.zero_grad(set_to_none=True)
        (f + g if 2 * epoch >= self.rules.warm else g).backward()
        for player in self.players:
            player.step()
        return torch.stack([f.detach(), g.detach(), g.detach(), torch.ones_like(g)]).cpu()

    def move(self, index: Tensor, epoch: int) -> Tensor:
        """One step of BOME on one batch: [f, g(a, theta), g(a, theta_T), weight] before it."""
        x, y, keys, clean = self.dealt(index, epoch)
        moved = self.poisoned(x, y)
        leaf = moved.detach().requires_grad_()
        seen = leaf if self.augment is None else self.augment(leaf, keys)
        best = self._best_response(seen.detach(), y, keys)  # BOME, line 4: T steps on g from theta
        theta, field = list(self.follower.parameters()), list(self.generator.parameters())
        now = self.paid(self.follower, seen, y, keys)
        now_leaf, *q_theta = torch.autograd.grad(now, [leaf, *theta], retain_graph=True)
        then = self.paid(best, seen, y, keys)  # theta_T is a constant: no gradient runs through its T steps
        (then_leaf,) = torch.autograd.grad(then, [leaf])
        q_a = torch.autograd.grad(moved, field, now_leaf - then_leaf)
        f = confusion(self.follower(clean), y).mean()
        f_theta = torch.autograd.grad(f, theta)
        weight = self._weight(f_theta, q_theta, q_a)  # line 5
        for parameter, slope in zip(field, q_a, strict=True):  # line 6: both players step
            parameter.grad = weight * slope
        for parameter, of_f, of_q in zip(theta, f_theta, q_theta, strict=True):
            parameter.grad = of_f + weight * of_q
        for player in self.players:
            player.step()
        return torch.stack([f.detach(), now.detach(), then.detach(), torch.full_like(f.detach(), weight)]).cpu()

    def _best_response(self, seen: Tensor, y: Tensor, keys: Tensor) -> nn.Module:
        """theta_T: the follower's copy after T Adam steps on g, frozen."""
        best = copy.deepcopy(self.follower)
        adam = torch.optim.Adam(best.parameters(), lr=self.rules.inner_rate)
        for _ in range(self.rules.inner):
            adam.zero_grad(set_to_none=True)
            self.paid(best, seen, y, keys).backward()
            adam.step()
        return best.requires_grad_(False)

    def _weight(self, f: Sequence[Tensor], q: Sequence[Tensor], q_a: Sequence[Tensor]) -> float:
        """max(0, (eta |grad q|^2 - <grad f, grad q>) / |grad q|^2), grad over (a, theta); f does not see a."""
        steep = sum(float((slope.double() ** 2).sum()) for slope in (*q, *q_a))
        across = sum(float((one.double() * other.double()).sum()) for one, other in zip(f, q, strict=True))
        return max(0.0, (self.rules.eta * steep - across) / (steep + 1e-8))
