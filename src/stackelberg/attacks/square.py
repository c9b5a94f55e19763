"""Square: random search with square windows; it needs scores only, no gradient (Andriushchenko et al. 2020).

A window of an image is overwritten with a new pattern of full size; the change is kept where it raises the margin.
Where this breaks what the gradient attacks could not, the gradients are masked.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stackelberg.attacks.attack import Attack
from stackelberg.attacks.hunt import Hunt
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries, those after which the windows' area is halved."""
SURPRISE = 0.1
"""Of the clean margin: by so much a search without gradients must come further than the attacks with them, before
they are not believed."""


@dataclass(frozen=True)
class Square(Attack):
    """Random search; every example stops at its own first success.

    Attributes:
        queries: at most, per example and restart, the start included.
        restarts: independent random starts.
        area: of the first windows, as a share of the image.
        start: "stripes" (l2: tiles) as published, or "worst": the worst point so far, with small windows at once.
        at_once: proposals tried from the same point, of which the best is taken; 1 as published. Each is a query;
            several together are quicker, and cost little strength where most are refused anyway.
        gates: pairs (queries, share): after so many queries an example is given up whose margin is still larger than
            this share of its clean one. An example is never given up that has shown a zero gradient, or on which this
            search has already come further, by a tenth of the clean margin, than the attacks before it: there the
            gradients are not to be believed.
    """

    ball: Ball
    queries: int = 5000
    restarts: int = 1
    area: float = 0.8
    start: Literal["stripes", "worst"] = "stripes"
    at_once: int = 1
    gates: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise StackelbergError(f"at_once must be at least 1, got {self.at_once}")
        if self.ball.norm not in ("linf", "l2"):
            raise StackelbergError(
                f"square is defined for linf and l2, got norm {self.ball.norm!r}; use attacks.PGD or attacks.APGD"
            )
        if self.queries < 1 or self.restarts < 1 or not 0 < self.area <= 1:
            raise StackelbergError(
                f"queries and restarts must be at least 1 and area in (0, 1], got {self.queries}, {self.restarts} and"
                f" {self.area}"
            )

    @property
    def name(self) -> str:
        """For example square-5000."""
        times = f"x{self.restarts}" if self.restarts > 1 else ""
        return f"square-{self.queries}{times}" + ("-worst" if self.start == "worst" else "")

    def search(self, hunt: Hunt) -> None:
        for restart in range(self.restarts):
            index = hunt.standing(self.within)
            if not len(index):
                return
            keys = chance.fold(hunt.keys[index], restart)
            self._descend(hunt, index, keys)

    def _descend(self, hunt: Hunt, index: Int64[Tensor, " b"], keys: Int64[Tensor, " b"]) -> None:
        x = hunt.x[index]
        sheet = _sheet(x)
        begin, propose = (_stripes, _window) if self.ball.norm == "linf" else (_tiles, _transfer)
        worst, gates = self.start == "worst", dict(self.gates)
        before = hunt.value.clone()
        moved = hunt.best[index] if worst else self._back(begin(sheet, keys, self.ball), x)
        value = hunt.score(hunt.look(index, moved), index)
        for query in range(1, self.queries, self.at_once):
            left = ~hunt.broken[index]
            for gate in gates.keys() & set(range(query, query + self.at_once)):
                further = value - before[index] > SURPRISE * hunt.opening[index].abs()
                unbelieved = hunt.flat[index] if worst else hunt.flat[index] | further
                left &= (value >= gates[gate] * hunt.opening[index]) | unbelieved
            if not left.all():
                index, keys, x, sheet, moved, value = (t[left] for t in (index, keys, x, sheet, moved, value))
            if not len(index):
                return
            side = _side(sheet.shape[2:], self.area * _shrink(query, self.queries, worst))
            numbers = torch.arange(query, query + self.at_once, device=x.device)
            fresh = chance.fold(keys.repeat(self.at_once), numbers.repeat_interleave(len(keys)))
            several = [t.repeat(self.at_once, 1, 1, 1) for t in (moved.view_as(sheet), sheet)]
            tried = self._back(propose(*several, fresh, side, self.ball), x)
            moved, value = self._best(hunt, index, tried, moved, value)

    def _best(self, hunt: Hunt, index: Tensor, tried: Tensor, moved: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The best of the proposals [at_once * b] for each example, or where it was; and its margin."""
        logits = hunt.oracle.logits(tried)
        scores = hunt.score(logits, index.repeat(self.at_once))
        logits, scores = (t.unflatten(0, (self.at_once, -1)) for t in (logits, scores))
        new, which = scores.max(0)
        place = torch.arange(len(index), device=index.device)
        tried = tried.unflatten(0, (self.at_once, -1))[which, place]
        hunt.keep(index, tried, logits[which, place])
        better = new > value
        shape = (-1, *[1] * (moved.dim() - 1))
        return torch.where(better.view(shape), tried, moved), torch.where(better, new, value)

    def _back(self, moved: Tensor, x: Tensor) -> Tensor:
        """Into the box (which only shortens the move), and to the input's own shape."""
        return moved.clamp(self.ball.low, self.ball.high).view(-1, *x.shape[1:])


def _sheet(x: Float[Tensor, " B *shape"]) -> Float[Tensor, "B C H W"]:
    """Images as they are; anything else as one row of numbers."""
    return x if x.dim() == 4 else x.reshape(len(x), 1, 1, -1)


def _shrink(query: int, queries: int, worst: bool = False) -> float:
    """How much of the first windows' area is left after `query` of `queries`: halved along the schedule for 10,000.

    From the worst point so far the schedule begins at its 600th query, where the windows are a sixteenth.
    """
    first = 600 if worst else 0
    place = first + query * (10_000 - first) / queries if queries < 10_000 else first + query
    return 2.0 ** -sum(place > mark for mark in HALVINGS)


def _side(size: tuple[int, ...], share: float) -> tuple[int, int]:
    """Height and width of a window that covers `share` of a sheet; on a row of numbers a stretch of it."""
    height, width = size
    if height == 1:
        return 1, min(max(1, round(share * width)), max(1, width - 1))
    side = round(math.sqrt(share * height * width))
    return min(max(1, side), height - 1), min(max(1, side), width - 1)


def _signs(values: Tensor) -> Tensor:
    return torch.where(values < 0.5, -1.0, 1.0)


def _corner(sheet: Tensor, values: Tensor, side: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A place [B] x [B] for a window of `side`, from two random numbers each, [B, 2]."""
    height, width = sheet.shape[2:]
    return chance.below(values[:, 0], height - side[0] + 1), chance.below(values[:, 1], width - side[1] + 1)


def _stripes(sheet: Tensor, keys: Tensor, ball: Ball) -> Tensor:
    """linf start: every column of every channel moved by +radius or -radius."""
    return sheet + ball.radius * _signs(chance.uniform(keys, (sheet.shape[1], 1, sheet.shape[3])))


def _window(moved: Tensor, sheet: Tensor, keys: Tensor, side: tuple[int, int], ball: Ball) -> Tensor:
    """linf proposal: one window, in each channel moved by +radius or -radius from the clean image."""
    height, width = sheet.shape[2:]
    numbers = chance.uniforms(keys, 3, sheet.shape[1])
    top, left = _corner(sheet, numbers[:, :2, 0], side)
    rows = torch.arange(height, device=sheet.device) - top[:, None]
    columns = torch.arange(width, device=sheet.device) - left[:, None]
    within = ((rows >= 0) & (rows < side[0]))[:, :, None] & ((columns >= 0) & (columns < side[1]))[:, None, :]
    signs = _signs(numbers[:, 2, :, None, None])
    return torch.where(within[:, None], sheet + ball.radius * signs, moved)


def _pyramid(height: int, width: int, device: torch.device) -> Tensor:
    """A pattern [height, width] that falls from its middle: sum over k <= M(r, s) of 1 / (n + 1 - k)^2 (eq. 2)."""
    half = max(height, width) // 2
    rows = (torch.arange(height, device=device) - height // 2).abs()
    columns = (torch.arange(width, device=device) - width // 2).abs()
    depth = (half - torch.maximum(rows[:, None], columns[None, :])).clamp(min=0)
    weights = 1.0 / (half + 1 - torch.arange(half + 1, device=device, dtype=torch.float32)) ** 2
    return weights.cumsum(0)[depth]


def _pattern(side: tuple[int, int], device: torch.device) -> Tensor:
    """Two pyramids of opposite sign beside each other, unit l2 norm, [height, width]."""
    height, width = side
    first = width // 2
    if first == 0:
        pattern = torch.ones(side, device=device)
    else:
        pattern = torch.cat([_pyramid(height, first, device), -_pyramid(height, width - first, device)], 1)
    return pattern / pattern.norm()


def _tiles(sheet: Tensor, keys: Tensor, ball: Ball) -> Tensor:
    """l2 start: the image covered by patterns of random signs, a fifth of its side each, together of norm `radius`."""
    channels, height, width = sheet.shape[1:]
    side = (max(1, height // 5), max(1, width // 5))
    rows, columns = math.ceil(height / side[0]), math.ceil(width / side[1])
    signs = _signs(chance.uniform(keys, (channels, rows, columns)))
    tiles = signs[..., :, None, :, None] * _pattern(side, sheet.device)[:, None, :]
    delta = tiles.reshape(len(sheet), channels, rows * side[0], columns * side[1])[..., :height, :width]
    return sheet + ball.radius * delta / delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _places(sheet: Tensor, corner: tuple[Tensor, Tensor], side: tuple[int, int]) -> Tensor:
    """Flat positions of a window in its sheet, [B, 1, height * width of the window]."""
    rows = corner[0][:, None] + torch.arange(side[0], device=sheet.device)
    columns = corner[1][:, None] + torch.arange(side[1], device=sheet.device)
    return (rows[:, :, None] * sheet.shape[3] + columns[:, None, :]).flatten(1)[:, None]


def _transfer(moved: Tensor, sheet: Tensor, keys: Tensor, side: tuple[int, int], ball: Ball) -> Tensor:
    """l2 proposal (algorithm 3): one window gives its norm, and what the budget has left, to a pattern in another."""
    channels = sheet.shape[1]
    numbers = chance.uniforms(keys, 6, channels)
    delta = (moved - sheet).flatten(2)
    first = _places(sheet, _corner(sheet, numbers[:, :2, 0], side), side).expand(-1, channels, -1)
    second = _places(sheet, _corner(sheet, numbers[:, 2:4, 0], side), side).expand(-1, channels, -1)
    unused = (ball.radius**2 - (delta**2).sum((1, 2))).clamp(min=0)
    emptied = delta.scatter(2, first, 0.0).scatter(2, second, 0.0)
    taken = (delta**2).sum(2) - (emptied**2).sum(2)
    available = (taken.clamp(min=0) + unused[:, None] / channels).sqrt()
    pattern = _pattern(side, sheet.device)
    if side[0] == side[1]:
        upright = numbers[:, 4, 0] < 0.5
        pattern = torch.where(upright[:, None, None], pattern, pattern.T)
    pattern = pattern.reshape(-1, 1, side[0] * side[1]) * _signs(numbers[:, 5, :, None])
    old = delta.gather(2, first)
    mixed = pattern + old / old.norm(dim=2, keepdim=True).clamp(min=1e-12)
    length = mixed.norm(dim=2, keepdim=True)
    mixed = torch.where(length > 1e-3, mixed / length.clamp(min=1e-3), pattern)  # where the two cancel, the new one
    new = delta.scatter(2, second, 0.0).scatter(2, first, mixed * available[..., None])
    return sheet + new.view_as(sheet)
