"""X31: is the statistically robust game good for every kind of network?  Perceptron, convolutions, two transformers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stackelberg import attacks, certify, data
from stackelberg.attacks.suite import CLEAN as WRONG_UNMOVED
from stackelberg.attacks.suite import STANDING
from stackelberg.data import Dataset
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.games import Adversarial, Game, Standard, StatisticallyRobust, WassersteinDRO, solve
from stackelberg.models import build, embedded
from stackelberg.threat import Ball, Letters, clopper_pearson, mcnemar
from stackelberg.threat.payoff import margin

GAMES = ("standard", "at", "sr-at", "sr-wdro")
CLEAN, BALL, LETTER, TWO = "clean", "ball", "one letter, proved", "two letters, hotflip"
Found = dict[str, Tensor]
"""By what was asked, on which test examples the network is right, [seeds * test_n]."""


@dataclass(frozen=True)
class Kind:
    """A kind of network, and what it is trained on.

    Attributes:
        model: a name of `models.NAMES`.
        width: of it.
        train: all examples from which a seed's are drawn.
        test: likewise.
        n: training examples of a seed.
        ball: in which the examples move.
        epochs: of every training.
        batch_size: likewise.
    """

    model: str
    width: int
    train: Dataset
    test: Dataset
    n: int
    ball: Ball
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class EveryModel(Exhibit):
    """Standard training, adversarial training, and the statistically robust games, with four kinds of networks.

    Attributes:
        images: a named set of images, for mlp, small-cnn and vit.
        n: training images of a seed.
        radius: linf, in input units.
        epochs: on images.
        words: training words of a seed, for text-transformer.
        word_radius: l2, of the embedded word, each byte a vector of length 1.
        word_epochs: on words.
        test_n: test examples of a seed.
        gamma: of the KL ball, in nats.
        steps: of the followers in training.
        learning_rate: of Adam.
        radius_warmup: share of the training over which the radius grows: without it the transformers learn nothing.
        seeds: of examples, initialisation and order, the stage's seed first.
    """

    id = "X31"
    title = "One game for every kind of network: perceptron, convolutions, vision and text transformer"
    published = "'valid for all models, including MLP and transformer' (a claim without numbers)"
    source = "X.-S. Gao 2024, slide 'SR-WDRO'; Liu et al. 2025, 'SR-WDRO' (ICLR 2025)"
    claim = (
        "with each of the four networks SR-WDRO is right on more attacked examples than standard training, beyond"
        " chance (McNemar's exact test, p < .05), and than adversarial training; for words in the ball around the"
        " embedded word as well as under every exchange of one letter"
    )
    short = (
        "in the ball SR-WDRO is far above standard training with all four networks, but not above adversarial training:"
        " equal to it on the two that fit their training set, and clearly below on the two transformers, which do not:"
        " weight on the hardest examples guards against overfitting, and takes from a network that underfits; and a"
        " small ball around the embedded word does not guard against exchanged letters"
    )

    images: str = "mnist"
    n: int = 1000
    radius: float = 0.1
    epochs: int = 40
    words: int = 20000
    word_radius: float = 0.3
    word_epochs: int = 10
    test_n: int = 300
    gamma: float = 0.1
    steps: int = 3
    learning_rate: float = 0.001
    radius_warmup: float = 0.5
    seeds: int = 1

    def run(self, stage: Stage) -> Outcome:
        rows: list[Measured] = []
        holds, kinds = True, self._kinds()
        for kind in kinds:
            found = {game: self._found(stage, kind, game) for game in GAMES}
            for game, answers in found.items():
                rows += [
                    Measured(name=f"{kind.model}, {game}: {asked}", rate=clopper_pearson(int(right.sum()), len(right)))
                    for asked, right in answers.items()
                ]
            for asked in (BALL, LETTER) if kind.test.text else (BALL,):
                ours = found["sr-wdro"][asked]
                for other in ("standard", "at"):
                    theirs = found[other][asked]
                    more, p = int(ours.sum()) > int(theirs.sum()), _chance(ours, theirs)
                    rows.append(Measured(name=f"{kind.model}: sr-wdro against {other}, {asked}, p", value=p))
                    holds &= more and (other == "at" or p < 0.05)
        return Outcome(measured=tuple(rows), holds=holds, notes=(*self._notes(), *stage.notes(kinds[0].test)))

    def _kinds(self) -> tuple[Kind, ...]:
        pictures = data.load(self.images, "train"), data.load(self.images, "test"), self.n
        words = data.load("words", "train"), data.load("words", "test"), self.words
        ball, around = Ball("linf", self.radius), Ball("l2", self.word_radius, *words[0].box)
        return (
            Kind("mlp", 128, *pictures, ball, self.epochs, 50),
            Kind("small-cnn", 16, *pictures, ball, self.epochs, 50),
            Kind("vit", 32, *pictures, ball, self.epochs, 50),
            Kind("text-transformer", 64, *words, around, self.word_epochs, 100),
        )

    def _found(self, stage: Stage, kind: Kind, game: str) -> Found:
        """What the networks of all seeds do, each on its own part of the test set."""
        parts = torch.randperm(len(kind.test), generator=torch.Generator().manual_seed(stage.seed)).split(self.test_n)
        seen = []
        for seed, part in zip(range(stage.seed, stage.seed + self.seeds), parts, strict=False):
            model = self._trained(stage, kind, game, seed)
            stage.say(f"X31: {kind.model}, {game}, seed {seed} under attack")
            seen.append(_asked(model, *kind.test.take(part).batch(slice(None)), kind.ball, stage.seed))
        return {asked: torch.cat([one[asked] for one in seen]) for asked in seen[0]}

    def _trained(self, stage: Stage, kind: Kind, game: str, seed: int) -> nn.Module:
        chosen = kind.train.split(kind.n, seed)[1] if kind.n < len(kind.train) else kind.train
        network = build(kind.model, len(chosen.classes), chosen.shape, kind.width, seed=seed)
        folder = f"x31-{kind.model}-{game}-{seed}-{kind.n}-{kind.ball.radius:g}-{kind.epochs}"
        return solve(
            self._game(game, kind.ball), network, chosen, kind.epochs, seed=seed, device=stage.device, progress=False,
            out=stage.runs / folder, resume=True, batch_size=kind.batch_size, optimizer="adam",
            learning_rate=self.learning_rate, augment=-1, radius_warmup=self.radius_warmup,
        ).best  # fmt: skip

    def _game(self, name: str, ball: Ball) -> Game:
        at = Adversarial(ball, steps=self.steps)
        udr = WassersteinDRO(ball, steps=self.steps, step=2.5 * ball.radius / self.steps)
        return {
            "standard": Standard(),
            "at": at,
            "sr-at": StatisticallyRobust(at, self.gamma),
            "sr-wdro": StatisticallyRobust(udr, self.gamma),
        }[name]

    def _notes(self) -> tuple[str, ...]:
        return (
            f"{self.seeds} networks of each kind and game, each trained on {self.n} images of {self.images} or"
            f" {self.words} words of its own and judged on {self.test_n} test examples of its own: n counts examples of"
            " all seeds; McNemar's test compares example by example",
            f"ball: the suite with effort 'fast', linf {self.radius:g} on images, l2 {self.word_radius:g} on the"
            " embedded word, whose letters are vectors of length 1, so two of them are at most 2 apart; each network"
            " has its own embedding, so these numbers are of its own space",
            "one letter: all words with one letter exchanged were asked, so this share is proved, as computed in"
            " float32; two letters: a beam search, an upper bound",
            "words: seven languages, without accents and capitals, from the lists of Debian; words of two languages are"
            " left out, and words that begin with the same five letters are all in training or all in the test",
        )


def _asked(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, seed: int) -> Found:
    device = next(model.parameters()).device
    x, y = x.to(device), y.to(device)
    with attacks.untouched(model), torch.no_grad():
        points = embedded(model, x)
    result = attacks.suite(ball, "fast", seed=seed).run(model, points, y)
    found = {CLEAN: result.broken_by != WRONG_UNMOVED, BALL: result.broken_by == STANDING}
    if x is not points:
        found[LETTER] = certify.enumerate_letters(model, x, y, Letters(1)).certified
        moved = attacks.HotFlip(Letters(2))(model, x, y)
        with attacks.untouched(model), torch.no_grad():
            found[TWO] = margin(model(moved), y) <= 0
    return {asked: right.cpu() for asked, right in found.items()}


def _chance(a: Tensor, b: Tensor) -> float:
    """P-value that a and b are right equally often, example by example."""
    return mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))
