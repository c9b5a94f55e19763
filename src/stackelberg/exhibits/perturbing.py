"""What happens to stored points that are moved?  Random and directed perturbations of a memorizer, counted."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64

from stackelberg.memorize import Memorizer, class_distances
from stackelberg.memorize.memorizer import in_units
from stackelberg.threat import Rate, clopper_pearson

BATCH = 4096


@dataclass(frozen=True)
class Tally:
    """Answers to moved points.

    Attributes:
        asked: how many.
        wrong: how many of them got another label, or none.
        seconds: spent on answering, wall time.
    """

    asked: int
    wrong: int
    seconds: float

    @property
    def rate(self) -> Rate:
        """The share that is wrong."""
        return clopper_pearson(self.wrong, self.asked)


@dataclass(frozen=True)
class Trial:
    """What a memorizer answers where it promises to be right, and just beyond.

    Attributes:
        share: of half the separation, by which points are moved.
        train: stored points unmoved.
        moved: at random.
        aimed: towards enemies.
        past: the closest pair, at 1.001 of half the separation.
    """

    share: float
    train: Tally
    moved: Tally
    aimed: Tally
    past: Tally

    @property
    def holds(self) -> bool:
        """Nothing is wrong within the bound, and something beyond it."""
        return not (self.train.wrong or self.moved.wrong or self.aimed.wrong) and self.past.wrong > 0

    def tallies(self) -> dict[str, Tally]:
        """By what is shown of them."""
        return {
            "training examples that are wrong": self.train,
            f"wrong of random perturbations at {self.share:g} lambda / 2": self.moved,
            f"wrong of directed perturbations at {self.share:g} lambda / 2": self.aimed,
            "wrong of the closest pair at 1.001 lambda / 2": self.past,
        }


def tried(
    memorizer: Memorizer, share: float, train: int, random: int, directed: int, seed: int, tell: Callable[[str], None]
) -> Trial:
    """`train` stored points as they are, `random` and `directed` perturbations, and the closest pair."""
    half = memorizer.separation.value / 2
    return Trial(
        share,
        unmoved(memorizer, train, seed),
        at_random(memorizer, random, share * half, seed, tell),
        towards_enemies(memorizer, directed, share * half, seed),
        past_the_bound(memorizer, 1.001 * half),
    )


def answered(memorizer: Memorizer, x: Float64[np.ndarray, "B d"], label: Int64[np.ndarray, " B"]) -> Tally:
    """How many are wrong."""
    begun = time.perf_counter()
    given = memorizer.predict(torch.from_numpy(x)).numpy()
    return Tally(len(x), int((given != label).sum()), time.perf_counter() - begun)


def total(parts: list[Tally]) -> Tally:
    """All of them together."""
    return Tally(sum(p.asked for p in parts), sum(p.wrong for p in parts), sum(p.seconds for p in parts))


def unmoved(memorizer: Memorizer, count: int, seed: int) -> Tally:
    """Stored points as they are, `count` different ones at random or all."""
    chosen = np.random.default_rng(seed).permutation(len(memorizer.points))[:count]
    return total(
        [
            answered(memorizer, in_units(memorizer.points[part]), memorizer.labels[part])
            for part in np.array_split(chosen, -(-len(chosen) // BATCH))
        ]
    )


def at_random(memorizer: Memorizer, count: int, radius: float, seed: int, tell: Callable[[str], None]) -> Tally:
    """Random stored points, moved within the linf ball: uniformly in it (even batches), to random corners (odd)."""
    rng, parts, done = np.random.default_rng(seed), [], 0
    while done < count:
        size = min(BATCH, count - done)
        chosen = rng.integers(0, len(memorizer.points), size)
        step = 2 * rng.random((size, memorizer.points.shape[1]), np.float32).astype(np.float64) - 1
        step = np.where(step < 0, -1.0, 1.0) if len(parts) % 2 else step
        parts.append(answered(memorizer, in_units(memorizer.points[chosen]) + radius * step, memorizer.labels[chosen]))
        done += size
        if len(parts) % 32 == 0:
            tell(f"{done} of {count} random perturbations, {sum(p.wrong for p in parts)} wrong")
    return total(parts)


def towards_enemies(memorizer: Memorizer, count: int, radius: float, seed: int) -> Tally:
    """Random stored points, moved as far as the ball lets them to the nearest of another class, and to that corner."""
    rng, parts = np.random.default_rng(seed), []
    for chosen in np.array_split(rng.integers(0, len(memorizer.points), count // 2), -(-count // (2 * BATCH))):
        x, label = in_units(memorizer.points[chosen]), memorizer.labels[chosen]
        distance, place = class_distances(memorizer.points, memorizer.labels, memorizer.classes, x)
        distance[np.arange(len(x)), label] = np.inf
        enemy = in_units(memorizer.points[place[np.arange(len(x)), distance.argmin(1)]])
        parts.append(answered(memorizer, x + np.clip(enemy - x, -radius, radius), label))
        parts.append(answered(memorizer, x + radius * np.sign(enemy - x), label))
    return total(parts)


def past_the_bound(memorizer: Memorizer, radius: float) -> Tally:
    """The two points of the separation, moved towards each other by `radius`."""
    pair = list(memorizer.separation.pair)
    x = in_units(memorizer.points[pair])
    return answered(memorizer, x + np.clip(x[::-1] - x, -radius, radius), memorizer.labels[pair])
