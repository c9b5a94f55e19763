"""The poisons that are found per example against one trained network: error-minimising, -maximising, hypocritical."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from stackelberg.data import Augment
from stackelberg.errors import StackelbergError
from stackelberg.games import Adversarial, Game, Play, Standard, solve
from stackelberg.games.game import Inputs, Labels, Payoffs
from stackelberg.models import build
from stackelberg.poison.poisoner import Setting
from stackelberg.poison.pursuit import Aim, Pursuer, Pursuit, objective
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy


@dataclass(frozen=True)
class Friendly(Game):
    """min over theta of mean min over the ball of CE(C_theta(x'), y): the follower helps (Huang et al. 2021, eq. 2).

    With a rival in the pursuit it is min over theta of mean min over delta of max over the rival's ball of the same
    (Fu et al. 2022, eq. 6).

    Attributes:
        pursuit: of the helping follower.
    """

    pursuit: Pursuit

    @property
    def threat(self) -> Ball | None:
        return None

    def answer(self, play: Play, x: Inputs, y: Labels) -> Inputs:
        liked = objective("own", y, 0, 0)
        moved = self.pursuit(play.oracle, x, liked, play.keys_for(x))
        return self.pursuit.answered(play.oracle, moved, liked)

    def losses(self, model: nn.Module, x: Inputs, y: Labels, moved: Inputs) -> Payoffs:
        return cross_entropy(model(moved), y)


@dataclass(frozen=True)
class Surrogate:
    """What every one of these methods trains.

    Attributes:
        network: a name of `models.NAMES`.
        network_width: of it; None for its standard one.
        epochs: of its training.
        batch_size: of its training.
        steps: of the pursuit, in training.
        last_steps: of the pursuit, when the poison is made.
        cropped: whether the noise of colour images is found through crops and mirror images, so that it holds for
            learners who take such, and for networks of other kinds; without it the noise does more to one of the
            surrogate's kind that takes images as they are.
    """

    network: str = "small-cnn"
    network_width: int | None = 16
    epochs: int = 10
    batch_size: int = 64
    steps: int = 5
    last_steps: int = 20
    cropped: bool = True

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.steps, self.last_steps) < 1:
            raise StackelbergError(
                f"epochs, batch_size, steps and last_steps must be at least 1, got {self.epochs}, {self.batch_size},"
                f" {self.steps}, {self.last_steps}"
            )

    def trained(self, game: Game, setting: Setting) -> nn.Module:
        """The surrogate at the end of its game on the setting's examples."""
        train = setting.train
        network = build(self.network, len(train.classes), train.shape, self.network_width, seed=setting.seed + 1)
        size = min(self.batch_size, max(1, len(train) // 2))
        more: dict[str, Any] = {"batch_size": size, "held_out": max(1, min(100, len(train) // 10))}
        setting.say(f"surrogate {self.network}, {self.epochs} epochs, {type(game).__name__.lower()}")
        return solve(
            game, network, train, self.epochs, seed=setting.seed, device=setting.device.type, progress=False, **more
        ).model

    def augment(self, setting: Setting) -> Augment | None:
        """What the learner is expected to do to the images."""
        return Augment(4) if self.cropped and setting.colour else None

    def poisoner(self, network: nn.Module, setting: Setting, pursuit: Pursuit, aim: Aim, shift: int = 1) -> Pursuer:
        """The rule that pursues against the surrogate."""
        return Pursuer(setting.ball, len(setting.train.classes), setting.seed, network, pursuit, aim, shift)


@dataclass(frozen=True)
class ErrorMinimizing(Surrogate):
    """EM: noise that makes the label look learnt already (Huang et al. 2021), sample-wise.

    The surrogate plays the friendly game; the noise is its follower's answer at the end.
    """

    def __call__(self, setting: Setting) -> Pursuer:
        pursuit = Pursuit(setting.ball, self.steps, self.augment(setting))
        network = self.trained(Friendly(pursuit), setting)
        return self.poisoner(network, setting, Pursuit(setting.ball, self.last_steps, self.augment(setting)), "own")


@dataclass(frozen=True)
class RobustErrorMinimizing(Surrogate):
    """Robust EM: the noise still minimises the error after an adversary has moved the image (Fu et al. 2022).

    Attributes:
        rival_radius: of the adversary, input units; half the ball's radius when None, as published.
        rival_steps: of its ascent.
    """

    rival_radius: float | None = None
    rival_steps: int = 2

    def __call__(self, setting: Setting) -> Pursuer:
        radius = setting.ball.radius / 2 if self.rival_radius is None else self.rival_radius
        rival = setting.ball.with_radius(int(radius) if setting.ball.norm == "l0" else radius)
        pursuit = Pursuit(setting.ball, self.steps, self.augment(setting), rival, self.rival_steps)
        network = self.trained(Friendly(pursuit), setting)
        last = Pursuit(setting.ball, self.last_steps, self.augment(setting), rival, self.rival_steps)
        return self.poisoner(network, setting, last, "own")


@dataclass(frozen=True)
class ErrorMaximizing(Surrogate):
    """Adversarial examples as training images (Fowl et al. 2021): away from the label, or towards label + shift.

    Trained on, the targeted ones teach the features of class k + shift under the name k, so clean images of class
    k + shift are read as k.

    Attributes:
        targeted: towards (y + shift) mod K instead of away from y.
        shift: of the labels.
    """

    targeted: bool = False
    shift: int = 1

    def __call__(self, setting: Setting) -> Pursuer:
        classes = len(setting.train.classes)
        if self.targeted and self.shift % classes == 0:
            raise StackelbergError(f"shift must not be a multiple of the {classes} classes, got {self.shift}; pass 1")
        network = self.trained(Standard(), setting)
        pursuit = Pursuit(setting.ball, self.last_steps, self.augment(setting))
        return self.poisoner(network, setting, pursuit, "other" if self.targeted else "away", self.shift)


@dataclass(frozen=True)
class Hypocritical(Surrogate):
    """Hypocritical examples (Tao et al. 2022): the error of an adversarially trained surrogate is minimised.

    Its features are robust ones, so the noise speaks to adversarial training, too.

    Attributes:
        surrogate_radius: of the surrogate's adversary; a quarter of the ball's radius when None.
    """

    surrogate_radius: float | None = None

    def __call__(self, setting: Setting) -> Pursuer:
        radius = setting.ball.radius / 4 if self.surrogate_radius is None else self.surrogate_radius
        ball = setting.ball.with_radius(max(1, int(radius)) if setting.ball.norm == "l0" else radius)
        network = self.trained(Adversarial(ball, steps=self.steps), setting)
        pursuit = Pursuit(setting.ball, self.last_steps, self.augment(setting))
        return self.poisoner(network, setting, pursuit, "own")
