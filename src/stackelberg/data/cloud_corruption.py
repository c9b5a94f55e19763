"""What happens to clouds on their way from a scanner?  Seven corruptions at five levels, in the style of ModelNet-C.

After Ren, Pan and Liu 2022, "Benchmarking and analyzing point cloud classification under corruptions"; the strengths
are those of that benchmark as far as known, counts as shares of the points, so that clouds of any size can be asked.
Each cloud's noise is its own, from its content, the seed, the corruption and the level.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import chance

LEVELS = 5
CLUSTERS = 8
"""A local corruption has 1 to 8 places."""


def _jitter(x: Tensor, level: int, keys: Tensor) -> Tensor:
    """Normal noise of deviation 0.01 to 0.05 on each coordinate."""
    return x + 0.01 * level * chance.normal(keys, tuple(x.shape[1:])).to(x)


def _scale(x: Tensor, level: int, keys: Tensor) -> Tensor:
    """Each axis by a factor in [1 / s, s], s = 1.6 to 2; the cloud is then put into the unit ball again."""
    s = 1.5 + 0.1 * level
    factor = 1 / s + (s - 1 / s) * chance.uniform(keys, (1, 3)).to(x)
    return _normalised(x * factor)


def _rotate(x: Tensor, level: int, keys: Tensor) -> Tensor:
    """About all three axes, each by up to 6 to 30 degrees."""
    angle = math.pi / 30 * level * (2 * chance.uniform(keys, (3,)).to(x) - 1)
    return x @ rotation(angle)


def rotation(angle: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    """Turns about x, y and z in this order, by angles in radians."""
    cos, sin = angle.cos(), angle.sin()
    whole = torch.eye(3, dtype=angle.dtype, device=angle.device).expand(len(angle), 3, 3)
    for axis in range(3):
        a, b = (other for other in range(3) if other != axis)
        turn = torch.eye(3, dtype=angle.dtype, device=angle.device).repeat(len(angle), 1, 1)
        turn[:, a, a] = turn[:, b, b] = cos[:, axis]
        turn[:, a, b], turn[:, b, a] = -sin[:, axis], sin[:, axis]
        whole = whole @ turn
    return whole


def _drop_global(x: Tensor, level: int, keys: Tensor) -> Tensor:
    """A share of 0.25 to 0.75 of the points vanishes, wherever they are."""
    stay = x.shape[1] - round((0.125 + 0.125 * level) * x.shape[1])
    return _rows(x, chance.uniform(keys, (x.shape[1],)).topk(stay, dim=1).indices.sort(1).values)


def _drop_local(x: Tensor, level: int, keys: Tensor) -> Tensor:
    """A share of 100 / 1024 to 500 / 1024 of the points vanishes around 1 to 8 of them."""
    count = round(100 * level / 1024 * x.shape[1])
    gone = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    sizes = _shared_out(count, keys)
    for place in range(CLUSTERS):
        # a random point that is still there, then those nearest to it
        draw = chance.uniform(keys, (x.shape[1],), 10 + place).masked_fill(gone, -1)
        middle = _rows(x, draw.argmax(1, keepdim=True))
        apart = (x - middle).square().sum(2).masked_fill(gone, torch.inf)
        rank = apart.argsort(1).argsort(1)
        gone |= rank < sizes[:, place, None]
    stay = gone.to(torch.uint8).argsort(dim=1, stable=True)[:, : x.shape[1] - count]
    return _rows(x, stay)


def _add_global(x: Tensor, level: int, keys: Tensor) -> Tensor:
    """10 to 50 points for every 1024 appear anywhere in the unit ball."""
    count = max(1, round(10 * level / 1024 * x.shape[1]))
    direction = chance.normal(keys, (count, 3)).to(x)
    depth = chance.uniform(keys, (count, 1), 1).to(x) ** (1 / 3)
    return torch.cat([x, direction / direction.norm(dim=2, keepdim=True) * depth], 1)


def _add_local(x: Tensor, level: int, keys: Tensor) -> Tensor:
    """100 to 500 points for every 1024 appear around 1 to 8 of the cloud's, at a deviation of 0.075 to 0.125."""
    count = round(100 * level / 1024 * x.shape[1])
    many = 1 + chance.integers(keys, CLUSTERS, (1,), 3)
    own = (chance.uniform(keys, (count,), 4) * many).long()  # the cluster of each new point
    middles = _rows(x, chance.uniform(keys, (x.shape[1],), 5).topk(min(CLUSTERS, x.shape[1]), dim=1).indices)
    deviation = 0.075 + 0.05 * chance.uniform(keys, (CLUSTERS,), 6).to(x)
    new = _rows(middles, own) + deviation.gather(1, own)[:, :, None] * chance.normal(keys, (count, 3), 7).to(x)
    new = new / new.norm(dim=2, keepdim=True).clamp(min=1)  # no farther than the unit sphere
    return torch.cat([x, new], 1)


def _rows(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(1, places[:, :, None].expand(-1, -1, 3))


def _normalised(x: Tensor) -> Tensor:
    """Centred, and the farthest point at distance 1."""
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=2).amax(1)[:, None, None].clamp(min=1e-12)


def _shared_out(count: int, keys: Tensor) -> Tensor:
    """`count` shared out at random among 1 to 8 clusters, [B, 8]; the rest get 0."""
    many = 1 + chance.integers(keys, CLUSTERS, (1,), 1)
    weight = chance.uniform(keys, (CLUSTERS,), 2) * (torch.arange(CLUSTERS, device=keys.device) < many)
    edge = (weight.cumsum(1) / weight.sum(1, keepdim=True) * count).round().long()
    edge[:, -1] = count
    return edge.diff(dim=1, prepend=torch.zeros_like(edge[:, :1]))


CORRUPTIONS: dict[str, Callable[[Tensor, int, Tensor], Tensor]] = {
    "scale": _scale,
    "jitter": _jitter,
    "rotate": _rotate,
    "drop-global": _drop_global,
    "drop-local": _drop_local,
    "add-global": _add_global,
    "add-local": _add_local,
}


def corrupted(x: Float[Tensor, "B P 3"], name: str, level: int, seed: int = 0) -> Float[Tensor, "B Q 3"]:
    """The clouds after a corruption; Q differs from P where points are dropped or added.

    Args:
        x: clouds in the unit ball around the origin.
        name: one of `CORRUPTIONS`.
        level: 1 to 5.
        seed: of the noise.

    Raises:
        StackelbergError: an unknown corruption or level.
    """
    if name not in CORRUPTIONS:
        raise unknown("corruption of clouds", name, CORRUPTIONS)
    if level not in range(1, LEVELS + 1):
        raise StackelbergError(f"level must be 1 to {LEVELS}, got {level}")
    keys = chance.fold(chance.example_keys(x, seed), 100 * list(CORRUPTIONS).index(name) + level)
    return CORRUPTIONS[name](x, level, keys)


def mean_corruption_error(errors: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]) -> float:
    """mCE = mean over corruptions c of sum_l error_{c, l} / sum_l baseline error_{c, l}; 1 for the baseline itself.

    Args:
        errors: by corruption the error rates at its levels.
        baseline: the same of the network that is compared with.

    Raises:
        StackelbergError: the corruptions differ, or the baseline makes no error under one.
    """
    if set(errors) != set(baseline):
        raise StackelbergError(f"both networks need the same corruptions, got {sorted(errors)} and {sorted(baseline)}")
    for name, rates in baseline.items():
        if not sum(rates) > 0:
            raise StackelbergError(f"the baseline makes no error under {name}, so nothing can be compared with it")
    return sum(sum(errors[name]) / sum(baseline[name]) for name in errors) / len(errors)
