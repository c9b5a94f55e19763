"""Is every ball right?  What a memorizer promises of single examples, and how that is verified anew.

The promise rests on distances alone: an example that is stored with its label, and from which every stored point of
another class is at least lambda away, is right in its ball of radius mu < lambda / 2. So a judge measures all these
distances again, plainly, from the numbers as stored; computes lambda anew; asks the memorizer at the point of the ball
nearest to the enemy; and where the network is small, proves the ball by mixed-integer programming through the literal
network, which knows nothing of distances.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from stackelberg.certify.checking import KINDS, Judgement, Kind
from stackelberg.certify.document import DataSource, Document, ModelSource, Record, example_digest, head
from stackelberg.certify.graph import graph_of
from stackelberg.certify.milp import program
from stackelberg.data import Dataset
from stackelberg.memorize.answers import Answers
from stackelberg.memorize.memorizer import Memorizer, apart, in_units
from stackelberg.memorize.nearest import class_distances
from stackelberg.memorize.optimal import NOISE, OptimalMemorizer
from stackelberg.models.weights import fingerprint

SMALL = 20_000
"""Numbers, with zeros, of a network that is proved by mixed-integer programming as well."""

_CLOSE = 1e-6  # input units: an example's float32 numbers are that near to the stored ones
_BLOCK = 4096


class MemoryClaim(Record):
    """What is claimed of one example: it is stored with its label, and no stored point of another class is nearer.

    Attributes:
        index: in the data.
        example: SHA-256 of its numbers in float32.
        label: its class, kept in the whole ball.
        enemy: the nearest stored point of another class.
        distance: to it, in the document's norm and input units.
    """

    index: int
    example: str
    label: int
    enemy: int
    distance: float


class Memory(Document):
    """That a memorizer is right in the ball of each example.

    Attributes:
        memorizer: kind of it.
        norm: of the balls.
        radius: in input units, at most the memorizer's and below half the separation.
        separation: lambda.
        pair: of stored points that attains it.
        claims: one per example.
    """

    kind: str = "memory"
    memorizer: str
    norm: str
    radius: float
    separation: float
    pair: tuple[int, int]
    claims: tuple[MemoryClaim, ...]


def certificate(
    memorizer: Memorizer, source: str, data: Dataset, split: str, index: list[int], radius: float
) -> Memory:
    """The claims about some of the stored examples.

    Args:
        memorizer: whose promise it is.
        source: its folder.
        data: that hold the examples, among them those stored.
        split: of the data.
        index: of the examples in the data.
        radius: in input units.
    """
    x, y = data.x[index], data.y[index]
    distance, place = class_distances(memorizer.points, memorizer.labels, memorizer.classes, x, memorizer.norm)
    rows = np.arange(len(index))
    distance[rows, y.numpy()] = np.inf
    other = distance.argmin(1)
    floats = data.batch(index)[0]
    claims = tuple(
        MemoryClaim(
            index=at, example=example_digest(floats[i]), label=int(y[i]), enemy=int(place[i, other[i]]),
            distance=float(distance[i, other[i]]),
        )
        for i, at in enumerate(index)
    )  # fmt: skip
    apart = memorizer.separation
    model = ModelSource(source=source, parameters=memorizer.num_parameters, weights=fingerprint(Answers(memorizer)))
    where = DataSource(source=data.name, split=split, size=len(data))
    return Memory(
        **head(model, where), memorizer=memorizer.kind, norm=memorizer.norm, radius=radius, separation=apart.value,
        pair=apart.pair, claims=claims,
    )  # fmt: skip


def judge(document: Memory, claim: MemoryClaim, model: nn.Module, x: Tensor, y: Tensor, seconds: float) -> Judgement:
    """See the module. Refuted by a wrong number, or by a point of the ball where the answer is another."""
    if not isinstance(model, Answers):
        return Judgement(claim.index, "refuted", "", "the network is no memorizer")
    memorizer = model.memorizer
    fault = _fault(document, memorizer) or _misplaced(document, claim, memorizer, x)
    if fault:
        return Judgement(claim.index, "refuted", "distances", fault)
    place = torch.from_numpy(in_units(memorizer.points[claim.enemy])).view_as(x)
    moved = x.double() + (place - x.double()).clamp(-document.radius, document.radius)
    for words, point in (("at the example", x), ("in the ball, towards the enemy,", moved)):
        if document.norm == "linf" and int(memorizer.predict(point)[0]) != claim.label:
            return Judgement(claim.index, "refuted", "evaluation", f"{words} the answer is another")
    words = f"the nearest of another class is {claim.distance:g} away, the radius is {document.radius:g}"
    if document.norm == "linf" and memorizer.num_dense <= SMALL:
        bound = _least_lead(memorizer, x, claim.label, document.radius, seconds)
        if bound > 0:
            return Judgement(claim.index, "confirmed", "milp", f"{words}; lead at least {bound:g} through the network")
    return Judgement(claim.index, "confirmed", "distances", words)


def _fault(document: Memory, memorizer: Memorizer) -> str:
    """What is wrong with the certificate as a whole, or nothing."""
    bound, (i, j) = _lambda(memorizer), document.pair
    count = len(memorizer.points)
    limit = memorizer.radius
    if document.memorizer != memorizer.kind or document.norm != memorizer.norm:
        return f"the memorizer is {memorizer.kind} in {memorizer.norm}"
    if abs(document.separation - bound) > 1e-12 * bound or abs(memorizer.separation.value - bound) > 1e-12 * bound:
        return f"the separation is {bound:g}, claimed {document.separation:g}"
    if not (0 <= i < count and 0 <= j < count) or memorizer.labels[i] == memorizer.labels[j]:
        return f"{document.pair} is no pair of stored points of two classes"
    if abs(_distances(memorizer, in_units(memorizer.points[i]))[j] - bound) > 1e-12 * bound:
        return f"the pair {document.pair} does not attain the separation"
    if not (0 <= document.radius <= limit and document.radius < bound / 2):
        return f"the radius {document.radius:g} is beyond what the memorizer promises, {limit:g}"
    return ""


def _misplaced(document: Memory, claim: MemoryClaim, memorizer: Memorizer, x: Tensor) -> str:
    """What is wrong with the distances of one claim, or nothing."""
    distance = _distances(memorizer, x.double().flatten().numpy())
    mine = memorizer.labels == claim.label
    if not mine.any() or distance[mine].min() > _CLOSE * max(1.0, _size(memorizer, document.norm)):
        return f"the example is not stored with the label {claim.label}"
    if not 0 <= claim.enemy < len(mine) or mine[claim.enemy]:
        return f"{claim.enemy} is no stored point of another class"
    nearest = distance[~mine].min()
    slack = _CLOSE * max(1.0, _size(memorizer, document.norm))
    if max(abs(nearest - claim.distance), abs(distance[claim.enemy] - claim.distance)) > slack:
        return f"the nearest stored point of another class is {nearest:g} away, claimed {claim.distance:g}"
    return ""


def _size(memorizer: Memorizer, norm: str) -> float:
    """The norm of the vector of ones: how roundings of single coordinates add up."""
    return {"linf": 1.0, "l2": memorizer.points.shape[1] ** 0.5, "l1": float(memorizer.points.shape[1])}[norm]


def _distances(memorizer: Memorizer, x: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " N"]:
    """||x - x_k|| for all k, by definition."""
    order: Any = {"linf": np.inf, "l2": 2, "l1": 1}[memorizer.norm]
    parts = [memorizer.points[at : at + _BLOCK] for at in range(0, len(memorizer.points), _BLOCK)]
    return np.concatenate([np.linalg.norm(in_units(part) - x, order, axis=1) for part in parts])


@lru_cache(maxsize=1)
def _lambda(memorizer: Memorizer) -> float:
    return apart(memorizer.points, memorizer.labels, memorizer.norm).value


def _least_lead(memorizer: Memorizer, x: Tensor, label: int, radius: float, seconds: float) -> float:
    """A lower bound over the ball of 1/4 - |F - code| (optimal) or of the lead (lipschitz), by integer programming."""
    low, high = x[0].double() - radius, x[0].double() + radius
    network: Any = memorizer.network()
    built = program(graph_of(network.dense(), tuple(x.shape[1:])), low, high)
    if isinstance(memorizer, OptimalMemorizer):
        rows, offset = np.array([[1.0], [-1.0]]), label + 1
        offsets = [NOISE - offset, NOISE + offset]
    else:
        rows = np.delete(-np.eye(memorizer.classes), label, 0)
        rows[:, label] = 1.0
        offsets = [0.0] * len(rows)
    each = seconds / len(rows)
    return min(
        built.minimum(row, shift, each).bound - float(np.abs(row) @ built.error)
        for row, shift in zip(rows, offsets, strict=True)
    )


KINDS["memory"] = Kind(Memory, judge)
