"""X23: N labels in about sqrt(N) numbers, one size for a known law, and what that says about fresh points."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from stackelberg import data
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome
from stackelberg.exhibits.stage import Stage
from stackelberg.files import replacing
from stackelberg.memorize import compact, sample_size
from stackelberg.memorize.known import known, parity
from stackelberg.threat import Rate, clopper_pearson


@dataclass(frozen=True)
class ByHeart(Exhibit):
    """Memorizers of digits and of samples of a known law.

    Attributes:
        digits: training images known by heart.
        asked: of these, put to the literal network layer by layer.
        largest: samples of the law: 2^6, 2^7, .. up to this.
        cells: balls that the known law consists of, in `dimension` dimensions.
        dimension: of the law.
    """

    id = "X23"
    title = "Memorization networks: sqrt(N) parameters by heart, and no word on the rest"
    published = (
        "width 6 and O(sqrt(N) ln(Nd/c)) parameters; P_D for a known law; some such networks have accuracy <= .51"
    )
    source = "Yu, Gao, Zhang and Miao 2024, 'Generalizability of memorization neural networks' (NeurIPS)"
    claim = (
        "all digits by heart, also by the literal network; parameters grow as a power of N between .45 and .6; one"
        " network of fixed size memorizes every sample of a known law and is right on fresh points, the sqrt(N) one is"
        " not; parity and the ball in its shell give the derived accuracies"
    )

    digits: int = 10_000
    asked: int = 2_000
    largest: int = 2**16
    cells: int = 64
    dimension: int = 8

    def run(self, stage: Stage) -> Outcome:
        measured, fit = self._digits(stage)
        rows, growth = self._law(stage)
        derived = self._derived(stage.seed)
        return Outcome(
            measured=(*measured, *rows, *derived),
            holds=fit and growth and abs((derived[0].value or 0) - sample_size.seen_share(64, 256)) <= 0.01,
            notes=(
                "every step of the network is a whole number; words of some hundred digits take the place of the"
                " parameters saved",
                "binary digits: odd or even; what the network does not know gets the most frequent class, so fresh"
                " images get it nearly all",
                f"the known law: {self.cells} linf balls of radius .08 in [0,1]^{self.dimension}, labels alternating"
                " over random places; its network is the robust memorizer of the centres",
                "parity: the efficient network is right on the corners it has seen and abstains on the others, so its"
                " accuracy is the share seen, here that of draws",
            ),
            pictures=("X23.png",),
        )

    def _digits(self, stage: Stage) -> tuple[list[Measured], bool]:
        train, test = data.load("mnist", "train").take(self.digits), data.load("mnist", "test")
        measured, fit = [], True
        for name, label in (("odd or even", lambda y: y % 2), ("ten classes", lambda y: y)):
            y = label(train.y)
            network = compact(train.x, y, seed=stage.seed)
            right = int((network.predict(train.x) == y).sum())
            part = torch.arange(len(y))[: self.asked]
            codes = network.network()(network.reading(train.x[part])).astype(np.int64)
            literal = int((network.names[codes] == y[part].numpy()).sum())
            fit &= right == len(y) and literal == len(part) and network.width <= 6
            measured += [
                Measured(name=f"MNIST, {name}: by heart", published="100 %", rate=clopper_pearson(right, len(y))),
                Measured(name=f"MNIST, {name}: so by its layers", rate=clopper_pearson(literal, len(part))),
                Measured(name=f"MNIST, {name}: fresh images right", published="<= .51 for some such network",
                         rate=self._rate(network.predict(test.x), label(test.y))),
                Measured(name=f"MNIST, {name}: width", published="6", value=network.width),
                Measured(name=f"MNIST, {name}: depth", value=network.depth),
                Measured(name=f"MNIST, {name}: parameters, d of them for the projection", value=network.num_parameters),
                Measured(name=f"MNIST, {name}: bits of the largest parameter", value=network.bits[0]),
            ]  # fmt: skip
            stage.say(f"X23: {', '.join(row.here for row in measured[-7:])}")
        return measured, fit

    def _rate(self, answer: Tensor, y: Tensor) -> Rate:
        return clopper_pearson(int((answer == y).sum()), len(y))

    def _law(self, stage: Stage) -> tuple[list[Measured], bool]:
        """Samples of balls on a grid: the network of the law against the one of each sample."""
        chance, d = np.random.default_rng(stage.seed), self.dimension
        corners = 3 ** np.arange(d)
        places = chance.permutation(3**d)[: self.cells]
        centres = torch.from_numpy(0.1 + 0.4 * ((places[:, None] // corners) % 3))
        labels = torch.from_numpy(np.arange(self.cells) % 2)
        fixed = known(centres, labels, 0.08)

        def draw(n: int) -> tuple[Tensor, Tensor]:
            cell = torch.from_numpy(chance.integers(0, self.cells, n))
            return centres[cell] + torch.from_numpy(chance.uniform(-0.08, 0.08, (n, d))), labels[cell]

        sizes = [2**k for k in range(6, int(math.log2(self.largest)) + 1)]
        counts, bits, fit = [], [], True
        for n in sizes:
            x, y = draw(n)
            network = compact(x, y, seed=stage.seed)
            fit &= bool((network.predict(x) == y).all()) and bool((fixed.predict(x) == y).all())
            counts.append(network.num_parameters)
            bits.append(network.bits[1])
        power = float(np.polyfit(np.log(sizes), np.log(counts), 1)[0])
        late = float(np.polyfit(np.log(sizes[-5:]), np.log(counts[-5:]), 1)[0])
        x, y = draw(10_000)
        memory = compact(*draw(4096), seed=stage.seed)
        fresh, own = self._rate(fixed.predict(x), y), self._rate(memory.predict(x), y)
        self._draw(stage, sizes, counts, bits, fixed.num_parameters)
        rows = [
            Measured(name=f"parameters grow as N to the power, N = 64 to {self.largest}", published="1/2 and logs",
                     value=power),
            Measured(name="the same over the five largest N", published="1/2 and logs", value=late),
            Measured(name=f"bits of all parameters grow as N to the power, N = 64 to {self.largest}",
                     value=float(np.polyfit(np.log(sizes), np.log(bits), 1)[0])),
            Measured(name=f"parameters at N = {sizes[-1]}", value=counts[-1]),
            Measured(name="parameters of the known law's network, for every N", value=fixed.num_parameters),
            Measured(name="known law: fresh points right, network of the law", rate=fresh),
            Measured(name="known law: fresh points right, sqrt(N) network of 4096", published="<= .51", rate=own),
        ]  # fmt: skip
        stage.say(f"X23: parameters as N^{power:.3f}; fresh {fresh} against {own}")
        return rows, fit and 0.45 <= power <= 0.6 and fresh.hits == fresh.n and own.value < 0.6

    def _derived(self, seed: int) -> list[Measured]:
        """Parity of six bits, ball and shell, and how many samples."""
        seen = np.random.default_rng(seed).multinomial(256, np.full(64, 1 / 64), size=2000) > 0
        values = {
            "parity of 6 bits, 256 samples: share of corners seen": (float(seen.mean()), ".982"),
            "parity of 6 bits: parameters of a network that knows it": (parity(6).num_parameters, None),
            "parity of 6 bits: samples that any learner needs for .9": (sample_size.samples_needed(64, 0.1), None),
            "64 cells: samples enough for .9 with probability .95": (sample_size.samples_enough(64, 0.1, 0.05), None),
            **{
                f"ball in shell, n = 20: best accuracy of first width {w}": (sample_size.ball_and_shell(20, w), said)
                for w, said in ((1, ".524"), (10, ".617"), (19, ".904"))
            },
            "ball in shell: smallest n with accuracy <= .51 at width 1": (
                sample_size.first_hopeless_dimension(1),
                "47",
            ),
        }
        return [Measured(name=name, published=said, value=value) for name, (value, said) in values.items()]

    def _draw(self, stage: Stage, sizes: list[int], counts: list[int], bits: list[int], fixed: int) -> None:
        figure = Figure(figsize=(7.5, 4.8), layout="constrained")
        axes = figure.subplots()
        n = np.array(sizes)
        axes.loglog(n, counts, "o-", color="#1f5fa8", label="parameters, of each sample")
        axes.loglog(n, counts[-1] * np.sqrt(n * np.log(n) / (n[-1] * math.log(n[-1]))), ":", color="#1f5fa8",
                    label="sqrt(N log N)")  # fmt: skip
        axes.loglog(n, bits, "s-", color="#a86a00", label="bits of all its parameters")
        axes.loglog(n, n, "--", color="#777777", label="N")
        axes.axhline(fixed, color="#3c7d3c", label="parameters, of the known law")
        axes.set_xlabel("N, labels known by heart")
        axes.legend()
        with replacing(stage.out / "X23.png") as part:
            figure.savefig(part, format="png", dpi=110)
