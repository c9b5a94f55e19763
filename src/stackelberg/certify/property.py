"""Does the property hold?  "sat" with a counterexample, "unsat" with a proof, or "unknown" when the time is up.

The words are those of the verification competition: "sat" says that some input of the boxes has an unsafe output. It is
never said of a point that the deployed network, asked once more, does not confirm.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.certify.branch import broken_at, decide
from stackelberg.certify.certificate import Unsupported
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.milp import TOLERANCE, program
from stackelberg.certify.region import Region
from stackelberg.certify.vnnlib import Case, Halfspaces, Property
from stackelberg.errors import StackelbergError

Replay = Callable[[Float32[np.ndarray, " n"]], Float32[np.ndarray, " K"]]
"""The deployed network: flat outputs of one flat input, in the order of the property's variables."""

_STARTS, _STEPS = 16, 60
_GUESSES = 4096


@dataclass(frozen=True, eq=False)
class Answer:
    """Whether the property's unsafe set is reached.

    Attributes:
        verdict: "sat", "unsat" or "unknown".
        x: where "sat", the input, flat float32.
        y: what the deployed network answers there.
        why: where "unknown", what stood in the way.
    """

    verdict: str
    x: Float32[np.ndarray, " n"] | None = None
    y: Float32[np.ndarray, " K"] | None = None
    why: str = ""

    def text(self) -> str:
        """In the competition's format."""
        if self.x is None or self.y is None:
            return self.verdict
        values = [f"(X_{i} {value:.9g})" for i, value in enumerate(self.x)]
        values += [f"(Y_{i} {value:.9g})" for i, value in enumerate(self.y)]
        return f"{self.verdict}\n({chr(10).join(values)})"


class Excess(nn.Module):
    """By how much an input misses each unsafe set: max over its rows of weight y + offset, [B, P]; safe where > 0.

    To be written down as a `Graph`: the rows are float64, as the property states them.
    """

    def __init__(self, net: nn.Module, parts: tuple[Halfspaces, ...]) -> None:
        super().__init__()
        self.net = net
        most = 1 << (max(len(part.offset) for part in parts) - 1).bit_length()  # rows repeat up to a power of two
        rows = [np.resize(np.arange(len(part.offset)), most) for part in parts]
        self.shape = (len(parts), most)
        self.weight: Tensor
        self.offset: Tensor
        self.register_buffer("weight", _stacked([part.weight[r] for part, r in zip(parts, rows, strict=True)]))
        self.register_buffer("offset", _stacked([part.offset[r] for part, r in zip(parts, rows, strict=True)]))

    def forward(self, x: Any) -> Any:  # tensors, or the proxies with which torch.fx traces
        y = torch.flatten(self.net(x), 1)
        rows = nn.functional.linear(y, self.weight, self.offset)
        rows = torch.reshape(rows, (-1, *self.shape)) if self.shape[1] > 1 else rows
        most = self.shape[1]
        while most > 1:
            most //= 2
            rows = torch.maximum(rows[:, :, :most], rows[:, :, most:])
        return torch.flatten(rows, 1)


def _stacked(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(rows))


def verify(
    model: nn.Module, shape: tuple[int, ...], question: Property, seconds: float, replay: Replay | None = None
) -> Answer:
    """Whether some input in the property's boxes has an unsafe output.

    Box after box: a search for a counterexample by gradients, then branch and bound with linear bounds, then, if that
    gave up early, a mixed-integer program.

    Args:
        model: outputs [B, K] (or of another shape, flattened) from inputs [B, *shape]; comes back as it was given.
        shape: of one input; the property's variables are its coordinates in order.
        question: the property.
        seconds: in total.
        replay: the network as deployed, which confirms counterexamples; the model itself in float32 if None.

    Raises:
        StackelbergError: the numbers of inputs or outputs differ between network and property.
    """
    deadline = time.monotonic() + seconds
    with untouched(model):
        ask = replay or _itself(model, shape)
        _check(ask, shape, question)
        reasons = []
        for number, case in enumerate(question.cases):
            share = (deadline - time.monotonic()) / (len(question.cases) - number)
            answer = _Case(model, shape, case, question, ask).answer(time.monotonic() + share)
            if answer.verdict == "sat":
                return answer
            if answer.verdict == "unknown":
                reasons.append(answer.why)
    return Answer("unknown", why=reasons[0]) if reasons else Answer("unsat")


def _itself(model: nn.Module, shape: tuple[int, ...]) -> Replay:
    @torch.no_grad()
    def ask(x: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(x).view(1, *shape)).flatten().float().numpy()

    return ask


def _check(ask: Replay, shape: tuple[int, ...], question: Property) -> None:
    if math.prod(shape) != question.inputs:
        raise StackelbergError(
            f"the property speaks of {question.inputs} inputs X_i, the network takes {math.prod(shape)}"
            f" ({list(shape)}); pass the property made for this network"
        )
    outputs = len(ask(np.zeros(question.inputs, np.float32)))
    if outputs != question.outputs:
        raise StackelbergError(
            f"the property speaks of {question.outputs} outputs Y_j, the network gives {outputs}; pass the property"
            " made for this network"
        )


@dataclass
class _Case:
    model: nn.Module
    shape: tuple[int, ...]
    case: Case
    question: Property
    ask: Replay

    def answer(self, deadline: float) -> Answer:
        low, high = (torch.from_numpy(end).view(self.shape) for end in (self.case.low, self.case.high))
        if any(not len(part.offset) for part in self.case.unsafe):  # every output is unsafe
            return self.confirmed((low + high) / 2) or Answer("unknown", why="the box holds no float32 number")
        try:
            graph = graph_of(Excess(self.model, self.case.unsafe), self.shape)
        except Unsupported as error:
            return self.guessed(low, high) or Answer("unknown", why=str(error))
        return self.searched(graph, low, high) or self.decided(graph, low, high, deadline)

    def confirmed(self, point: Tensor) -> Answer | None:
        """ "sat" if the deployed network agrees about the nearest float32 input inside the box."""
        x = _inside(point.detach().cpu().double().numpy().reshape(-1), self.case)
        y = self.ask(x)
        if self.question.violated(x.astype(np.float64), y.astype(np.float64), tolerance=1e-7):
            return Answer("sat", x, y)
        return None

    def guessed(self, low: Tensor, high: Tensor) -> Answer | None:
        """Random points, for a network that has no graph."""
        generator = torch.Generator().manual_seed(0)
        for _ in range(_GUESSES // 64):
            points = low + (high - low) * torch.rand(64, *self.shape, generator=generator, dtype=torch.float64)
            with torch.no_grad():
                y = self.model(points.float()).flatten(1).double().numpy()
            for point, output in zip(points, y, strict=True):
                if any(part.excess(output) <= 0 for part in self.case.unsafe):
                    return self.confirmed(point)
        return None

    def searched(self, graph: Graph, low: Tensor, high: Tensor) -> Answer | None:
        rows = torch.eye(len(self.case.unsafe), dtype=torch.float64)
        point = broken_at(graph, Region(low[None], high[None]), rows, torch.zeros(len(rows)).double(), _STEPS, _STARTS)
        return None if point is None else self.confirmed(point)

    def decided(self, graph: Graph, low: Tensor, high: Tensor, deadline: float) -> Answer:
        rows = torch.eye(len(self.case.unsafe), dtype=torch.float64)
        low, high = _outward(low, high)
        found = decide(graph, low, high, rows, rows.new_zeros(len(rows)), deadline - time.monotonic())
        if found.verdict == "proved":
            return Answer("unsat")
        if found.point is not None:
            found_broken = self.confirmed(found.point)
            if found_broken is not None:
                return found_broken
        if deadline - time.monotonic() < 0.5:
            return Answer("unknown", why="the time is up")
        return self.solved(graph, low, high, deadline)

    def solved(self, graph: Graph, low: Tensor, high: Tensor, deadline: float) -> Answer:
        """By a mixed-integer program for each unsafe set."""
        try:
            built = program(graph, low, high)
        except Unsupported as error:
            return Answer("unknown", why=str(error))
        proved, count = True, len(self.case.unsafe)
        for number, row in enumerate(np.eye(count)):
            lost, share = float(built.error[number]), (deadline - time.monotonic()) / (count - number)
            optimum = built.minimum(row, 0.0, share, most=lost + 2 * TOLERANCE)
            proved = proved and optimum.bound > lost
            broken = None if optimum.point is None else self.confirmed(optimum.point)
            if broken is not None:
                return broken
        return Answer("unsat") if proved else Answer("unknown", why="too close to call in float32, or the time is up")


def _inside(point: np.ndarray, case: Case) -> np.ndarray:
    """The nearest float32 numbers in the box; where it holds none, the nearest at all."""
    x = point.clip(case.low, case.high).astype(np.float32)
    x = np.where(x > case.high, np.nextafter(x, np.float32(-np.inf)), x)
    up = np.nextafter(x, np.float32(np.inf))
    return np.where((x < case.low) & (up <= case.high), up, x).astype(np.float32)


def _outward(low: Float[Tensor, " *shape"], high: Float[Tensor, " *shape"]) -> tuple[Tensor, Tensor]:
    """A box that holds the decimal one, and every float32 point that stands for one of its points."""
    lowest, highest = low.float().double(), high.float().double()
    infinity = torch.full_like(low, torch.inf)
    return torch.minimum(low, lowest).nextafter(-infinity), torch.maximum(high, highest).nextafter(infinity)
