"""Can a classifier escape adversarial examples?  For any but a constant one here are data on which it cannot.

Bastounis, Hansen and Vlacic (2021, "The mathematics of adversarial attacks in AI") prove that whatever network is
found, there are data on which it is accurate and unstable, though a stable network for the same data exists. Here the
data are built for a given classifier C, by bisection.

**Construction.** Let X = [low, high]^d, r > 0, and mu any law of pairs (a, b) in X x X with C(a) != C(b). Set lo = a,
hi = b, and while ||hi - lo|| > r replace by the midpoint m of lo and hi the end of its side: lo <- m if C(m) = C(a),
else hi <- m. D is the law of (x, y) = (lo, C(a)).

**Theorem.** (i) C is right on D with probability 1. (ii) With probability 1 there is x' in X with ||x' - x|| <= r and
C(x') != y: the last hi. (iii) It is found by k = max(0, ceil(log2(||a - b|| / r))) questions of C, at most
ceil(log2(diam X / r)), where diam X = high - low in linf and (high - low) sqrt(d) in l2. (iv) Of N draws let lambda be
the smallest distance of two with different labels. If lambda > 2 r, another network, the optimal memorizer of
`memorize`, is right on every ball of radius r around them: the data are not at fault.

*Proof.* C(lo) = C(a) != C(hi) holds at first, and every step keeps it; X is convex, so lo and hi stay inside; every
step halves ||hi - lo||. (iv) is the memorizer's own theorem. All of it holds for the points as computed, since C is
asked at each of them, up to midpoints that are no nearer than the rounding of the input allows.

For images mu is: a an image that C reads rightly, so y is its true label, and b another image, or an adversarial
example of a, which keeps x within the adversary's reach of a.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.attack import check_inputs, check_labels
from stackelberg.attacks.oracle import Oracle, untouched
from stackelberg.attacks.reading import classes_of
from stackelberg.errors import StackelbergError
from stackelberg.models import network
from stackelberg.threat import Ball, Rate, clopper_pearson

BATCH = 250


@dataclass(frozen=True)
class Inevitable:
    """A sample of the distribution D of one classifier, each example with its adversary.

    Attributes:
        ball: the norm and the radius r.
        start: where each bisection began: the images a.
        end: the images b, of which the classifier says another class.
        x: the examples of D.
        y: their labels, which the classifier gives.
        moved: x' of each, of another class.
        fell_to: that class.
        distance: ||x' - x|| in the ball's norm.
        halvings: questions that each bisection took.
        index: of the starts in the given batch; those that the classifier reads wrongly have none.
    """

    ball: Ball
    start: Float[Tensor, " N *shape"]
    end: Float[Tensor, " N *shape"]
    x: Float[Tensor, " N *shape"]
    y: Int64[Tensor, " N"]
    moved: Float[Tensor, " N *shape"]
    fell_to: Int64[Tensor, " N"]
    distance: Float[Tensor, " N"]
    halvings: Int64[Tensor, " N"]
    index: Int64[Tensor, " N"]

    def accuracy(self, model: nn.Module | Callable[..., Any]) -> Rate:
        """How often a classifier is right on the examples, asked anew."""
        return clopper_pearson(int((classes_of(model, self.x) == self.y).sum()), len(self.y))

    def adversaries(self, model: nn.Module | Callable[..., Any]) -> Rate:
        """How often x is read rightly and x', within r of it and in the box, is not, asked anew."""
        right = classes_of(model, self.x) == self.y
        wrong = classes_of(model, self.moved) != self.y
        inside = self.ball.contains(self.moved, self.x)
        return clopper_pearson(int((right & wrong & inside).sum()), len(self.y))


def inevitable(
    model: nn.Module | Callable[..., Any],
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " N"],
    ball: Ball,
    ends: Float[Tensor, " B *shape"] | None = None,
    *,
    seed: int = 0,
) -> Inevitable:
    """Examples on which `model` is right and has an adversary within `ball.radius` of every one (see the module).

    In l0 a midpoint takes half of the coordinates in which its ends differ from either.

    Args:
        model: a classifier of inputs in [low, high]; any callable will do (see `models.network`).
        x: the starts a; those that the model reads wrongly are left out.
        y: their labels.
        ball: norm and radius r > 0.
        ends: b of each start; where the model says the label there, the start is left out. If None each start gets a
            random one of the batch that the model takes for another class.
        seed: of the choice of ends.

    Raises:
        StackelbergError: the radius is 0 or too small for the rounding of the inputs, or no start has an end (a
            classifier that always says the same has no adversaries).
    """
    smallest = 1.0 if ball.norm == "l0" else 8 * torch.finfo(x.dtype).eps * max(abs(ball.low), abs(ball.high))
    smallest *= {"l2": x[0].numel() ** 0.5, "l1": x[0].numel()}.get(ball.norm, 1.0) if len(x) else 1.0
    if ball.radius < smallest:
        raise StackelbergError(
            f"radius must be at least {smallest:.3g} in {ball.norm} here (rounding), got {ball.radius:g}"
        )
    model = network(model, x)
    with untouched(model):
        check_inputs(x, ball)
        check_labels(Oracle(model, "float32", view="direct"), x, y)
        said = classes_of(model, x)
        if ends is None:
            other = _others(said, y, seed)
            ends = x[other.clamp(min=0)]
            said_there = torch.where(other >= 0, said[other.clamp(min=0)], y)
        else:
            check_inputs(ends, ball)
            said_there = classes_of(model, ends)
        index = ((said == y) & (said_there != y)).nonzero()[:, 0]
        if not len(index):
            raise StackelbergError(
                f"of {len(x)} examples none is read rightly and has an end of another class; pass more examples, or a"
                " model that does not give one class to all"
            )
        a, b, labels = x[index], ends[index], y[index]
        lo, hi, halvings = _bisect(model, a, b, labels, ball)
        fell_to = classes_of(model, hi)
    return Inevitable(ball, a, b, lo, labels, hi, fell_to, ball.distance(hi, lo), halvings, index)


def _others(said: Tensor, y: Tensor, seed: int) -> Tensor:
    """For each example a random other one of which the model says another class than y, -1 where there is none.

    It is the next fitting one in a random circle, so that hardly two are each other's ends: their bisections would end
    at the two sides of one spot of the boundary, and no network would be right on balls around both.
    """
    circle = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed)).to(y.device)
    rank = circle.argsort()
    found = torch.full_like(y, -1)
    for turn in range(1, len(y)):
        left = (found < 0).nonzero()[:, 0]
        if not len(left):
            break
        candidate = circle[(rank[left] + turn) % len(y)]
        fits = said[candidate] != y[left]
        found[left[fits]] = candidate[fits]
    return found


def _bisect(model: nn.Module, a: Tensor, b: Tensor, y: Tensor, ball: Ball) -> tuple[Tensor, Tensor, Tensor]:
    lo, hi, halvings = a.clone(), b.clone(), torch.zeros_like(y)
    while True:
        wide = (ball.distance(hi, lo) > ball.radius).nonzero()[:, 0]
        if not len(wide):
            return lo, hi, halvings
        middle = _middle(lo[wide], hi[wide], ball.norm)
        own = classes_of(model, middle) == y[wide]
        lo[wide[own]], hi[wide[~own]] = middle[own], middle[~own]
        halvings[wide] += 1


def _middle(lo: Tensor, hi: Tensor, norm: str) -> Tensor:
    """A point in the box that is half as far from either end as they are from each other."""
    if norm != "l0":
        middle = lo + (hi - lo) / 2
        return torch.maximum(torch.minimum(middle, torch.maximum(lo, hi)), torch.minimum(lo, hi))
    apart = (lo != hi).flatten(1)
    first = apart.cumsum(1) <= apart.sum(1, keepdim=True) // 2
    return torch.where(first.view_as(lo), hi, lo)
