"""HopSkipJump: search by decisions alone; neither gradients nor scores are asked (Chen, Jordan, Wainwright 2020).

From a point that is already wrong it walks along the boundary towards the example. Each round estimates the boundary's
normal from the decisions at random points around, steps along it, and halves its way back to the boundary.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.attack import Attack, check_inputs, check_labels
from stackelberg.attacks.hunt import Hunt
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance

_NUMBERS = 1 << 23  # of random points held at a time
_GRAINS = (1, 2, 4, 0)  # sides of the patches of the first points; 0: every pixel its own


@dataclass(frozen=True)
class HopSkipJump(Attack):
    """Decision-based search in linf or l2, all examples at once; each stops when it has come into the ball.

    Attributes:
        queries: at most, per example.
        first: random points of the first round's normal; round t takes first * sqrt(t) (section IV-C).
        pool: inputs [M, *shape] that may serve as wrong points to begin with; useful towards a target, which random
            images seldom show. Random images are always tried.
        tries: random images tried for a first wrong point, per example.
    """

    ball: Ball
    queries: int = 5000
    first: int = 100
    pool: Tensor | None = field(default=None, compare=False, repr=False)
    tries: int = 40

    def __post_init__(self) -> None:
        if self.ball.norm not in ("linf", "l2"):
            raise StackelbergError(
                f"hopskipjump is defined for linf and l2, got norm {self.ball.norm!r}; pass one of these"
            )
        if min(self.queries, self.first, self.tries) < 1:
            raise StackelbergError(
                f"queries, first and tries must be at least 1, got {self.queries}, {self.first} and {self.tries}"
            )

    @property
    def name(self) -> str:
        """For example hopskipjump-5000."""
        return f"hopskipjump-{self.queries}"

    def search(self, hunt: Hunt) -> None:
        _Walk(self, hunt, hunt.standing(self.within), self.ball.radius).go()

    def closest(
        self,
        model: nn.Module,
        x: Float[Tensor, " B *shape"],
        y: Int64[Tensor, " N"],
        target: Int64[Tensor, " N"] | None = None,
    ) -> Float[Tensor, " B *shape"]:
        """The nearest wrong point found for each example, however far; x itself where it is wrong, NaN where none was.

        The ball gives the norm and the box; its radius plays no part.
        """
        with untouched(model):
            check_inputs(x, self.ball)
            oracle = Oracle(model, self.precision)
            check_labels(oracle, x, y, target)
            hunt = Hunt(oracle, self.ball, x, y, chance.example_keys(x, self.seed), target)
            hunt.open()
            index = hunt.standing()
            found = x.clone()
            found[index] = torch.nan
            walk = _Walk(self, hunt, index, -1.0)
            walk.go()
            found[walk.index] = walk.point
            return found


class _Walk:
    """The examples that have a wrong point, and where they are.

    Attributes:
        index: of the examples in the hunt [b].
        point: a wrong point of each, on its side of the boundary [b, *shape].
        spent: queries of the example that was asked most.
    """

    def __init__(self, attack: HopSkipJump, hunt: Hunt, index: Tensor, reach: float) -> None:
        self.attack, self.hunt, self.ball, self.reach = attack, hunt, attack.ball, reach
        self.index, self.spent = index, 0
        self.x, self.keys = hunt.x[index], chance.fold(hunt.keys[index], 0)
        self.point = self.x.clone()
        size = self.x[0].numel() if len(index) else 1
        self.euclidean = self.ball.norm == "l2"
        # how finely the way back to the boundary is halved (section V-A)
        self.fine = size**-1.5 if self.euclidean else float(size) ** -2
        self.size = size

    def go(self) -> None:
        """Rounds until all have come within reach or the queries are spent."""
        if not len(self.index):
            return
        self._begin()
        self.point = self._back(self.point)
        self._settle()
        for number in range(1, self.attack.queries):
            draws = min(int(self.attack.first * math.sqrt(number)), self.attack.queries - self.spent - self._halvings())
            if not len(self.index) or draws < self.attack.first // 4 + 1:
                return
            self._round(number, draws)
            self._settle()

    def _wrong(self, points: Tensor, which: Tensor | None = None) -> Bool[Tensor, " b"]:
        """Whether the model decides for the adversary at one point of each example (of those in `which`)."""
        index = self.index if which is None else self.index[which]
        self.spent += 1
        return self.hunt.score(self.hunt.oracle.logits(points), index) > 0

    def _begin(self) -> None:
        """A wrong point for each: from the pool, else random patches; examples without one are left."""
        missing = torch.ones(len(self.index), dtype=torch.bool, device=self.x.device)
        pool = self.attack.pool
        candidates = 0 if pool is None else len(pool)
        for place in range(candidates + self.attack.tries):
            which = missing.nonzero()[:, 0]
            if not len(which) or self.spent >= self.attack.queries:
                break
            if pool is not None and place < candidates:
                tried = pool[place].to(self.x).expand(len(which), *pool.shape[1:])
            else:
                tried = self._patches(which, place - candidates)
            wrong = self._wrong(tried, which)
            self.point[which[wrong]] = tried[wrong]
            missing[which[wrong]] = False
        self._keep(~missing)

    def _patches(self, which: Tensor, number: int) -> Tensor:
        """A random image of coarse or fine patches for each; anything but images in single numbers."""
        shape, grain = tuple(self.x.shape[1:]), _GRAINS[number % len(_GRAINS)]
        keys = chance.fold(self.keys[which], number)
        if grain and len(shape) == 3:
            rough = chance.uniform(keys, (shape[0], grain, grain))
            noise = F.interpolate(rough, size=shape[1:], mode="nearest")
        else:
            noise = chance.uniform(keys, shape)
        return self.ball.low + (self.ball.high - self.ball.low) * noise.to(self.x.dtype)

    def _halvings(self) -> int:
        return math.ceil(-math.log2(self.fine))

    def _back(self, point: Tensor) -> Tensor:
        """The wrong point nearest to the example on the way to it: a line in l2, shrinking boxes in linf."""
        whole = self.ball.distance(point, self.x)
        low, high = torch.zeros_like(whole), torch.ones_like(whole)
        best = point
        for _ in range(self._halvings()):
            middle = (low + high) / 2
            tried = self._towards(point, middle, whole)
            wrong = self._wrong(tried)
            high, low = torch.where(wrong, middle, high), torch.where(wrong, low, middle)
            best = torch.where(self._wide(wrong), tried, best)
        return best

    def _towards(self, point: Tensor, share: Tensor, whole: Tensor) -> Tensor:
        """Where `share` of the distance `whole` is left."""
        if self.euclidean:
            return self.x + self._wide(share) * (point - self.x)
        near = self._wide(share * whole)
        return torch.minimum(torch.maximum(point, self.x - near), self.x + near)

    def _wide(self, numbers: Tensor) -> Tensor:
        return numbers.view(-1, *[1] * (self.x.dim() - 1))

    def _round(self, number: int, draws: int) -> None:
        """One normal, one step along it, and back to the boundary; a round that gains nothing changes nothing."""
        distance = self.ball.distance(self.point, self.x)
        spread = (math.sqrt(self.size) if self.euclidean else self.size) * self.fine * distance
        if number == 1:
            spread = torch.full_like(distance, 0.1 * (self.ball.high - self.ball.low))
        normal = self._normal(number, draws, spread.clamp(min=1e-6))
        moved = self._back(self._stepped(normal, distance / math.sqrt(number)))
        nearer = self.ball.distance(moved, self.x) < distance
        self.point = torch.where(self._wide(nearer), moved, self.point)

    def _normal(self, number: int, draws: int, spread: Tensor) -> Tensor:
        """The boundary's normal from decisions phi = +-1 at `draws` points: mean of (phi - mean phi) u (eq. 16)."""
        keys, shape = chance.fold(self.keys, number), tuple(self.x.shape[1:])
        count = max(1, _NUMBERS // max(1, self.point.numel()))
        total, mixed = torch.zeros_like(self.point), torch.zeros_like(self.point)
        votes = torch.zeros(len(self.index), dtype=self.point.dtype, device=self.point.device)
        index, queries = self.index, self.spent
        for stream, start in enumerate(range(0, draws, count)):
            many = min(count, draws - start)
            draw = chance.normal if self.euclidean else chance.uniform
            noise = draw(keys, (many, *shape), 2 * stream).to(self.point.dtype)
            noise = noise if self.euclidean else 2 * noise - 1
            length = noise.flatten(2).norm(dim=2).view(len(keys), many, *[1] * len(shape))
            around = self.point[:, None] + spread.view(-1, 1, *[1] * len(shape)) * noise / length
            around = around.clamp(self.ball.low, self.ball.high)
            logits = self.hunt.oracle.logits(around.flatten(0, 1))
            phi = torch.where(self.hunt.score(logits, index.repeat_interleave(many)) > 0, 1.0, -1.0)
            phi = phi.view(-1, many).to(self.point.dtype)
            moves = around - self.point[:, None]
            total += moves.sum(1)
            mixed += (phi.view(-1, many, *[1] * len(shape)) * moves).sum(1)
            votes += phi.sum(1)
        self.spent = queries + draws
        mean = votes / draws
        normal = torch.where(self._wide(mean.abs() < 1), mixed - self._wide(mean) * total, mixed)
        if self.euclidean:
            return normal / self._wide(normal.flatten(1).norm(dim=1).clamp(min=1e-12))
        return normal.sign()

    def _stepped(self, normal: Tensor, length: Tensor) -> Tensor:
        """As far along the normal as the point stays wrong, the length halved until it does."""
        moved, left = self.point.clone(), torch.arange(len(self.index), device=self.x.device)
        for _ in range(12):
            if not len(left):
                break
            tried = self.point[left] + length[left].view(-1, *[1] * (self.x.dim() - 1)) * normal[left]
            tried = tried.clamp(self.ball.low, self.ball.high)
            wrong = self._wrong(tried, left)
            moved[left[wrong]] = tried[wrong]
            length = length / 2
            left = left[~wrong]
        return moved

    def _settle(self) -> None:
        """Show the hunt what has come into the ball; those are done."""
        if self.reach < 0:
            return
        inside = self.ball.contains(self.point, self.x).nonzero()[:, 0]
        if len(inside):
            self.hunt.look(self.index[inside], self.point[inside])
            self._keep(~self.hunt.broken[self.index])

    def _keep(self, left: Tensor) -> None:
        self.index, self.x, self.keys, self.point = (t[left] for t in (self.index, self.x, self.keys, self.point))
